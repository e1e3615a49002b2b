//! Publishes at a pace over the HTTP API, on one connection: at most one message of each channel is under way, so that
//! what comes after one that was not taken can have another publisher's name.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use mio::{Registry, Token};
use rand::Rng;
use rand::seq::IndexedRandom;

use super::dialect;
use super::link::Link;
use super::record::Second;
use super::spoken::Payload;
use super::swarm::now_micros;

/// Its socket's token.
pub const PUBLISHER: Token = Token(usize::MAX);
/// Longest wait for an answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between two attempts to connect.
const PAUSE: Duration = Duration::from_millis(200);
/// Names of publishers that one process gives itself: what is left of 53 bits, which JSON carries, beside the run's.
const NAMES: u64 = 1 << 22;
/// Refusals that are printed.
const COMPLAINTS: u32 = 5;

pub struct Settings {
    pub to: Vec<SocketAddr>,
    pub key: Option<String>,
    pub channels: Vec<String>,
    /// Messages a second, over all channels.
    pub rate: f64,
    /// Of a message's data.
    pub bytes: usize,
}

struct Lane {
    publisher: u64,
    sequence: u64,
    is_busy: bool,
}

pub struct Publisher {
    settings: Settings,
    registry: Registry,
    link: Option<Link>,
    /// No earlier attempt.
    next_attempt: Instant,
    /// By channel.
    lanes: Vec<Lane>,
    /// Lanes whose answers are to come, in this order.
    asked: VecDeque<usize>,
    next_lane: usize,
    began: Instant,
    /// Messages that were due so far.
    due: u64,
    next_name: u64,
    complaints: u32,
}

impl Publisher {
    pub fn new(settings: Settings, registry: Registry) -> Publisher {
        let run: u32 = rand::rng().random();
        let now = Instant::now();
        let mut publisher = Publisher {
            lanes: Vec::new(),
            settings,
            registry,
            link: None,
            next_attempt: now,
            asked: VecDeque::new(),
            next_lane: 0,
            began: now,
            due: 0,
            next_name: u64::from(run >> 1) * NAMES,
            complaints: 0,
        };
        for _ in 0..publisher.settings.channels.len() {
            let publisher_name = publisher.name();
            publisher.lanes.push(Lane {
                publisher: publisher_name,
                sequence: 0,
                is_busy: false,
            });
        }
        publisher
    }

    fn name(&mut self) -> u64 {
        self.next_name += 1;
        self.next_name
    }

