//! What the API server wrote down about who changed what.

use std::collections::BTreeSet;
use std::io::{Read, Seek, SeekFrom};
use std::path::PathBuf;

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::cluster::AUDIT_LOG;

/// A finished request that changes something, in one namespace, by one account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    pub verb: String,
    pub resource: String,
    pub name: String,
    pub subresource: String,
    /// HTTP status; from 400 on, nothing was changed.
    pub code: u16,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Line {
    stage: String,
    verb: String,
    user: User,
    object_ref: Option<ObjectRef>,
    response_status: Option<ResponseStatus>,
    #[serde(default)]
    annotations: Annotations,
}

#[derive(Deserialize, Default)]
struct Annotations {
    /// `allow` or `forbid`. A 403 alone says less: creating something in a namespace that ends is one too.
    #[serde(default, rename = "authorization.k8s.io/decision")]
    decision: String,
}

#[derive(Deserialize)]
struct User {
    username: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
#[serde(rename_all = "camelCase")]
struct ObjectRef {
    api_group: String,
    namespace: String,
    resource: String,
    subresource: String,
    name: String,
}

#[derive(Deserialize)]
struct ResponseStatus {
    #[serde(default)]
    code: u16,
}

const CHANGING: &[&str] = &["create", "update", "patch", "delete", "deletecollection"];
/// Written all the time by anyone who leads or tells; they change nothing that a user owns.
const NOT_COUNTED: &[&str] = &["events", "leases"];

/// Account under which a test runs the operator of an earlier chart: what that chart does not allow says nothing of this one.
pub const PREVIOUS_CHART: &str = "previous-chart";

/// All writes so far of service accounts of `operator_namespace` to `namespace`, oldest first.
pub fn operator_writes(operator_namespace: &str, namespace: &str) -> Result<Vec<Write>> {
    Ok(writes_in(
        &read()?,
        &account_prefix(operator_namespace),
        namespace,
    ))
}

/// Where the log ends now.
#[derive(Debug, Clone, Copy)]
pub struct Mark(u64);

pub fn mark() -> Result<Mark> {
    let path = path()?;
    let log = std::fs::metadata(&path).with_context(|| format!("look at {}", path.display()))?;
    Ok(Mark(log.len()))
}

/// As [`operator_writes`], from there on: a log of megabytes is not read again for each look.
pub fn operator_writes_since(
    mark: Mark,
    operator_namespace: &str,
    namespace: &str,
) -> Result<Vec<Write>> {
    let path = path()?;
    let what = || format!("read {}", path.display());
    let mut log = std::fs::File::open(&path).with_context(what)?;
    log.seek(SeekFrom::Start(mark.0)).with_context(what)?;
    let mut text = String::new();
    log.read_to_string(&mut text).with_context(what)?;
    let account = account_prefix(operator_namespace);
    Ok(writes_in(&text, &account, namespace))
}

/// A right that a request needed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Right {
    /// Empty: the core group.
    pub group: String,
    /// With its subresource, as in `pushclusters/status`.
    pub resource: String,
    pub verb: String,
}

/// All rights that requests so far of service accounts of `operator_namespace` needed and had.
pub fn operator_rights(operator_namespace: &str) -> Result<BTreeSet<Right>> {
    Ok(rights_in(
        &read()?,
        &account_prefix(operator_namespace),
        ALLOWED,
    ))
}

/// All rights that requests so far of service accounts of `operator_namespace` needed and did not have.
pub fn operator_refusals(operator_namespace: &str) -> Result<BTreeSet<Right>> {
    Ok(rights_in(
        &read()?,
        &account_prefix(operator_namespace),
        REFUSED,
    ))
}

/// What RBAC decided, as the log has it.
const ALLOWED: &str = "allow";
const REFUSED: &str = "forbid";

fn rights_in(log: &str, account_prefix: &str, decision: &str) -> BTreeSet<Right> {
    const CREATED: u16 = 201;
    by_account(log, account_prefix)
        // A watch goes on: of it only the beginning is told.
        .filter(|line| {
            line.stage == "ResponseComplete"
                || (line.verb == "watch" && line.stage == "ResponseStarted")
        })
        .filter(|line| line.annotations.decision == decision)
        .filter_map(|line| {
            let object = line
                .object_ref
                .filter(|object| !object.resource.is_empty())?;
            let resource = match object.subresource.as_str() {
                "" => object.resource,
                subresource => format!("{}/{subresource}", object.resource),
            };
            let right = |verb: &str| Right {
                group: object.api_group.clone(),
                resource: resource.clone(),
                verb: verb.to_owned(),
            };
            // A server-side apply of what is not there needs both, and is logged as the one.
            let created = line.response_status.is_some_and(|s| s.code == CREATED);
            let create = (line.verb == "patch" && created).then(|| right("create"));
            Some(std::iter::once(right(&line.verb)).chain(create))
        })
        .flatten()
        .collect()
}

