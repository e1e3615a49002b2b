use jsonwebtoken::{EncodingKey, Header, encode};
use serde_json::json;

use super::*;
use crate::auth::Policy;
use crate::auth::keys::{KeySet, Remote, Unchanging};
use crate::auth::signature::{Algorithm, Key};
use crate::protocol::native::decode;

pub(super) const KEY: &[u8] = b"0123456789abcdef0123456789abcdef";
pub(super) const NOW: Now = Now {
    monotonic_ms: 5_000,
    unix_ms: 1_000_000,
};

/// Of `kept:` channels something is kept; who has an `open:` one is told.
fn policies() -> Policies {
    let open = gateway_config::ChannelPolicy {
        prefix: Some("open:".into()),
        presence: true,
        messages_per_second: 1,
        message_burst: 2,
        ..gateway_config::ChannelPolicy::default()
    };
    let kept = gateway_config::ChannelPolicy {
        prefix: Some("kept:".into()),
        history_messages: 50,
        history_seconds: 1,
        ..gateway_config::ChannelPolicy::default()
    };
    Policies::new(&[open, kept])
}

pub(super) fn rules(anonymous: bool) -> Rules {
    Rules {
        verifier: Verifier::hs256(Some(KEY), anonymous).unwrap(),
        keys: Arc::new(Unchanging),
        node: "gw-0".into(),
        max_channels: 2,
        auth_deadline_ms: 10_000,
        ping_seconds: 30,
        policies: policies(),
        max_history_bytes: 1_000,
        presence: Scope::default(),
        registers: false,
        message_pace: None,
    }
}

fn token(user: &str, expires: u64) -> String {
    encode(
        &Header::default(),
        &json!({"sub": user, "exp": expires}),
        &EncodingKey::from_secret(KEY),
    )
    .unwrap()
}

/// The effects of one text, one word or line each.
pub(super) fn act(session: &mut Session, rules: &Rules, text: &str) -> Vec<String> {
    let decoded = decode(text);
    let mut effects = Vec::new();
    let cx = Context { rules, now: NOW };
    session.handle(decoded.request.expect(text), decoded.id, cx, &mut effects);
    effects.iter().map(show).collect()
}

pub(super) fn show(effect: &Effect) -> String {
    match effect {
        Effect::Pong(_) => "pong".into(),
        Effect::Welcome => "welcome".into(),
        Effect::Authenticated { identity, .. } => format!(
            "authenticated {} until {:?}",
            identity.user, identity.expires
        ),
        Effect::Subscribe { channel, ack } => format!(
            "subscribe {channel} {}",
            match ack {
                Ack::Subscribed { .. } => "subscribed",
                Ack::Joined(_) => "joined",
                Ack::Welcome => "welcome",
                Ack::Authenticated { .. } => "authenticated",
            }
        ),
        Effect::Again { channel, .. } => format!("again {channel}"),
        Effect::Unsubscribe { channel } => format!("unsubscribe {channel}"),
        Effect::Unsubscribed { channel, .. } => format!("unsubscribed {channel}"),
        Effect::Left { room, .. } => format!("left {room}"),
        Effect::Publish {
            channel, message, ..
        } => format!(
            "publish {} to {channel} except {:?} only {:?}",
            message.kind.label(),
            message.except.as_ref().map(ConnectionId::as_str),
            message.only.as_ref().map(ConnectionId::as_str),
        ),
        Effect::History { channel, range, .. } => format!(
            "history of {channel} since {:?} limit {}",
            range.since.map(|since| (since.epoch, since.offset)),
            range.limit
        ),
        Effect::Presence { channel, .. } => format!("presence of {channel}"),
        Effect::Refuse { refusal, .. } => format!("refuse {:?}: {}", refusal.code, refusal.message),
        Effect::AwaitKeys { token, .. } => format!("await keys for {} bytes", token.len()),
        Effect::AwaitPlace { identity, .. } => format!("await place for {}", identity.user),
        Effect::TokenRefused(error) => format!("count {}", TokenError::CAUSES[error.index()]),
        Effect::Close(code) => format!("close {code:?}"),
    }
}

