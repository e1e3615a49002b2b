//! `Idempotency-Key` (draft-ietf-httpapi-idempotency-key-header-07): a retry gets the first answer, and nothing is
//! done again.
//!
//! ```text
//!  key           body            answer
//!  new                           the work is done, and what it came to is kept for the window
//!  known         another         422 key_reused
//!  known         under way       409 in_progress
//!  known         done            the first answer, with Idempotency-Replayed: true
//! ```
//! What was refused before anything was sent (4xx, 503) is not kept: the retry is the first try. Keys are kept by
//! the node that saw them, so a retry has to reach the same node.

use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use sha1::{Digest, Sha1};

use super::Answer;
use super::access::Caller;
use super::request::Asked;
use crate::http::{Front, Node, Problem};

/// Longest key, in bytes.
pub const MAX_KEY_BYTES: usize = 255;
/// Requests with a key that are being worked on at once: one that was given up by its caller still is.
const MAX_UNDER_WAY: usize = 1_024;
/// What an entry costs beside its key and answer, in bytes: two copies of the key's head, the map's and queue's rows.
const ENTRY_BYTES: usize = 256;

/// A caller's name for one act.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Key {
    caller: Caller,
    text: Arc<str>,
}

impl Key {
    /// A string in quotes, as structured fields write it (RFC 9651 section 3.3.3), or bare, as many clients do.
    pub fn read(headers: &HeaderMap, caller: Caller) -> Result<Option<Key>, Problem> {
        let bad = |why: String| {
            let message = format!("Idempotency-Key {why}");
            Err(Problem::new(StatusCode::BAD_REQUEST, "bad_key", message))
        };
        let mut values = headers.get_all("idempotency-key").iter();
        let Some(value) = values.next() else {
            return Ok(None);
        };
        if values.next().is_some() {
            return bad("is there more than once".to_owned());
        }
        let text = value.to_str().unwrap_or_default().trim();
        let quoted = text.strip_prefix('"').and_then(|t| t.strip_suffix('"'));
        let spaced = quoted.is_none() && text.contains(' ');
        let text = quoted.unwrap_or(text);
        if text.is_empty() || spaced || text.contains(['"', '\\', '\t']) {
            return bad("must be printable ASCII, in quotes if it has spaces".to_owned());
        }
        if text.len() > MAX_KEY_BYTES {
            return bad(format!("is longer than {MAX_KEY_BYTES} bytes"));
        }
        let text = text.into();
        Ok(Some(Key { caller, text }))
    }
}

/// What was asked, for comparison.
type Print = [u8; 20];

struct Entry {
    print: Print,
    /// None: under way.
    answer: Option<Answer>,
}

/// What a key means when it comes.
#[derive(Debug, PartialEq, Eq)]
enum Begun {
    First,
    Again(Answer),
    UnderWay,
    AnotherBody,
    Full,
}

/// The answers of the window. Pure: times are arguments, and only go up.
struct Answers {
    window: Duration,
    max_bytes: usize,
    entries: HashMap<Key, Entry>,
    /// Those that are answered, oldest first, with their ends.
    order: VecDeque<(Duration, Key)>,
    /// Of those that are answered.
    bytes: usize,
}

impl Answers {
    fn begin(&mut self, key: &Key, print: Print, now: Duration) -> Begun {
        self.forget_ended(now);
        match self.entries.get(key) {
            Some(entry) if entry.print != print => Begun::AnotherBody,
            Some(Entry {
                answer: Some(answer),
                ..
            }) => Begun::Again(answer.clone()),
            Some(_) => Begun::UnderWay,
            None if self.entries.len() - self.order.len() >= MAX_UNDER_WAY => Begun::Full,
            None => {
                let entry = Entry {
                    print,
                    answer: None,
                };
                self.entries.insert(key.clone(), entry);
                Begun::First
            }
        }
    }

    /// What the work came to; None forgets the key. Returns how many others had to go before their time.
    fn end(&mut self, key: &Key, answer: Option<Answer>, now: Duration) -> u64 {
        let Some(answer) = answer else {
            self.entries.remove(key);
            return 0;
        };
        let Some(entry) = self.entries.get_mut(key) else {
            return 0;
        };
        self.bytes += cost(key, &answer);
        entry.answer = Some(answer);
        self.order.push_back((now + self.window, key.clone()));
        self.make_room()
    }

    fn set(&mut self, window: Duration, max_bytes: usize) -> u64 {
        (self.window, self.max_bytes) = (window, max_bytes);
        self.make_room()
    }

    fn make_room(&mut self) -> u64 {
        let mut evicted = 0;
        while self.bytes > self.max_bytes && self.forget_oldest() {
            evicted += 1;
        }
        evicted
    }

