//! `Sec-WebSocket-Extensions`: which offer of permessage-deflate is taken, if any (RFC 7692 section 5 and 7.1).

use std::fmt;

use axum::http::header::{HeaderMap, SEC_WEBSOCKET_EXTENSIONS};

use crate::protocol::deflate::Window;

const NAME: &str = "permessage-deflate";

/// What is agreed on. Displayed as the answer's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Agreed {
    pub window: Window,
    /// `server_max_window_bits`, where the client asked for it.
    server_bits: Option<u8>,
}

impl fmt::Display for Agreed {
    /// Both directions without context takeover, whatever was offered: the server may say so unasked, and the
    /// client has to follow (section 7.1.1).
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{NAME}; server_no_context_takeover; client_no_context_takeover"
        )?;
        match self.server_bits {
            Some(bits) => write!(f, "; server_max_window_bits={bits}"),
            None => Ok(()),
        }
    }
}

/// The first offer that can be taken. One that is malformed, or that we cannot keep, is passed over, as the RFC
/// wants: the connection goes on without compression (section 7.1).
pub fn agree(headers: &HeaderMap) -> Option<Agreed> {
    headers
        .get_all(SEC_WEBSOCKET_EXTENSIONS)
        .iter()
        .filter_map(|value| value.to_str().ok())
        // No value that we take has a comma or a semicolon in it, quoted or not.
        .flat_map(|value| value.split(','))
        .find_map(read_offer)
}

fn read_offer(offer: &str) -> Option<Agreed> {
    let mut words = offer.split(';').map(str::trim);
    if words.next()? != NAME {
        return None;
    }
    let mut seen: Vec<&str> = Vec::new();
    let mut server_bits = None;
    for word in words {
        let (name, value) = match word.split_once('=') {
            Some((name, value)) => (name.trim_end(), Some(unquoted(value.trim_start()))),
            None => (word, None),
        };
        if seen.contains(&name) {
            return None;
        }
        seen.push(name);
        match (name, value) {
            ("server_no_context_takeover" | "client_no_context_takeover", None) => {}
            // A hint that the client can do with less; the thread's one decompressor reads any window.
            ("client_max_window_bits", None) => {}
            ("client_max_window_bits", Some(value)) => {
                bits(value)?;
            }
            ("server_max_window_bits", Some(value)) => server_bits = Some(bits(value)?),
            _ => return None,
        }
    }
    Some(Agreed {
        window: Window::within(server_bits.unwrap_or(15))?,
        server_bits,
    })
}

/// A value may be quoted (RFC 6455 section 9.1).
fn unquoted(value: &str) -> &str {
    value
        .strip_prefix('"')
        .and_then(|rest| rest.strip_suffix('"'))
        .unwrap_or(value)
}

/// 8 to 15, without leading zeroes (section 7.1.2).
fn bits(value: &str) -> Option<u8> {
    match value.as_bytes() {
        [digit @ (b'8' | b'9')] => Some(digit - b'0'),
        [b'1', digit @ b'0'..=b'5'] => Some(10 + digit - b'0'),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offers_and_answers() {
        let plain = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";
        let with = |bits: u8| format!("{plain}; server_max_window_bits={bits}");
        for (offer, expected) in [
            ("permessage-deflate", Some((Window::Full, plain.to_owned()))),
            // Chrome, Firefox and Safari.
            (
                "permessage-deflate; client_max_window_bits",
                Some((Window::Full, plain.to_owned())),
            ),
            (
                " permessage-deflate ;client_max_window_bits = 10; server_no_context_takeover;client_no_context_takeover",
                Some((Window::Full, plain.to_owned())),
            ),
            (
                "permessage-deflate; server_max_window_bits=15",
                Some((Window::Full, with(15))),
            ),
            (
                "permessage-deflate; server_max_window_bits=\"10\"",
                Some((Window::Narrow, with(10))),
            ),
            (
                "x-webkit-deflate-frame, permessage-deflate; server_max_window_bits=8, permessage-deflate",
                Some((Window::Full, plain.to_owned())),
            ),
            ("", None),
            ("permessage-bzip2", None),
            ("Permessage-Deflate", None),
            ("permessage-deflate; server_max_window_bits=8", None),
            ("permessage-deflate; server_max_window_bits=7", None),
            ("permessage-deflate; server_max_window_bits=16", None),
            ("permessage-deflate; server_max_window_bits=09", None),
            ("permessage-deflate; server_max_window_bits", None),
            ("permessage-deflate; client_max_window_bits=16", None),
            ("permessage-deflate; client_no_context_takeover=1", None),
            ("permessage-deflate; mystery", None),
            ("permessage-deflate;", None),
            (
                "permessage-deflate; client_max_window_bits; client_max_window_bits",
                None,
            ),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(SEC_WEBSOCKET_EXTENSIONS, offer.parse().unwrap());
            let found = agree(&headers).map(|agreed| (agreed.window, agreed.to_string()));
            assert_eq!(found, expected, "{offer}");
        }
    }

    #[test]
    fn offers_in_several_headers_count_in_order() {
        let mut headers = HeaderMap::new();
        assert_eq!(agree(&headers), None);
        for offer in [
            "permessage-deflate; server_max_window_bits=8",
            "permessage-deflate; server_max_window_bits=9",
            "permessage-deflate",
        ] {
            headers.append(SEC_WEBSOCKET_EXTENSIONS, offer.parse().unwrap());
        }
        assert_eq!(agree(&headers).unwrap().server_bits, Some(9));
    }
}