#[test]
fn a_session_is_a_script_of_requests_and_effects() {
    let rules = rules(true);
    let mut session = Session::new(31, None, NOW);
    let auth = format!(r#"{{"type":"auth","token":"{}"}}"#, token("ann", 2000));
    let refresh = format!(r#"{{"type":"auth","token":"{}"}}"#, token("ann", 3000));
    let other = format!(r#"{{"type":"auth","token":"{}"}}"#, token("bob", 2000));
    for (text, expected) in [
        (r#"{"type":"ping"}"#, vec!["pong"]),
        (
            r#"{"type":"subscribe","channel":"user:ann"}"#,
            vec!["refuse Denied: denied: subscribe to user:ann: it is not yours"],
        ),
        (&auth, vec!["subscribe user:ann authenticated"]),
        (&refresh, vec!["authenticated ann until Some(3000)"]),
        (
            &other,
            vec!["refuse Denied: denied: auth as another user: open a new connection for that"],
        ),
        (
            r#"{"type":"auth","token":"x"}"#,
            vec![
                "count malformed",
                "refuse Unauthorized: token refused: it is not a signed JSON Web Token",
            ],
        ),
        (
            r#"{"type":"unsubscribe","channel":"user:ann"}"#,
            vec![
                "refuse Denied: denied: unsubscribe from user:ann: it is how private messages reach you",
            ],
        ),
        (
            r#"{"type":"room","room":"lobby","data":1}"#,
            vec!["refuse NotInRoom: publish to room lobby refused: join it first"],
        ),
        (
            r#"{"type":"join","room":"lobby"}"#,
            vec!["subscribe room:lobby joined"],
        ),
        (
            r#"{"type":"room","room":"lobby","data":1}"#,
            vec![r#"publish room to room:lobby except Some("~gw-0.1f") only None"#],
        ),
        (
            r#"{"type":"subscribe","channel":"news"}"#,
            vec!["subscribe news subscribed"],
        ),
        (
            r#"{"type":"subscribe","channel":"news"}"#,
            vec!["again news"],
        ),
        (
            r#"{"type":"history","channel":"news"}"#,
            vec!["refuse NoHistory: history of news refused: nothing of it is kept"],
        ),
        (
            r#"{"type":"history","channel":"kept:a","limit":9}"#,
            vec!["history of kept:a since None limit 9"],
        ),
        (
            r#"{"type":"history","channel":"kept:a","since":{"epoch":1,"offset":2},"limit":900}"#,
            vec!["history of kept:a since Some((1, 2)) limit 50"],
        ),
        (
            r#"{"type":"presence","channel":"open:a"}"#,
            vec!["refuse Denied: denied: presence of open:a: subscribe to it first"],
        ),
        (
            r#"{"type":"presence","channel":"news"}"#,
            vec!["refuse NoPresence: presence of news refused: nobody is told who has it"],
        ),
        (
            r#"{"type":"presence","channel":"user:bob"}"#,
            vec!["refuse Denied: denied: presence of user:bob: subscribe to it first"],
        ),
        (
            r#"{"type":"history","channel":"user:bob"}"#,
            vec!["refuse Denied: denied: history of user:bob: it is not yours"],
        ),
        (
            r#"{"type":"subscribe","channel":"more"}"#,
            vec!["refuse TooManyChannels: subscribe to more refused: 2 channels are the limit"],
        ),
        (
            r#"{"type":"unsubscribe","channel":"news"}"#,
            vec!["unsubscribe news", "unsubscribed news"],
        ),
        (
            r#"{"type":"unsubscribe","channel":"news"}"#,
            vec!["unsubscribed news"],
        ),
        (
            r#"{"type":"leave","room":"lobby"}"#,
            vec!["unsubscribe room:lobby", "left room:lobby"],
        ),
        (
            r#"{"type":"chat","channel":"news","message":1}"#,
            vec!["publish chat to news except None only None"],
        ),
        (
            r#"{"type":"chat","channel":"room:a","message":1}"#,
            vec!["publish room to room:a except None only None"],
        ),
        (
            r#"{"type":"chat","channel":"user:bob","message":1}"#,
            vec!["refuse Denied: denied: publish to user:bob: clients may not"],
        ),
        (
            r#"{"type":"chat","channel":"system:notifications","message":1}"#,
            vec!["refuse Denied: denied: publish to system:notifications: clients may not"],
        ),
        (
            r#"{"type":"broadcast","data":1}"#,
            vec![r#"publish broadcast to broadcast except Some("~gw-0.1f") only None"#],
        ),
        (
            r#"{"type":"private","to":"bob","data":1}"#,
            vec!["publish private to user:bob except None only None"],
        ),
        (
            r#"{"type":"private","to":"~gw-1.2","data":1}"#,
            vec![r#"publish private to node:gw-1 except None only Some("~gw-1.2")"#],
        ),
    ] {
        assert_eq!(act(&mut session, &rules, text), expected, "{text}");
    }
}

#[test]
fn nobody_in_particular_may_only_say_who_he_is() {
    let rules = rules(false);
    let at = |now| Context { rules: &rules, now };
    let mut session = Session::new(1, None, NOW);
    let refused = act(&mut session, &rules, r#"{"type":"broadcast","data":1}"#);
    assert_eq!(
        refused,
        [
            r#"refuse Unauthorized: refused before authentication: send {"type":"auth","token":…} first"#
        ]
    );
    assert_eq!(session.next_tick_ms(at(NOW)), Some(10_000));
    assert_eq!(
        session.tick(at(Now {
            monotonic_ms: 14_999,
            ..NOW
        })),
        None
    );
    assert_eq!(
        session.tick(at(Now {
            monotonic_ms: 15_000,
            ..NOW
        })),
        Some(CloseCode::Unauthorized)
    );
    act(
        &mut session,
        &rules,
        &format!(r#"{{"type":"auth","token":"{}"}}"#, token("ann", 1500)),
    );
    assert_eq!(
        session.tick(at(Now {
            monotonic_ms: 15_000,
            ..NOW
        })),
        None
    );
    assert_eq!(session.next_tick_ms(at(NOW)), Some(505_000));
    for (unix_ms, expected) in [
        (1_504_999, None),
        (1_505_000, Some(CloseCode::Unauthorized)),
    ] {
        let now = Now { unix_ms, ..NOW };
        assert_eq!(session.tick(at(now)), expected, "{unix_ms}");
    }
}

#[test]
fn a_token_with_an_unknown_key_waits_for_newer_keys_once() {
    let current = Arc::default();
    let verifier = Verifier::new(
        Policy {
            anonymous: false,
            issuers: Vec::new(),
            audiences: Vec::new(),
            leeway_seconds: 5,
        },
        Arc::clone(&current),
    );
    let rules = Rules {
        verifier,
        ..rules(false)
    };
    let knows = |id: &str| {
        let key = Key::secret(Algorithm::Hs256, Some(id.into()), KEY).unwrap();
        current.store(Arc::new(KeySet::new(vec![key], Remote::Present).unwrap()));
    };
    let header = Header {
        kid: Some("new".into()),
        ..Header::default()
    };
    let key = EncodingKey::from_secret(KEY);
    let token = encode(&header, &json!({"sub": "ann"}), &key).unwrap();
    let auth = format!(r#"{{"type":"auth","token":"{token}"}}"#);
    let came = |session: &mut Session| -> Vec<String> {
        let mut effects = Vec::new();
        let cx = Context {
            rules: &rules,
            now: NOW,
        };
        session.keys_came(&token, None, cx, &mut effects);
        effects.iter().map(show).collect()
    };
    let waits = format!("await keys for {} bytes", token.len());
    let mut session = Session::new(1, None, NOW);

    knows("old");
    assert_eq!(act(&mut session, &rules, &auth)[..], [&*waits]);
    assert_eq!(
        act(&mut session, &rules, &auth),
        ["refuse InProgress: auth refused: another one is under way"]
    );
    assert_eq!(
        came(&mut session),
        [
            "count unknown_key",
            "refuse Unauthorized: token refused: the key that it names (`kid`) is not known here",
        ]
    );
    assert_eq!(act(&mut session, &rules, &auth), [waits]);
    knows("new");
    assert_eq!(came(&mut session), ["subscribe user:ann authenticated"]);
    assert_eq!(
        act(&mut session, &rules, &auth),
        ["authenticated ann until None"]
    );
}

#[test]
fn who_says_later_who_it_is_waits_until_its_user_is_counted_on_all_nodes() {
    let rules = Rules {
        registers: true,
        ..rules(true)
    };
    let mut session = Session::new(7, None, NOW);
    let auth = |user: &str| json!({"type": "auth", "token": token(user, 2_000)}).to_string();
    let said = act(&mut session, &rules, &auth("ann"));
    assert_eq!(said, ["await place for ann"]);
    let said = act(&mut session, &rules, &auth("bob"));
    assert_eq!(
        said,
        ["refuse InProgress: auth refused: another one is under way"]
    );
    let identity = rules.verifier.verify(&token("ann", 2_000), 1_000).unwrap();
    let (cx, mut effects) = (
        Context {
            rules: &rules,
            now: NOW,
        },
        Vec::new(),
    );
    session.place_came(identity, None, cx, &mut effects);
    let said: Vec<String> = effects.iter().map(show).collect();
    assert_eq!(said, ["subscribe user:ann authenticated"]);
    // It has its place already.
    let said = act(&mut session, &rules, &auth("ann"));
    assert_eq!(said, ["authenticated ann until Some(2000)"]);
}

#[test]
fn who_tries_one_token_after_the_other_is_closed() {
    let rules = rules(true);
    let auth = |token: &str| format!(r#"{{"type":"auth","token":"{token}"}}"#);
    let mut session = Session::new(1, None, NOW);
    let mut closed = Vec::new();
    for attempt in 1..=5 {
        // One that counts does not make up for those that did not.
        let _ = act(&mut session, &rules, &auth(&token("ann", 2000)));
        let effects = act(&mut session, &rules, &auth("x"));
        closed.extend(
            effects
                .contains(&"close Unauthorized".to_owned())
                .then_some(attempt),
        );
    }
    assert_eq!(closed, [5]);
}

#[test]
fn who_comes_and_goes_all_the_time_is_told_to_slow_down() {
    let rules = rules(true);
    let mut session = Session::new(1, None, NOW);
    let come = r#"{"type":"subscribe","channel":"open:a"}"#;
    let go = r#"{"type":"unsubscribe","channel":"open:a"}"#;
    let ask = r#"{"type":"presence","channel":"open:a"}"#;
    let denied = "refuse Denied: denied: presence of open:a: subscribe to it first";
    for (expected, seen) in [
        ("subscribe open:a subscribed", "presence of open:a"),
        ("subscribe open:a subscribed", "presence of open:a"),
        (
            "refuse RateLimited: subscribe to open:a refused: too many messages; slow down",
            denied,
        ),
    ] {
        assert_eq!(act(&mut session, &rules, come), [expected]);
        assert_eq!(act(&mut session, &rules, ask), [seen]);
        act(&mut session, &rules, go);
        assert_eq!(act(&mut session, &rules, ask), [denied], "it has left");
    }
    assert!(!session.has_channels(), "what was refused is not held");
}

#[test]
fn rules_that_change_take_away_what_could_not_be_asked_for_now() {
    use gateway_config::{ChannelPolicy, Right};
    let wide = rules(true);
    let narrow = |anonymous: bool, prefix: &str, subscribe: Right| Rules {
        max_channels: 1,
        policies: Policies::new(&[ChannelPolicy {
            prefix: Some(prefix.into()),
            subscribe,
            ..ChannelPolicy::default()
        }]),
        ..rules(anonymous)
    };
    let identity = |user: &str| Identity {
        user: user.into(),
        expires: None,
        grants: None,
    };
    for (who, new, lost) in [
        // That it has more channels than it could have now takes none away.
        (None, narrow(true, "x", Right::Nobody), &[][..]),
        (None, narrow(true, "a", Right::Authenticated), &["a"]),
        (None, narrow(false, "x", Right::Anyone), &["a", "b"]),
        (Some("ann"), narrow(false, "a", Right::Authenticated), &[]),
        (Some("ann"), narrow(false, "a", Right::Granted), &["a"]),
        // Its own channel is part of being connected.
        (Some("ann"), narrow(false, "", Right::Nobody), &["a", "b"]),
    ] {
        let mut session = Session::new(1, who.map(identity), NOW);
        session.open();
        for channel in ["a", "b"] {
            let subscribe = json!({"type": "subscribe", "channel": channel});
            act(&mut session, &wide, &subscribe.to_string());
        }
        let mut effects = Vec::new();
        session.rules_changed(&new, &mut effects);
        let told = effects.iter().filter_map(|effect| match effect {
            Effect::Unsubscribed { channel, id: None } => Some(channel.as_str()),
            _ => None,
        });
        assert_eq!(told.collect::<Vec<_>>(), lost, "{who:?}");
        assert_eq!(effects.len(), 2 * lost.len(), "each is left as well");
        assert!(session.no_longer_granted(&new).is_empty());
    }
}
