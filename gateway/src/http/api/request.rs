//! A request from the wire to a caller who may ask and the body it sent; a body to its members.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use axum::body::{HttpBody, to_bytes};
use axum::extract::{Query, Request};
use axum::http::{HeaderMap, StatusCode, Uri, header};
use bytes::Bytes;
use serde::de::{DeserializeOwned, DeserializeSeed, IgnoredAny, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::access::{Caller, authorise};
use super::idempotency::Key;
use crate::http::{Front, Problem};
use crate::name::ChannelName;

/// A request of somebody who may ask.
pub struct Asked {
    pub caller: Caller,
    /// Method and path, as they came.
    pub target: String,
    pub key: Option<Key>,
    pub body: Bytes,
}

impl Asked {
    /// Checks who asks before reading what: a stranger's megabytes are not even received.
    pub async fn read<N>(front: &Front<N>, request: Request) -> Result<Asked, Problem> {
        let (parts, body) = request.into_parts();
        let caller = authorise(&parts.headers, &front.running().access)?;
        json_or_refused(&parts.headers)?;
        let key = Key::read(&parts.headers, caller)?;
        let caps = front.caps();
        if body.size_hint().lower() > caps.request as u64 {
            // It says so itself: nothing of it is waited for.
            return Err(too_long(caps.request));
        }
        let body = match tokio::time::timeout(caps.patience, to_bytes(body, caps.request)).await {
            Ok(Ok(bytes)) => bytes,
            Ok(Err(e)) => return Err(unreadable(&e, caps.request)),
            Err(_) => {
                let message = "the body did not come in time";
                let status = StatusCode::REQUEST_TIMEOUT;
                return Err(Problem::new(status, "too_slow", message));
            }
        };
        let target = format!("{} {}", parts.method, parts.uri);
        Ok(Asked {
            caller,
            target,
            key,
            body,
        })
    }
}

fn json_or_refused(headers: &HeaderMap) -> Result<(), Problem> {
    let kind = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    let essence = kind.and_then(|kind| kind.split(';').next()).map(str::trim);
    // Media types have no case (RFC 9110 section 8.3.1).
    if essence.is_some_and(|essence| essence.eq_ignore_ascii_case("application/json")) {
        return Ok(());
    }
    let message = "the body must be Content-Type: application/json";
    let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
    Err(Problem::new(status, "bad_content_type", message))
}

fn too_long(max: usize) -> Problem {
    let message = format!("the body is longer than {max} bytes");
    Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too_big", message)
}

fn unreadable(error: &axum::Error, max: usize) -> Problem {
    if is_too_long(error) {
        return too_long(max);
    }
    let message = format!("the body cannot be read: {error}");
    Problem::new(StatusCode::BAD_REQUEST, "bad_body", message)
}

fn is_too_long(error: &axum::Error) -> bool {
    let mut cause: Option<&dyn std::error::Error> = Some(error);
    while let Some(error) = cause {
        if error.is::<http_body_util::LengthLimitError>() {
            return true;
        }
        cause = error.source();
    }
    false
}

/// The parameters of a query, each at most once.
pub struct Parameters(Vec<(String, String)>);

impl Parameters {
    pub fn read(uri: &Uri) -> Result<Parameters, Problem> {
        let bad = |e| {
            let message = format!("the query cannot be read: {e}");
            Problem::new(StatusCode::BAD_REQUEST, "bad_query", message)
        };
        Query::try_from_uri(uri)
            .map(|Query(pairs)| Parameters(pairs))
            .map_err(bad)
    }

    pub fn take(&mut self, name: &str) -> Result<Option<String>, Problem> {
        let mut found = self.all(name);
        match (found.pop(), found.is_empty()) {
            (value, true) => Ok(value),
            _ => Err(Problem::field(
                name,
                format!("{name} is there more than once"),
            )),
        }
    }

    /// Those of this name, in their order.
    pub fn all(&mut self, name: &str) -> Vec<String> {
        self.0
            .extract_if(.., |(known, _)| known == name)
            .map(|(_, value)| value)
            .collect()
    }

    /// The channel, which must be there.
    pub fn channel(&mut self) -> Result<ChannelName, Problem> {
        let name = self
            .take("channel")?
            .ok_or_else(|| Problem::field("channel", "channel is missing"))?;
        ChannelName::parse(&name)
            .map_err(|e| Problem::field("channel", format!("channel: the channel name {e}")))
    }

    /// How much a page holds: up to `max`, and `page` when nobody says.
    pub fn limit(&mut self, page: usize, max: usize) -> Result<usize, Problem> {
        let Some(text) = self.take("limit")? else {
            return Ok(page);
        };
        let limit = text.parse().ok();
        let limit = limit.filter(|limit| (1..=max).contains(limit));
        let wrong = || Problem::field("limit", format!("limit must be a number from 1 to {max}"));
        limit.ok_or_else(wrong)
    }

    pub fn nothing_else(&self, known: &[&str]) -> Result<(), Problem> {
        self.0.first().map_or(Ok(()), |(name, _)| {
            let message = format!("{name:?} is not known here; known: {}", known.join(", "));
            Err(Problem::field(name, message))
        })
    }
}

/// The members of a JSON object, each as it was written.
pub struct Members<'a>(BTreeMap<Cow<'a, str>, &'a RawValue>);

impl<'a> Members<'a> {
    /// `what` is read: "the body", for the message.
    pub fn read(json: &'a [u8], what: &str) -> Result<Self, Problem> {
        serde_json::from_slice(json).map(Members).map_err(|e| {
            let message = format!("{what} is not a JSON object: {e}");
            Problem::new(StatusCode::BAD_REQUEST, "bad_json", message)
        })
    }

    /// The member as it was written.
    pub fn take(&mut self, name: &str) -> Option<&'a RawValue> {
        self.0.remove(name)
    }

    pub fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    pub fn text(&mut self, name: &str) -> Result<String, Problem> {
        self.optional(name, "a text")?
            .ok_or_else(|| Problem::field(name, format!("{name} is missing")))
    }

    /// `wanted` completes "name must be …".
    pub fn optional<T: DeserializeOwned>(
        &mut self,
        name: &str,
        wanted: &str,
    ) -> Result<Option<T>, Problem> {
        let Some(json) = self.take(name) else {
            return Ok(None);
        };
        serde_json::from_str(json.get())
            .map(Some)
            .map_err(|_| Problem::field(name, format!("{name} must be {wanted}")))
    }

    /// An array, item by item as it was written; more than `max` items are counted and not kept.
    pub fn items(&mut self, name: &str, max: usize) -> Result<Items<'a>, Problem> {
        let json = self
            .take(name)
            .ok_or_else(|| Problem::field(name, format!("{name} is missing")))?;
        let mut json = serde_json::Deserializer::from_str(json.get());
        Bounded { max }
            .deserialize(&mut json)
            .map_err(|_| Problem::field(name, format!("{name} must be an array")))
    }

    /// A member that is not known is a mistake: `"exlude"` would otherwise send to whom it should not.
    pub fn nothing_else(&self, known: &[&str]) -> Result<(), Problem> {
        match self.0.keys().next() {
            None => Ok(()),
            Some(name) => {
                let message = format!("{name:?} is not known here; known: {}", known.join(", "));
                Err(Problem::field(name, message))
            }
        }
    }
}