    fn forget_ended(&mut self, now: Duration) {
        while self.order.front().is_some_and(|(end, _)| *end <= now) {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) -> bool {
        let Some((_, key)) = self.order.pop_front() else {
            return false;
        };
        if let Some(answer) = self.entries.remove(&key).and_then(|entry| entry.answer) {
            self.bytes -= cost(&key, &answer);
        }
        true
    }
}

fn cost(key: &Key, answer: &Answer) -> usize {
    ENTRY_BYTES + key.text.len() + answer.body.len()
}

/// The node's own memory of keys.
pub struct Keys {
    answers: Mutex<Answers>,
    began: Instant,
    evicted: prometheus::IntCounter,
}

impl Keys {
    /// Answers are kept for `window`, the oldest a shorter time when all of them are more than `max_bytes`;
    /// `evicted` counts those.
    pub fn new(window: Duration, max_bytes: usize, evicted: prometheus::IntCounter) -> Self {
        Keys {
            answers: Mutex::new(Answers {
                window,
                max_bytes,
                entries: HashMap::new(),
                order: VecDeque::new(),
                bytes: 0,
            }),
            began: Instant::now(),
            evicted,
        }
    }

    /// As in `new`, from now on. What is kept already is kept for as long as it was promised.
    pub fn set(&self, window: Duration, max_bytes: usize) {
        let evicted = self.answers().set(window, max_bytes);
        self.evicted.inc_by(evicted);
    }

    fn answers(&self) -> MutexGuard<'_, Answers> {
        // Every method leaves it whole, so a panic elsewhere cannot have broken it.
        self.answers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn end(&self, key: &Key, answer: Option<Answer>) {
        let evicted = self.answers().end(key, answer, self.began.elapsed());
        self.evicted.inc_by(evicted);
    }
}

/// A key whose work is under way. A panic in it must not leave the key unusable for ever.
struct UnderWay<N> {
    front: Arc<Front<N>>,
    key: Key,
    answer: Option<Answer>,
}

impl<N> UnderWay<N> {
    fn end(mut self, result: &Result<Answer, Problem>) {
        self.answer = match result {
            Ok(answer) => Some(answer.clone()),
            // It may have been delivered: doing it again could deliver it twice.
            Err(problem) if problem.status == StatusCode::GATEWAY_TIMEOUT => {
                Some(Answer::of(problem))
            }
            Err(_) => None,
        };
    }
}

impl<N> Drop for UnderWay<N> {
    fn drop(&mut self) {
        self.front.keys.end(&self.key, self.answer.take());
    }
}

/// Does the work, unless the request's key says that it has been done.
pub async fn once<N: Node, F>(
    front: Arc<Front<N>>,
    asked: Asked,
    work: impl FnOnce(Arc<Front<N>>, Bytes) -> F,
) -> Result<Response, Problem>
where
    F: Future<Output = Result<Answer, Problem>> + Send + 'static,
{
    let Asked {
        target, key, body, ..
    } = asked;
    let Some(key) = key else {
        return Ok(work(front, body).await?.into_response());
    };
    let print = Sha1::new()
        .chain_update(&target)
        .chain_update([0])
        .chain_update(&body)
        .finalize()
        .into();
    let now = front.keys.began.elapsed();
    let begun = front.keys.answers().begin(&key, print, now);
    match begun {
        Begun::First => {}
        Begun::Again(answer) => {
            let mut response = answer.into_response();
            let headers = response.headers_mut();
            headers.insert("idempotency-replayed", HeaderValue::from_static("true"));
            return Ok(response);
        }
        refused => return Err(refusal(&refused)),
    }
    let under_way = UnderWay {
        front: front.clone(),
        key,
        answer: None,
    };
    let work = work(front, body);
    // Beside this task: a caller that gave up, and whose connection ended, may have its message on the way already.
    let done = tokio::spawn(async move {
        let result = work.await;
        under_way.end(&result);
        result
    });
    let result = done.await.unwrap_or_else(|_| {
        let message = "the request failed inside the gateway";
        let status = StatusCode::INTERNAL_SERVER_ERROR;
        Err(Problem::new(status, "internal", message))
    });
    Ok(result?.into_response())
}

fn refusal(begun: &Begun) -> Problem {
    match begun {
        Begun::AnotherBody => Problem::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "key_reused",
            "this Idempotency-Key came with another request before",
        ),
        Begun::UnderWay => Problem::new(
            StatusCode::CONFLICT,
            "in_progress",
            "the first request with this Idempotency-Key is not answered yet",
        ),
        _ => Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "unavailable",
            format!("{MAX_UNDER_WAY} requests with an Idempotency-Key are under way"),
        ),
    }
}

#[cfg(test)]
#[path = "idempotency_tests.rs"]
mod tests;