fn path() -> Result<PathBuf> {
    let path = std::env::var_os(AUDIT_LOG);
    let path = path
        .with_context(|| format!("{AUDIT_LOG} is not set: it names the API server's audit log"))?;
    Ok(path.into())
}

fn read() -> Result<String> {
    let path = path()?;
    std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))
}

fn account_prefix(operator_namespace: &str) -> String {
    format!("system:serviceaccount:{operator_namespace}:")
}

/// The account's requests that have ended.
fn finished<'a>(log: &'a str, account_prefix: &'a str) -> impl Iterator<Item = Line> + 'a {
    by_account(log, account_prefix).filter(|line| line.stage == "ResponseComplete")
}

/// All that the log tells of the account's requests: a line for each stage.
fn by_account<'a>(log: &'a str, account_prefix: &'a str) -> impl Iterator<Item = Line> + 'a {
    log.lines()
        // The last line may be half written; everything else is an event.
        .filter_map(|line| serde_json::from_str::<Line>(line).ok())
        .filter(move |line| {
            let account = line.user.username.strip_prefix(account_prefix);
            account.is_some_and(|account| account != PREVIOUS_CHART)
        })
}

fn writes_in(log: &str, account_prefix: &str, namespace: &str) -> Vec<Write> {
    finished(log, account_prefix)
        .filter(|line| CHANGING.contains(&line.verb.as_str()))
        .filter_map(|line| {
            let object = line.object_ref.unwrap_or_default();
            let counts =
                object.namespace == namespace && !NOT_COUNTED.contains(&object.resource.as_str());
            counts.then(|| Write {
                verb: line.verb,
                resource: object.resource,
                name: object.name,
                subresource: object.subresource,
                code: line.response_status.map_or(0, |status| status.code),
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(user: &str, verb: &str, namespace: &str, resource: &str) -> String {
        format!(
            r#"{{"stage":"ResponseComplete","verb":"{verb}","user":{{"username":"{user}"}},"objectRef":{{"namespace":"{namespace}","resource":"{resource}","name":"demo"}},"responseStatus":{{"code":200}},"annotations":{{"authorization.k8s.io/decision":"allow"}}}}"#
        )
    }

    #[test]
    fn only_the_accounts_changes_in_the_namespace_count() {
        let us = "system:serviceaccount:system:operator";
        let log = [
            line(us, "patch", "here", "services"),
            line(us, "get", "here", "services"),
            line(us, "patch", "there", "services"),
            line(us, "create", "here", "events"),
            line(us, "update", "here", "leases"),
            line("admin", "patch", "here", "services"),
            line(us, "patch", "here", "services").replace("ResponseComplete", "RequestReceived"),
            r#"{"stage":"Respon"#.to_owned(),
        ]
        .join("\n");
        let expected = Write {
            verb: "patch".into(),
            resource: "services".into(),
            name: "demo".into(),
            subresource: String::new(),
            code: 200,
        };
        assert_eq!(
            writes_in(&log, "system:serviceaccount:system:", "here"),
            [expected]
        );
    }

    #[test]
    fn what_an_apply_creates_needed_two_rights() {
        let us = "system:serviceaccount:system:operator";
        let created = line(us, "patch", "here", "services").replace("200", "201");
        let status = line(us, "patch", "here", "pushclusters").replace(
            r#""resource""#,
            r#""apiGroup":"pushcluster.io","subresource":"status","resource""#,
        );
        let started =
            |verb| line(us, verb, "here", "pods").replace("ResponseComplete", "ResponseStarted");
        let (watch, half) = (started("watch"), started("get"));
        let forbidden = line(us, "list", "here", "secrets").replace("allow", "forbid");
        let other = line("admin", "list", "here", "secrets");
        let log = [created, status, watch, half, forbidden, other].join("\n");
        let right = |group: &str, resource: &str, verb: &str| Right {
            group: group.into(),
            resource: resource.into(),
            verb: verb.into(),
        };
        assert_eq!(
            rights_in(&log, "system:serviceaccount:system:", ALLOWED),
            BTreeSet::from([
                right("", "pods", "watch"),
                right("", "services", "create"),
                right("", "services", "patch"),
                right("pushcluster.io", "pushclusters/status", "patch"),
            ])
        );
    }

    #[test]
    fn a_refused_request_is_of_a_right_that_is_missing() {
        let us = "system:serviceaccount:system:operator";
        let log = [
            line(us, "get", "here", "nodes").replace("allow", "forbid"),
            // The namespace is being terminated.
            line(us, "create", "here", "secrets").replace("200", "403"),
            line("admin", "get", "here", "nodes").replace("allow", "forbid"),
            line(
                &us.replace("operator", PREVIOUS_CHART),
                "get",
                "here",
                "nodes",
            )
            .replace("allow", "forbid"),
        ]
        .join("\n");
        let nodes = Right {
            group: String::new(),
            resource: "nodes".into(),
            verb: "get".into(),
        };
        assert_eq!(
            rights_in(&log, "system:serviceaccount:system:", REFUSED),
            BTreeSet::from([nodes])
        );
    }
}
