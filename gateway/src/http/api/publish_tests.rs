use super::*;

#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn bodies() {
    let read = |body: &str| to_channel(body.as_bytes(), 20).map(|outgoing| outgoing.message);
    for (body, field, status, message) in [
        (
            "",
            "",
            400,
            "the body is not a JSON object: EOF while parsing a value at line 1 column 0",
        ),
        (
            "[1]",
            "",
            400,
            "the body is not a JSON object: invalid type: sequence, expected a map at line 1 column 0",
        ),
        ("{}", "channel", 422, "channel is missing"),
        (
            r#"{"channel":5,"data":1}"#,
            "channel",
            422,
            "channel must be a text",
        ),
        (
            r#"{"channel":"","data":1}"#,
            "channel",
            422,
            "the channel name is empty",
        ),
        (
            r#"{"channel":"node:a","data":1}"#,
            "channel",
            422,
            "publish to \"node:a\": names that begin with node: are the gateway's own",
        ),
        (r#"{"channel":"a"}"#, "data", 422, "data is missing"),
        (
            r#"{"channel":"a","data":"123456789012345678901"}"#,
            "data",
            413,
            "data is longer than 20 bytes",
        ),
        (
            r#"{"channel":"a","data":1,"exclude":"ann"}"#,
            "exclude",
            422,
            "exclude: \"ann\" is not a connection",
        ),
        (
            r#"{"channel":"a","data":1,"exlude":"~n.1"}"#,
            "exlude",
            422,
            "\"exlude\" is not known here; known: channel, data, exclude",
        ),
    ] {
        let problem = read(body).unwrap_err();
        assert_eq!(
            (
                problem.field.as_deref().unwrap_or(""),
                problem.status.as_u16(),
                &*problem.message
            ),
            (field, status, message),
            "{body}"
        );
    }
    let message = read(r#"{"channel":"room:a","data": {"x": 1 },"exclude":"~n.a"}"#).unwrap();
    assert_eq!(message.data.get(), r#"{"x": 1 }"#, "as it was written");
    assert_eq!(message.kind, MessageKind::Room);
    assert_eq!(message.except.unwrap().as_str(), "~n.a");
    assert_eq!(
        read(r#"{"channel":"user:ann","data":null}"#).unwrap().kind,
        MessageKind::Private
    );
}

#[test]
fn addresses() {
    let longest = "x".repeat(250);
    let too_long = "x".repeat(251);
    type Make = fn(&str) -> Result<Address, Problem>;
    for (make, given, expected) in [
        (Address::channel as Make, "news", Ok(("news", None))),
        (Address::channel, "user:ann", Ok(("user:ann", None))),
        (Address::channel, "broadcast", Ok(("broadcast", None))),
        (Address::channel, "node:a", Err("channel")),
        (Address::channel, "", Err("channel")),
        (Address::user, "ann", Ok(("user:ann", None))),
        (Address::user, "ann:x y", Ok(("user:ann:x y", None))),
        (
            Address::user,
            &longest,
            Ok((&*format!("user:{longest}"), None)),
        ),
        (Address::user, &too_long, Err("user")),
        (Address::user, "", Err("user")),
        (Address::user, "~n.1", Err("user")),
        (Address::user, "a\u{7}", Err("user")),
        (Address::connection, "~n.a", Ok(("node:n", Some("~n.a")))),
        (
            Address::connection,
            "~a.b.ff",
            Ok(("node:a.b", Some("~a.b.ff"))),
        ),
        (Address::connection, "ann", Err("connection")),
        (Address::connection, "~n.01", Err("connection")),
        (Address::connection, "~n.", Err("connection")),
        (Address::connection, "~n.xyz", Err("connection")),
        (Address::connection, "~a\nb.1", Err("connection")),
    ] {
        let found = make(given);
        let found = match &found {
            Ok(address) => Ok((
                address.channel.as_str(),
                address.only.as_ref().map(ConnectionId::as_str),
            )),
            Err(problem) => Err(problem.field.as_deref().unwrap_or("")),
        };
        assert_eq!(found, expected, "{given:?}");
    }
}

#[test]
fn one_connection_has_nobody_to_leave_out() {
    let to = || Address::connection("~n.1").unwrap();
    let problem = to_known(to(), br#"{"data":1,"exclude":"~n.2"}"#, 20).unwrap_err();
    assert_eq!(
        problem.message,
        "\"exclude\" is not known here; known: data"
    );
    let made = to_known(to(), br#"{"data":1}"#, 20).unwrap().message;
    assert_eq!((made.kind, made.except), (MessageKind::Private, None));
}