    /// Sends what is due; what cannot be sent now is not sent later.
    pub fn tick(&mut self, now: Instant, tally: &mut Second) {
        self.keep_connected(now, tally);
        let elapsed = (now - self.began).as_secs_f64();
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a count of messages, which is positive and far below 2^53"
        )]
        let due = (elapsed * self.settings.rate) as u64;
        while self.due < due {
            self.due += 1;
            let lane = self.next_lane;
            self.next_lane = (lane + 1) % self.lanes.len();
            if !self.publish(lane, tally) {
                tally.unpublished += 1;
            }
        }
    }

    /// Whether the message is on its way, or was counted as lost on it.
    fn publish(&mut self, lane: usize, tally: &mut Second) -> bool {
        let channel = &self.settings.channels[lane];
        let state = &mut self.lanes[lane];
        let Some(link) = self.link.as_mut().filter(|_| !state.is_busy) else {
            return false;
        };
        let payload = Payload {
            publisher: state.publisher,
            sequence: state.sequence,
            sent: now_micros(),
        };
        let payload = payload.text(self.settings.bytes);
        let body = format!(r#"{{"channel":"{channel}","data":{payload}}}"#);
        let key = self.settings.key.as_ref();
        let key = key.map_or(String::new(), |key| format!("X-API-Key: {key}\r\n"));
        let request = format!(
            "POST /api/publish HTTP/1.1\r\nHost: pushbench\r\n{key}Content-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        if self.asked.is_empty() {
            // Its answer is waited for from now on.
            link.heard = Instant::now();
        }
        let sent = link.send(request.as_bytes());
        state.sequence += 1;
        state.is_busy = true;
        self.asked.push_back(lane);
        if sent.is_err() {
            // Told once: the event of a connection that was refused does not say so any more.
            self.lost(tally);
        }
        true
    }

    /// What the API answered.
    pub fn event(&mut self, tally: &mut Second) {
        let Some(link) = &mut self.link else { return };
        match link.connected() {
            Ok(true) => {}
            Ok(false) => return,
            Err(_) => return self.lost(tally),
        }
        let is_open = link.flush().is_ok() & matches!(link.read(), Ok(true));
        let mut inbox = std::mem::take(&mut link.inbox);
        while let Some((status, body)) = take_answer(&mut inbox) {
            self.answered(status, &body, tally);
        }
        match &mut self.link {
            Some(link) if is_open => link.inbox = inbox,
            _ => self.lost(tally),
        }
    }

    fn answered(&mut self, status: u16, body: &str, tally: &mut Second) {
        let Some(lane) = self.asked.pop_front() else {
            return;
        };
        self.lanes[lane].is_busy = false;
        if status == 200 {
            tally.published += 1;
            return;
        }
        tally.unpublished += 1;
        self.rename(lane);
        self.complaints += 1;
        if self.complaints <= COMPLAINTS {
            eprintln!("pushbench: the API answers {status} to a publish: {body}");
        }
    }

    /// Whether a message was taken is not known: its number must not look like a gap, nor like a repetition.
    fn rename(&mut self, lane: usize) {
        let publisher = self.name();
        self.lanes[lane] = Lane {
            publisher,
            sequence: 0,
            is_busy: false,
        };
    }

    fn lost(&mut self, tally: &mut Second) {
        self.link = None;
        for lane in std::mem::take(&mut self.asked) {
            tally.unpublished += 1;
            self.rename(lane);
        }
    }

    fn keep_connected(&mut self, now: Instant, tally: &mut Second) {
        if let Some(link) = &self.link {
            if self.asked.is_empty() || now - link.heard < PATIENCE {
                return;
            }
            self.lost(tally);
        }
        if now < self.next_attempt {
            return;
        }
        self.next_attempt = now + PAUSE;
        let to = self.settings.to.choose(&mut rand::rng());
        let begun = to.and_then(|to| Link::begin(*to, None).ok());
        self.link = begun.and_then(|mut link| {
            link.register(&self.registry, PUBLISHER).ok()?;
            Some(link)
        });
    }

    /// Whether every answer has come.
    pub fn is_idle(&self) -> bool {
        self.asked.is_empty()
    }
}

/// Status and body of the first answer, taken off; None: it is not there whole.
fn take_answer(inbox: &mut Vec<u8>) -> Option<(u16, String)> {
    let (status, end) = dialect::status(inbox)?;
    let head = String::from_utf8_lossy(&inbox[..end]).to_ascii_lowercase();
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok())
        .unwrap_or(0);
    let body = String::from_utf8_lossy(inbox.get(end..end + length)?).into_owned();
    inbox.drain(..end + length);
    Some((status, body))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_waits_for_an_api_that_is_not_there() {
        let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let to = vec![closed.local_addr().unwrap()];
        drop(closed);
        let poll = mio::Poll::new().unwrap();
        let settings = Settings {
            to,
            key: None,
            channels: vec!["a".to_owned()],
            rate: 1.0,
            bytes: 1,
        };
        let mut publisher = Publisher::new(settings, poll.registry().try_clone().unwrap());
        let mut tally = Second::default();
        publisher.tick(Instant::now(), &mut tally);
        publisher.tick(Instant::now() + Duration::from_secs(1), &mut tally);
        assert_eq!((publisher.is_idle(), tally.unpublished), (true, 1));
    }

    #[test]
    fn answers_are_taken_one_by_one() {
        let one = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
        let other = "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 4\r\n\r\naway";
        let mut inbox = format!("{one}{other}").into_bytes();
        let rest = inbox.split_off(inbox.len() - 1);
        assert_eq!(take_answer(&mut inbox), Some((200, "ok".to_owned())));
        assert_eq!(take_answer(&mut inbox), None);
        inbox.extend(rest);
        assert_eq!(take_answer(&mut inbox), Some((503, "away".to_owned())));
        assert_eq!(take_answer(&mut inbox), None);
        assert!(inbox.is_empty());
    }
}
