use super::*;

/// RFC 6455 section 1.3's own key.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        let name = header::HeaderName::from_bytes(name.as_bytes()).unwrap();
        headers.append(name, value.parse().unwrap());
    }
    headers
}

#[test]
fn offers() {
    let base = [
        ("connection", "keep-alive, Upgrade"),
        ("upgrade", "WebSocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", KEY),
    ];
    let with = |name: &'static str, value: &'static str| {
        let kept = base.into_iter().filter(|(known, _)| *known != name);
        kept.chain((!value.is_empty()).then_some((name, value)))
            .collect::<Vec<_>>()
    };
    let twice = [base.to_vec(), vec![("sec-websocket-key", KEY)]].concat();
    for (what, given, expected) in [
        ("as browsers send it", base.to_vec(), Ok(false)),
        (
            "ours",
            with("sec-websocket-protocol", "x, pushcluster.v1"),
            Ok(true),
        ),
        (
            "unknown",
            with("sec-websocket-protocol", "mqtt"),
            Err((400, "bad_handshake")),
        ),
        (
            "other case",
            with("sec-websocket-protocol", "PushCluster.v1"),
            Err((400, "bad_handshake")),
        ),
        (
            "no upgrade",
            with("upgrade", ""),
            Err((426, "upgrade_required")),
        ),
        (
            "h2c",
            with("upgrade", "h2c"),
            Err((426, "upgrade_required")),
        ),
        (
            "no connection",
            with("connection", "close"),
            Err((426, "upgrade_required")),
        ),
        (
            "version 8",
            with("sec-websocket-version", "8"),
            Err((426, "bad_version")),
        ),
        (
            "no version",
            with("sec-websocket-version", ""),
            Err((426, "bad_version")),
        ),
        (
            "no key",
            with("sec-websocket-key", ""),
            Err((400, "bad_handshake")),
        ),
        (
            "short key",
            with("sec-websocket-key", "c2hvcnQ="),
            Err((400, "bad_handshake")),
        ),
        (
            "key that is no base64",
            with("sec-websocket-key", "!!"),
            Err((400, "bad_handshake")),
        ),
        ("two keys", twice, Err((400, "bad_handshake"))),
        ("empty body", with("content-length", "0"), Ok(false)),
        (
            "body",
            with("content-length", "5"),
            Err((400, "bad_handshake")),
        ),
        (
            "body of chunks",
            with("transfer-encoding", "chunked"),
            Err((400, "bad_handshake")),
        ),
    ] {
        let found = read_offer(&Method::GET, &headers(&given));
        if let Ok(offer) = &found {
            assert_eq!(
                offer.accept, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=",
                "RFC 6455 section 1.3"
            );
        }
        let found = found
            .map(|offer| offer.subprotocol)
            .map_err(|p| (p.status.as_u16(), p.code));
        assert_eq!(found, expected, "{what}");
    }
    let post = read_offer(&Method::POST, &headers(&base)).unwrap_err();
    assert_eq!(post.status, StatusCode::METHOD_NOT_ALLOWED);
}

#[test]
fn origins() {
    let allowed = ["https://a.example".to_owned()];
    for (origin, list, good) in [
        (None, &allowed[..], true),
        (Some("https://a.example"), &allowed[..], true),
        (Some("https://b.example"), &allowed[..], false),
        (Some("http://a.example"), &allowed[..], false),
        (Some("https://a.example.evil"), &allowed[..], false),
        (Some("null"), &allowed[..], false),
        (Some("https://b.example"), &[], true),
    ] {
        let given: Vec<_> = origin
            .map(|origin| ("origin", origin))
            .into_iter()
            .collect();
        assert_eq!(
            check_origin(&headers(&given), list).is_ok(),
            good,
            "{origin:?}"
        );
    }
}

#[test]
fn tokens_in_header_and_query() {
    for (uri, authorization, expected) in [
        ("/ws", "", Ok(None)),
        ("/ws?token=", "", Ok(None)),
        ("/ws?token=a.b.c&x=1", "", Ok(Some("a.b.c"))),
        ("/ws?token=a%2Eb", "", Ok(Some("a.b"))),
        ("/ws?token=query", "Bearer header", Ok(Some("header"))),
        ("/ws", "bearer  header", Ok(Some("header"))),
        ("/ws?token=query", "Basic x", Ok(Some("query"))),
        ("/ws?token=a&token=b", "", Err(400)),
    ] {
        let mut request = axum::http::Request::builder().uri(uri);
        if !authorization.is_empty() {
            request = request.header("authorization", authorization);
        }
        let (parts, ()) = request.body(()).unwrap().into_parts();
        let found = token(&parts).map_err(|p| p.status.as_u16());
        assert_eq!(
            found.as_ref().map(Option::as_deref),
            expected.as_ref().map(|o| *o),
            "{uri}"
        );
    }
}