/// See [`Members::items`].
pub struct Items<'a> {
    pub kept: Vec<&'a RawValue>,
    /// Of all.
    pub count: usize,
}

/// Four megabytes of `0,0,0` would otherwise be two million entries before anybody counts them.
struct Bounded {
    max: usize,
}

impl<'de> DeserializeSeed<'de> for Bounded {
    type Value = Items<'de>;

    fn deserialize<D: serde::Deserializer<'de>>(self, json: D) -> Result<Items<'de>, D::Error> {
        json.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Bounded {
    type Value = Items<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Items<'de>, A::Error> {
        let mut kept = Vec::new();
        while kept.len() < self.max {
            match seq.next_element()? {
                Some(item) => kept.push(item),
                None => {
                    let count = kept.len();
                    return Ok(Items { kept, count });
                }
            }
        }
        let mut count = kept.len();
        while seq.next_element::<IgnoredAny>()?.is_some() {
            count += 1;
        }
        Ok(Items { kept, count })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_beyond_the_cap_are_counted_and_not_kept() {
        for (body, expected) in [
            (r#"{"a":[]}"#, Ok((0, 0))),
            (r#"{"a":[1,{"b":[2]}]}"#, Ok((2, 2))),
            (r#"{"a":[1,2,3]}"#, Ok((3, 3))),
            (r#"{"a":[1,2,3,[4],5]}"#, Ok((3, 5))),
            (r#"{"a":{"0":1}}"#, Err("a must be an array")),
            (r#"{"a":null}"#, Err("a must be an array")),
            (r#"{}"#, Err("a is missing")),
        ] {
            let mut members = Members::read(body.as_bytes(), "the body").unwrap();
            let found = members.items("a", 3).map(|i| (i.kept.len(), i.count));
            assert_eq!(
                found.map_err(|problem| problem.message),
                expected.map_err(str::to_owned),
                "{body}"
            );
        }
    }

    #[test]
    fn only_json_is_read() {
        for (kind, good) in [
            ("application/json", true),
            ("application/json; charset=utf-8", true),
            ("Application/JSON ;charset=utf-8", true),
            ("text/plain", false),
            ("application/jsonp", false),
            ("", false),
        ] {
            let headers = HeaderMap::from_iter([(header::CONTENT_TYPE, kind.parse().unwrap())]);
            assert_eq!(json_or_refused(&headers).is_ok(), good, "{kind:?}");
        }
        assert!(json_or_refused(&HeaderMap::new()).is_err());
    }
}
