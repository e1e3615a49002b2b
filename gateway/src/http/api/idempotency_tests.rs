use super::*;

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

fn answers(max_bytes: usize) -> Answers {
    Answers {
        window: seconds(10),
        max_bytes,
        entries: HashMap::new(),
        order: VecDeque::new(),
        bytes: 0,
    }
}

fn key(text: &str) -> Key {
    let headers = HeaderMap::from_iter([(
        axum::http::HeaderName::from_static("idempotency-key"),
        text.parse().unwrap(),
    )]);
    let caller = super::super::access::authorise(
        &HeaderMap::from_iter([(axum::http::header::HOST, "localhost".parse().unwrap())]),
        &crate::config::ApiAccess::Loopback,
    );
    Key::read(&headers, caller.unwrap()).unwrap().unwrap()
}

fn answer(body: &'static str) -> Answer {
    Answer {
        status: StatusCode::OK,
        body: Bytes::from_static(body.as_bytes()),
        code: None,
    }
}

const A: Print = [1; 20];
const B: Print = [2; 20];

#[test]
fn a_key_goes_from_new_to_under_way_to_answered_to_forgotten() {
    let mut kept = answers(100_000);
    let k = key("k");
    assert_eq!(kept.begin(&k, A, seconds(0)), Begun::First);
    assert_eq!(kept.begin(&k, A, seconds(1)), Begun::UnderWay);
    assert_eq!(kept.begin(&k, B, seconds(1)), Begun::AnotherBody);
    assert_eq!(kept.end(&k, Some(answer("x")), seconds(5)), 0);
    assert_eq!(
        kept.begin(&k, A, seconds(14)),
        Begun::Again(answer("x")),
        "the window begins with the answer"
    );
    assert_eq!(kept.begin(&k, B, seconds(14)), Begun::AnotherBody);
    assert_eq!(kept.begin(&k, B, seconds(15)), Begun::First);
    assert_eq!(kept.end(&k, None, seconds(15)), 0);
    assert_eq!(
        (kept.entries.len(), kept.order.len(), kept.bytes),
        (0, 0, 0),
        "nothing is left of it"
    );
}

#[test]
fn what_was_not_done_is_not_kept() {
    let mut kept = answers(100_000);
    assert_eq!(kept.begin(&key("k"), A, seconds(0)), Begun::First);
    kept.end(&key("k"), None, seconds(1));
    assert_eq!(kept.begin(&key("k"), B, seconds(1)), Begun::First);
}

#[test]
fn the_oldest_answers_make_room() {
    let mut kept = answers(3 * (ENTRY_BYTES + 3));
    let mut evicted = 0;
    for i in 10..15 {
        let k = key(&i.to_string());
        assert_eq!(kept.begin(&k, A, seconds(i)), Begun::First);
        evicted += kept.end(&k, Some(answer("x")), seconds(i));
    }
    assert_eq!((evicted, kept.entries.len()), (2, 3));
    assert_eq!(kept.begin(&key("11"), A, seconds(15)), Begun::First);
    let again = Begun::Again(answer("x"));
    assert_eq!(kept.begin(&key("12"), A, seconds(15)), again);
}

#[test]
fn work_under_way_is_bounded() {
    let mut kept = answers(100_000);
    for i in 0..MAX_UNDER_WAY {
        let begun = kept.begin(&key(&i.to_string()), A, seconds(0));
        assert_eq!(begun, Begun::First);
    }
    assert_eq!(kept.begin(&key("more"), A, seconds(0)), Begun::Full);
    kept.end(&key("0"), Some(answer("x")), seconds(0));
    assert_eq!(kept.begin(&key("more"), A, seconds(0)), Begun::First);
}

#[test]
fn keys_as_clients_write_them() {
    let long = "x".repeat(MAX_KEY_BYTES);
    let longer = format!("{long}x");
    let caller = key("x").caller;
    for (value, expected) in [
        ("\"8e03978e-40d5\"", Some("8e03978e-40d5")),
        ("8e03978e-40d5", Some("8e03978e-40d5")),
        (" ab ", Some("ab")),
        ("\"a b\"", Some("a b")),
        ("a b", None),
        ("\"a\tb\"", None),
        (&long, Some(&*long)),
        (&longer, None),
        ("", None),
        ("\"\"", None),
        ("\"", None),
        ("a\"b", None),
        ("a\\b", None),
        ("é", None),
    ] {
        let mut headers = HeaderMap::new();
        let header = HeaderValue::from_bytes(value.as_bytes()).unwrap();
        headers.insert("idempotency-key", header);
        let found = Key::read(&headers, caller).map(|key| key.unwrap().text);
        assert_eq!(found.as_deref().ok(), expected, "{value:?}");
        headers.append("idempotency-key", HeaderValue::from_static("x"));
        assert!(Key::read(&headers, caller).is_err(), "two of them");
    }
    assert_eq!(Key::read(&HeaderMap::new(), caller), Ok(None));
}
