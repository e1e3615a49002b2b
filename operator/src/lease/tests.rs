use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use http::{Request, Response};
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};

use super::*;

fn lease(version: &str, holder: Option<&str>) -> Lease {
    Lease {
        metadata: ObjectMeta {
            resource_version: Some(version.into()),
            ..ObjectMeta::default()
        },
        spec: Some(LeaseSpec {
            holder_identity: holder.map(Into::into),
            lease_duration_seconds: Some(15),
            // What another machine's clock says decides nothing: this one is far in the past.
            renew_time: Some(MicroTime(Timestamp::UNIX_EPOCH)),
            ..LeaseSpec::default()
        }),
    }
}

#[test]
fn a_lease_is_taken_when_nobody_has_it_or_it_was_not_renewed_while_we_looked() {
    let begin = Moment::now();
    let at = |seconds| begin + Duration::from_secs(seconds);
    let mut watch = Watch::default();
    for (second, found, expected) in [
        (0, None, Decision::Create),
        (1, Some(lease("1", Some("other"))), Decision::Wait),
        (15, Some(lease("1", Some("other"))), Decision::Wait),
        (16, Some(lease("2", Some("other"))), Decision::Wait),
        (30, Some(lease("2", Some("other"))), Decision::Wait),
        (31, Some(lease("2", Some("other"))), Decision::Take),
        (32, Some(lease("3", Some("us"))), Decision::Take),
        (33, Some(lease("4", None)), Decision::Take),
        (34, Some(lease("5", Some("other"))), Decision::Wait),
    ] {
        assert_eq!(
            watch.decide(found.as_ref(), "us", at(second)),
            expected,
            "at second {second}"
        );
    }
}

/// What the API server does with a request, in the order of requests; the last goes on for ever.
#[derive(Clone, Copy)]
enum Server {
    Serves,
    Fails,
    NeverAnswers,
    /// The lease is another's.
    GaveItAway,
    /// Somebody wrote between our reading and our writing.
    Conflicts,
}

fn client(script: &'static [Server]) -> Client {
    let calls = Arc::new(AtomicUsize::new(0));
    let service = tower::service_fn(move |request: Request<Body>| {
        // Reading and writing are one try.
        let call = if request.method() == "GET" {
            calls.fetch_add(1, Ordering::Relaxed)
        } else {
            calls.load(Ordering::Relaxed) - 1
        };
        let reading = request.method() == "GET";
        let act = script[call.min(script.len() - 1)];
        async move {
            let (code, body) = match act {
                Server::NeverAnswers => return std::future::pending().await,
                Server::Fails => (500, failure(500)),
                Server::Conflicts if !reading => (409, failure(409)),
                Server::GaveItAway => (200, to_value(lease("2", Some("other")))),
                Server::Serves | Server::Conflicts => (200, to_value(lease("1", Some("us")))),
            };
            let response = Response::builder().status(code);
            Ok::<_, Infallible>(
                response
                    .body(Body::from(body.to_string().into_bytes()))
                    .unwrap(),
            )
        }
    });
    Client::new(service, "system")
}

fn failure(code: u16) -> Value {
    json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": "", "message": "no"})
}

fn to_value(lease: Lease) -> Value {
    serde_json::to_value(lease).unwrap()
}

/// The clock stands still but for the waits, so these are the exact seconds after the last renewal that was served.
#[tokio::test(start_paused = true)]
async fn a_leader_that_cannot_renew_ends_before_another_may_begin() {
    use Server::{Conflicts, Fails, GaveItAway, NeverAnswers, Serves};
    for (what, script, expected) in [
        ("silence", &[Serves, NeverAnswers] as &[_], GIVE_UP),
        ("errors", &[Serves, Fails], GIVE_UP),
        ("another's", &[Serves, GaveItAway], RENEW),
        ("a lost race", &[Serves, Conflicts], RENEW),
        (
            "one error",
            &[Serves, Fails, Serves, NeverAnswers],
            RENEW + LOOK + GIVE_UP,
        ),
        (
            "one silence",
            &[Serves, NeverAnswers, Serves, Fails],
            RENEW + ANSWER + LOOK + GIVE_UP,
        ),
    ] {
        let api = Api::namespaced(client(script), "system");
        let mut leadership = Leadership::new(api, "pushcluster-operator", "us");
        let answered = AtomicBool::new(false);
        leadership.acquire(&answered).await;
        assert!(
            answered.load(Ordering::Relaxed),
            "{what}: a leader is ready"
        );
        let begun = Instant::now();
        leadership.hold().await;
        assert_eq!(begun.elapsed().as_secs(), expected.as_secs(), "{what}");
    }
    const { assert!(GIVE_UP.as_secs() < DURATION.as_secs()) };
}

#[tokio::test(start_paused = true)]
async fn one_who_waits_takes_a_lease_that_is_not_renewed_and_is_ready_meanwhile() {
    let api = Api::namespaced(client(&[Server::Fails, Server::GaveItAway]), "system");
    let mut leadership = Leadership::new(api, "pushcluster-operator", "us");
    let (begun, answered) = (Instant::now(), AtomicBool::new(false));
    // Seen first in the second try, then unchanged for its fifteen seconds; the looks are two seconds apart.
    leadership.acquire(&answered).await;
    assert_eq!(begun.elapsed(), LOOK + LOOK * 8);
    assert!(answered.load(Ordering::Relaxed));
}
