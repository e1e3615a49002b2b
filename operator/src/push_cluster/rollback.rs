//! Another template whose gateways do not serve is taken back: the Deployment gets the one from before again, and keeps it
//! until what is asked for would be another template than the refused one. Pure.
//!
//! What is remembered stands on the Deployment: the template that served last, and which one was refused and why. So the
//! next operator does not try it once more.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use serde_json::{Value, json};

use super::build::Objects;
use super::consent::{TEMPLATE, hash};
use super::observe::revision::is_rolling;
use super::observe::{Live, Observed};

pub mod fault;

/// The template of the gateways before the one of [`TEMPLATE`], in JSON: the last of which all of them were.
pub const BEFORE: &str = "pushcluster.io/template-before";
/// A [`Refused`] in JSON.
pub const REFUSED: &str = "pushcluster.io/refused-template";

/// A template that was taken back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// A hash of it.
    pub template: String,
    pub since: Timestamp,
    /// What its gateways did, in words for people.
    pub why: String,
}

/// Puts the template from before in the place of one that was refused, or that is refused now.
pub fn refuse(objects: &mut Objects, observed: &Observed, now: Timestamp) -> Option<Refused> {
    let live = observed.live.deployment.as_ref()?;
    let before = live.annotations().get(BEFORE)?;
    let before: PodTemplateSpec = serde_json::from_str(before).ok()?;
    let built = objects.deployment.spec.as_mut()?;
    let wanted = json!(built.template);
    let template = hash(&[&wanted]);
    let known = refused(live).filter(|refused| refused.template == template);
    let is_tried = || {
        let tried: Option<Value> = serde_json::from_str(live.annotations().get(TEMPLATE)?).ok();
        (tried? == wanted && before != built.template).then_some(())
    };
    let refused = known.or_else(|| {
        is_tried()?;
        Some(Refused {
            template,
            since: now,
            why: fault::verdict(observed, now)?,
        })
    })?;
    built.template = before;
    let annotations = objects
        .deployment
        .metadata
        .annotations
        .get_or_insert_default();
    annotations.insert(REFUSED.to_owned(), text(&refused));
    Some(refused)
}

/// Whether the template from before takes its place with what is built, and did not before. Nobody has to agree to that.
pub fn goes_back(built: &Deployment, live: &Deployment) -> bool {
    let refused = built.annotations().get(REFUSED);
    refused.is_some() && refused != live.annotations().get(REFUSED)
}

/// Writes down which template there is to go back to, when another one takes its place.
pub fn remember(objects: &mut Objects, live: &Live) {
    let Some(live) = &live.deployment else { return };
    let annotations = objects
        .deployment
        .metadata
        .annotations
        .get_or_insert_default();
    let (wanted, there) = (annotations.get(TEMPLATE), live.annotations().get(TEMPLATE));
    let replaced = wanted != there && !annotations.contains_key(REFUSED);
    let before = match replaced && all_are_of_it(live) {
        true => there,
        false => live.annotations().get(BEFORE),
    };
    if let Some(before) = before {
        annotations.insert(BEFORE.to_owned(), before.clone());
    }
}

/// A rollout that came to its end has shown that its template serves.
fn all_are_of_it(live: &Deployment) -> bool {
    let ready = live
        .status
        .as_ref()
        .and_then(|status| status.ready_replicas);
    !is_rolling(live) && ready > Some(0)
}

fn refused(live: &Deployment) -> Option<Refused> {
    let value: Value = serde_json::from_str(live.annotations().get(REFUSED)?).ok()?;
    Some(Refused {
        template: value["template"].as_str()?.to_owned(),
        since: value["since"].as_str()?.parse().ok()?,
        why: value["why"].as_str()?.to_owned(),
    })
}

fn text(refused: &Refused) -> String {
    let Refused {
        template,
        since,
        why,
    } = refused;
    json!({"template": template, "since": since.to_string(), "why": why}).to_string()
}

#[cfg(test)]
mod tests;
