use super::*;

const SCOPE: Scope = Scope {
    covers: Covers::Node,
    members: 3,
    bytes: 1_000,
};

fn name(name: &str) -> ChannelName {
    ChannelName::parse(name).unwrap()
}

fn connection(number: u64) -> ConnectionId {
    ConnectionId::new("gw", number)
}

/// Nobody in particular: `""`.
fn join(user: &str) -> Change {
    let user = (!user.is_empty()).then(|| user.into());
    Change::Join { user }
}

fn be(user: &str) -> Change {
    Change::Become { user: user.into() }
}

fn json(list: &List) -> String {
    serde_json::to_string(list).unwrap()
}

/// `-ann +~gw.7`: who left, who came.
fn show(news: &News) -> String {
    let left = news.left.iter().map(|member| format!("-{}", member.text()));
    let came = news.came.iter().map(|member| format!("+{}", member.text()));
    left.chain(came).collect::<Vec<_>>().join(" ")
}

#[test]
fn who_comes_and_goes_is_told_once() {
    let mut table = Table::default();
    for (channel, number, change, told, members) in [
        ("a", 7, join("ann"), "+ann", 1),
        // It subscribed again.
        ("a", 7, join("ann"), "", 1),
        // The same user once more, here and elsewhere.
        ("a", 8, join("ann"), "", 1),
        ("b", 8, join("ann"), "+ann", 2),
        ("a", 9, join(""), "+~gw.9", 3),
        ("a", 10, join(""), "+~gw.a", 4),
        // Who says who it is, is that from then on, and nowhere where it was not.
        ("a", 9, be("bob"), "-~gw.9 +bob", 4),
        ("a", 9, be("bob"), "", 4),
        ("c", 9, be("bob"), "", 4),
        ("a", 10, be("ann"), "-~gw.a", 3),
        ("a", 7, Change::Leave, "", 3),
        // It was never acknowledged, or has left already.
        ("a", 7, Change::Leave, "", 3),
        ("c", 7, Change::Leave, "", 3),
        ("a", 8, Change::Leave, "", 3),
        ("a", 10, Change::Leave, "-ann", 2),
        ("a", 10, join("ann"), "+ann", 3),
        ("a", 10, Change::Leave, "-ann", 2),
        ("a", 9, Change::Leave, "-bob", 1),
        ("b", 8, Change::Leave, "-ann", 0),
    ] {
        let news = table.change(&name(channel), &connection(number), change.clone());
        assert_eq!(
            (show(&news).as_str(), table.members()),
            (told, members),
            "{channel} {number} {change:?}"
        );
    }
    assert!(table.channels.is_empty(), "what is empty vanishes");
}

#[test]
fn a_user_who_is_called_like_a_connection_is_another() {
    let mut table = Table::default();
    table.change(&name("a"), &connection(1), join(""));
    let news = table.change(&name("a"), &connection(2), join("~gw.1"));
    assert_eq!((show(&news).as_str(), table.members()), ("+~gw.1", 2));
}

#[test]
fn lists() {
    let mut table = Table::default();
    let empty = r#"{"members":[],"total":0,"covers":"node"}"#;
    assert_eq!(json(&table.list(&name("a"), SCOPE)), empty);
    for (number, user) in [(18, "bob"), (17, ""), (16, "ann"), (15, "ann"), (14, "")] {
        table.change(&name("a"), &connection(number), join(user));
    }
    assert_eq!(
        json(&table.list(&name("a"), SCOPE)),
        r#"{"members":[{"user":"ann"},{"user":"bob"},{"connection":"~gw.11"}],"total":4,"covers":"node"}"#
    );
    assert_eq!(json(&table.list(&name("b"), SCOPE)), empty);
    for (members, bytes, named) in [(9, 1_000, 4), (0, 1_000, 0), (9, 60, 2), (9, 0, 0)] {
        let scope = Scope {
            covers: Covers::Cluster,
            members,
            bytes,
        };
        let list = table.list(&name("a"), scope);
        assert_eq!((list.members.len(), list.total), (named, 4), "{scope:?}");
        assert!(json(&list).ends_with(r#""total":4,"covers":"cluster"}"#));
    }
}

#[test]
fn a_list_keeps_its_bytes() {
    let mut table = Table::default();
    let node = "n".repeat(128);
    for number in 0..100 {
        // Each of these characters takes two bytes in JSON.
        let user = format!("{}{number}", r#"\""#.repeat(60));
        let odd = (number % 2 == 1).then(|| user.into());
        let connection = ConnectionId::new(&node, u64::MAX - number);
        table.change(&name("a"), &connection, Change::Join { user: odd });
    }
    let scope = Scope {
        members: 100,
        bytes: 20_000,
        ..SCOPE
    };
    let list = table.list(&name("a"), scope);
    let found = json(&list).len();
    assert!(found <= 20_000, "{found} bytes");
    assert!(list.members.len() > 50, "{}", list.members.len());
}
