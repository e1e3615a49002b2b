use jsonwebtoken::{EncodingKey, Header, encode};
use serde_json::{Value, json};

use super::super::tests::{KEY, NOW, act, rules, show};
use super::*;

fn name(name: &str) -> ChannelName {
    ChannelName::parse(name).unwrap()
}

fn token(claim: &Value) -> String {
    let claims = json!({"sub": "ann", "exp": 2000, "pushcluster": claim});
    encode(&Header::default(), &claims, &EncodingKey::from_secret(KEY)).unwrap()
}

fn ann(rules: &Rules, claim: &Value) -> Session {
    let identity = rules.verifier.verify(&token(claim), NOW.unix_seconds());
    let mut session = Session::new(31, Some(identity.unwrap()), NOW);
    assert_eq!(show(&session.open()), "subscribe user:ann welcome");
    session
}

fn given(session: &mut Session, rules: &Rules, gift: Gift, channels: &[&str]) -> Vec<String> {
    let channels: Vec<_> = channels.iter().map(|channel| name(channel)).collect();
    let mut effects = Vec::new();
    session.give(gift, &channels, rules, &mut effects);
    effects.iter().map(show).collect()
}

fn named_effects(session: &mut Session, rules: &Rules) -> Vec<String> {
    let mut effects = Vec::new();
    session.begin_named(rules, &mut effects);
    effects.iter().map(show).collect()
}

/// Clients may subscribe to nothing by themselves.
fn closed() -> Rules {
    let nobody = gateway_config::ChannelPolicy {
        prefix: Some(String::new()),
        subscribe: gateway_config::Right::Nobody,
        ..gateway_config::ChannelPolicy::default()
    };
    Rules {
        policies: Policies::new(&[nobody]),
        ..rules(false)
    }
}

#[test]
fn a_backend_gives_and_takes() {
    use Gift::{Subscribe, Unsubscribe};
    let rules = rules(false);
    let mut session = ann(&rules, &json!({}));
    for (gift, channels, expected) in [
        (
            Subscribe,
            &["news", "user:bob"][..],
            vec!["subscribe news subscribed"],
        ),
        (Subscribe, &["news"], vec![]),
        (
            Subscribe,
            &["room:a", "more"],
            vec![
                "subscribe room:a subscribed",
                "refuse TooManyChannels: subscribe to more refused: 2 channels are the limit",
            ],
        ),
        (Unsubscribe, &["more", "user:ann"], vec![]),
        (
            Unsubscribe,
            &["news"],
            vec!["unsubscribe news", "unsubscribed news"],
        ),
        (Unsubscribe, &["news"], vec![]),
        (Subscribe, &["more"], vec!["subscribe more subscribed"]),
    ] {
        let found = given(&mut session, &rules, gift, channels);
        assert_eq!(found, expected, "{gift:?} {channels:?}");
    }
}

#[test]
fn what_was_given_is_allowed_until_it_is_gone() {
    let rules = closed();
    let mut session = ann(&rules, &json!({}));
    let subscribe = r#"{"type":"subscribe","channel":"news"}"#;
    let denied = ["refuse Denied: denied: subscribe to news"];
    assert_eq!(act(&mut session, &rules, subscribe), denied);
    given(&mut session, &rules, Gift::Subscribe, &["news"]);
    assert_eq!(act(&mut session, &rules, subscribe), ["again news"]);
    let mut effects = Vec::new();
    session.rules_changed(&rules, &mut effects);
    assert!(effects.is_empty(), "a reload takes it away: {effects:?}");
    let refresh = format!(r#"{{"type":"auth","token":"{}"}}"#, token(&json!({})));
    let expected = ["authenticated ann until Some(2000)"];
    assert_eq!(act(&mut session, &rules, &refresh), expected);
    given(&mut session, &rules, Gift::Unsubscribe, &["news"]);
    assert_eq!(act(&mut session, &rules, subscribe), denied);
    assert!(session.given.is_none(), "an entry stays");
}

#[test]
fn a_token_names_channels() {
    let rules = closed();
    let names = |names: &[&str]| json!({"autoSubscribe": names});
    let mut session = ann(&rules, &names(&["news", "", "user:bob", "b", "c"]));
    let expected = [
        "subscribe news subscribed",
        "refuse BadField: subscribe refused: a channel name in the token's autoSubscribe is empty",
        "refuse Denied: denied: subscribe to user:bob, which the token names: it cannot be given",
        "subscribe b subscribed",
        "refuse TooManyChannels: subscribe to c refused: 2 channels are the limit",
    ];
    assert_eq!(named_effects(&mut session, &rules), expected);
    // The next token names others: what only the last one named goes first, and so makes room.
    let next = token(&names(&["b", "c"]));
    let refresh = format!(r#"{{"type":"auth","token":"{next}"}}"#);
    let expected = [
        "unsubscribe news",
        "unsubscribed news",
        "authenticated ann until Some(2000)",
        "subscribe c subscribed",
    ];
    assert_eq!(act(&mut session, &rules, &refresh), expected);
}

#[test]
fn a_first_token_is_acknowledged_before_its_channels() {
    let rules = rules(true);
    let mut session = Session::new(31, None, NOW);
    session.open();
    let token = token(&json!({"autoSubscribe": ["news"]}));
    let auth = format!(r#"{{"type":"auth","token":"{token}"}}"#);
    let expected = ["subscribe user:ann authenticated"];
    assert_eq!(act(&mut session, &rules, &auth), expected);
    let expected = ["subscribe news subscribed"];
    assert_eq!(named_effects(&mut session, &rules), expected);
}
