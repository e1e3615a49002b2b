//! Bytes of an event stream → what the gateway said: HTTP/1.1 chunks (RFC 9112 section 7.1), and events as an `EventSource`
//! reads them (WHATWG HTML section 9.2.6). Pure.

use super::dialect::Heard;
use super::spoken::understand;

#[derive(Debug, Default)]
pub struct EventStream {
    /// Bytes of this chunk that have not come, with the two that end it.
    left: usize,
    /// The beginning of a line.
    line: Vec<u8>,
    /// Of the event that is not complete.
    data: Vec<u8>,
    id: Option<String>,
    /// As after the last event: what to send as `Last-Event-ID`.
    pub last_id: String,
}

impl EventStream {
    /// Another connection begins. It knows where it was.
    pub fn begin(&mut self) {
        *self = EventStream {
            last_id: std::mem::take(&mut self.last_id),
            ..EventStream::default()
        };
    }

    /// Takes what can be understood off the front.
    pub fn take(&mut self, inbox: &mut Vec<u8>) -> Vec<Heard> {
        let mut heard = Vec::new();
        let mut at = 0;
        loop {
            let rest = &inbox[at..];
            if self.left == 0 {
                let Some(end) = rest.windows(2).position(|two| two == b"\r\n") else {
                    break;
                };
                let size = std::str::from_utf8(&rest[..end]).ok();
                let Some(size) = size.and_then(|size| usize::from_str_radix(size, 16).ok()) else {
                    heard.push(Heard::Strange("no size of a chunk".to_owned()));
                    break;
                };
                at += end + 2;
                // After the last chunk, which is empty, the socket ends.
                self.left = size + 2;
                continue;
            }
            let content = rest.len().min(self.left.saturating_sub(2));
            self.lines(&rest[..content], &mut heard);
            let ending = (rest.len() - content).min(self.left - content);
            let ending = if self.left - content <= 2 { ending } else { 0 };
            at += content + ending;
            self.left -= content + ending;
            if self.left > 0 {
                break;
            }
        }
        inbox.drain(..at);
        heard
    }

    fn lines(&mut self, bytes: &[u8], heard: &mut Vec<Heard>) {
        let mut parts = bytes.split(|byte| *byte == b'\n').peekable();
        while let Some(part) = parts.next() {
            self.line.extend_from_slice(part);
            if parts.peek().is_some() {
                let line = std::mem::take(&mut self.line);
                self.line(&line, heard);
            }
        }
    }

    fn line(&mut self, line: &[u8], heard: &mut Vec<Heard>) {
        if line.is_empty() {
            if let Some(id) = self.id.take() {
                self.last_id = id;
            }
            if !self.data.is_empty() {
                let data = std::mem::take(&mut self.data);
                heard.push(understand(&data).map_or_else(Heard::Strange, Heard::Said));
            }
            return;
        }
        let value = |field: &[u8]| {
            let value = line.strip_prefix(field)?.strip_prefix(b":")?;
            Some(value.strip_prefix(b" ").unwrap_or(value))
        };
        if let Some(data) = value(b"data") {
            if !self.data.is_empty() {
                self.data.push(b'\n');
            }
            self.data.extend_from_slice(data);
        } else if let Some(id) = value(b"id") {
            self.id = Some(String::from_utf8_lossy(id).into_owned());
        }
        // A comment, or `retry`, which says the same as the `reconnect` before it.
    }
}

/// What a client asks for. Names of channels are of signs that an address may have.
pub fn request<'a>(
    channels: impl Iterator<Item = &'a str>,
    token: Option<&str>,
    last_id: &str,
) -> String {
    let channels = channels.map(|channel| format!("channel={channel}"));
    let token = token.map(|token| format!("token={token}"));
    let query: Vec<_> = channels.chain(token).collect();
    let last_id = match last_id {
        "" => String::new(),
        id => format!("Last-Event-ID: {id}\r\n"),
    };
    format!(
        "GET /sse?{} HTTP/1.1\r\nHost: pushbench\r\nAccept: text/event-stream\r\n{last_id}\r\n",
        query.join("&")
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pushbench::spoken::Said;

    const TEXT: &str = concat!(
        ":\n\n",
        "data: {\"type\":\"reconnect\",\n",
        "data: \"after_ms\":5}\n\n",
        "retry: 5\n\n",
        "id: 7:12,,9:3\ndata:{\"type\":\"pong\"}\n\n",
        "id: never\ndata: {",
    );

    /// In chunks of so many bytes.
    fn chunked(size: usize) -> Vec<u8> {
        let chunks = TEXT.as_bytes().chunks(size).map(|chunk| {
            let text = std::str::from_utf8(chunk).unwrap();
            format!("{:x}\r\n{text}\r\n", chunk.len())
        });
        (chunks.collect::<String>() + "0\r\n\r\n").into_bytes()
    }

    #[test]
    fn events_come_out_however_they_are_cut() {
        let expected = [
            Heard::Said(Said::Reconnect { after_ms: 5 }),
            Heard::Said(Said::Other),
        ];
        for chunk in [1, 2, 7, 16, 1_000] {
            let bytes = chunked(chunk);
            for step in [1, 2, 3, 5, 64, bytes.len()] {
                let mut stream = EventStream::default();
                let (mut inbox, mut heard) = (Vec::new(), Vec::new());
                for part in bytes.chunks(step) {
                    inbox.extend_from_slice(part);
                    heard.extend(stream.take(&mut inbox));
                }
                assert_eq!(heard, expected, "chunks of {chunk}, in steps of {step}");
                assert_eq!((&*stream.last_id, inbox.len()), ("7:12,,9:3", 0));
            }
        }
    }

    #[test]
    fn another_connection_begins_with_the_last_id_alone() {
        let mut stream = EventStream::default();
        stream.take(&mut chunked(64));
        stream.begin();
        let heard = stream.take(&mut b"13\r\ndata: {\"type\":\"a\"}\n\r\n".to_vec());
        assert_eq!(heard, [], "an event ends with an empty line");
        let request = request(["a", "b"].into_iter(), Some("t"), &stream.last_id);
        assert!(request.starts_with("GET /sse?channel=a&channel=b&token=t HTTP/1.1\r\n"));
        assert!(
            request.contains("\r\nLast-Event-ID: 7:12,,9:3\r\n"),
            "{request}"
        );
        assert!(!super::request([].into_iter(), None, "").contains("Last"));
    }

    #[test]
    fn what_is_no_chunk_is_strange() {
        let heard = EventStream::default().take(&mut b"x\r\n".to_vec());
        assert!(matches!(heard[..], [Heard::Strange(_)]));
    }
}
