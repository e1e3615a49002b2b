//! One client: where it stands with the gateways, and what it has heard in its channels. Decisions only; the sockets are
//! moved by the swarm.

use std::time::{Duration, Instant};

use super::comeback::{End, Next};
use super::dialect::Dialect;
use super::judge::{Found, Judge, Position};
use super::link::Link;

/// Longest way from the first packet to `welcome`.
pub const OPENING: Duration = Duration::from_secs(20);

pub enum State {
    /// It has not come, or has left because there are fewer now.
    Absent,
    /// Away until a timer says otherwise.
    Waiting,
    Connecting(Link),
    /// The request is sent.
    Shaking(Link),
    /// Switched, and not welcome yet.
    Greeting(Link),
    There {
        link: Link,
        /// Index of the node's name.
        node: usize,
        /// After so long without a sign of life the gateway is gone.
        silence: Duration,
    },
    /// Coming back would not help.
    Never,
}

pub struct Subscription {
    /// Index of the channel's name.
    pub channel: usize,
    pub judge: Judge,
    /// On the connection of now.
    pub is_acknowledged: bool,
    /// Messages up to this offset were missed, and are not live.
    pub missed_to: u64,
}

pub struct Client {
    /// Among those of all processes.
    pub number: usize,
    pub state: State,
    pub subscriptions: Vec<Subscription>,
    pub dialect: Dialect,
    /// Another one with each change of the state: timers of before mean nothing then.
    pub generation: u32,
    /// Attempts in a row without a `welcome`.
    failures: u32,
    /// Index of the address that it went to last.
    went_to: usize,
    /// When a `reconnect` message says to come back.
    pub advice: Option<Instant>,
    was_there: bool,
    pub reconnects: u64,
    /// Of them, since the stage began.
    pub reconnects_of_stage: u64,
}

impl Client {
    pub fn new(
        number: usize,
        dialect: Dialect,
        channels: impl IntoIterator<Item = usize>,
    ) -> Client {
        let subscription = |channel| Subscription {
            channel,
            judge: Judge::default(),
            is_acknowledged: false,
            missed_to: 0,
        };
        Client {
            number,
            state: State::Absent,
            subscriptions: channels.into_iter().map(subscription).collect(),
            dialect,
            generation: 0,
            failures: 0,
            went_to: 0,
            advice: None,
            was_there: false,
            reconnects: 0,
            reconnects_of_stage: 0,
        }
    }

    /// Index of the address that it goes to next, of at least one, by a chance from 0 to 1: any, but after a failure
    /// another one.
    pub fn goes_to(&mut self, addresses: usize, chance: f64) -> usize {
        let is_refused = self.failures > 0 && addresses > 1;
        let choice = if is_refused { addresses - 1 } else { addresses };
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "an index below a few thousand"
        )]
        let nth = ((choice as f64 * chance) as usize).min(choice - 1);
        let skips = is_refused && nth >= self.went_to;
        self.went_to = nth + usize::from(skips);
        self.went_to
    }

    /// Gives out the state of before.
    pub fn change(&mut self, state: State) -> State {
        self.generation = self.generation.wrapping_add(1);
        std::mem::replace(&mut self.state, state)
    }

    /// It is welcome. Whether it has been before.
    pub fn welcomed(&mut self) -> bool {
        self.failures = 0;
        self.advice = None;
        let came_back = std::mem::replace(&mut self.was_there, true);
        self.reconnects += u64::from(came_back);
        self.reconnects_of_stage += u64::from(came_back);
        came_back
    }

    /// The server has kept its subscriptions. Of what was missed it has to say nothing: it has come.
    pub fn resumed(&mut self) {
        for subscription in &mut self.subscriptions {
            subscription.is_acknowledged = true;
        }
    }

    /// What it does after its connection ended like this; `chance` from 0 to 1.
    pub fn ended(&mut self, end: &End, now: Instant, chance: f64) -> Next {
        if self.is_there() && !self.hears_all() {
            self.dialect.give_up_session();
        }
        for subscription in &mut self.subscriptions {
            subscription.is_acknowledged = false;
        }
        let advice = self
            .advice
            .take()
            .map(|due| due.saturating_duration_since(now));
        let next = self.dialect.next(end, advice, self.failures, chance);
        if !matches!(self.state, State::There { .. }) {
            self.failures += 1;
        }
        next
    }

    /// It goes because there are to be fewer; if it comes again it is somebody new.
    pub fn leave(&mut self) -> State {
        for subscription in &mut self.subscriptions {
            subscription.judge = Judge::default();
            subscription.is_acknowledged = false;
            subscription.missed_to = 0;
        }
        self.dialect.forget();
        (self.failures, self.was_there, self.advice) = (0, false, None);
        self.change(State::Absent)
    }

    /// The end that nobody announced, if there is one by now.
    pub fn overdue(&self, now: Instant) -> Option<End> {
        match &self.state {
            State::There { link, silence, .. }
                if now - self.dialect.sign_of_life(link.heard) > *silence =>
            {
                Some(End::Silent)
            }
            State::Connecting(link) | State::Shaking(link) | State::Greeting(link)
                if now - link.heard > OPENING =>
            {
                Some(End::Unreachable)
            }
            _ => None,
        }
    }

    pub fn is_there(&self) -> bool {
        matches!(self.state, State::There { .. })
    }

    /// Connected, and acknowledged in all its channels.
    pub fn hears_all(&self) -> bool {
        self.is_there() && self.subscriptions.iter().all(|s| s.is_acknowledged)
    }

    /// Messages that it has not heard up to there, by index of channel.
    pub fn behind(&self, tops: &[Option<Position>]) -> u64 {
        let behind = |s: &Subscription| tops[s.channel].map_or(0, |top| s.judge.behind(top));
        self.subscriptions.iter().map(behind).sum()
    }

    /// The subscription of a channel.
    pub fn on(&mut self, channel: usize) -> Option<&mut Subscription> {
        self.subscriptions
            .iter_mut()
            .find(|subscription| subscription.channel == channel)
    }
}

/// What one event of a subscription showed, and where it stood before.
pub struct Judged {
    pub found: Found,
    pub before: Option<Position>,
}

impl Subscription {
    pub fn judged(&mut self, event: impl FnOnce(&mut Judge) -> Found) -> Judged {
        let before = self.judge.position();
        Judged {
            found: event(&mut self.judge),
            before,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pushbench::dialect::Heard;
    use crate::pushbench::socketio::SocketIo;
    use crate::wire;

    const SILENCE: Duration = Duration::from_secs(45);

    /// In one channel, which nobody has acknowledged.
    fn there(dialect: Dialect) -> Client {
        let server = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let link = Link::begin(server.local_addr().unwrap(), None).unwrap();
        let mut client = Client::new(0, dialect, [0]);
        let (node, silence) = (0, SILENCE);
        client.change(State::There {
            link,
            node,
            silence,
        });
        client
    }

    /// Another connection of a Socket.IO client: with what it connects.
    fn connects(client: &mut Client, now: Instant) -> Vec<u8> {
        client.dialect.request([].into_iter(), None);
        let heard = hears(
            client,
            r#"0{"pingInterval":25000,"pingTimeout":20000}"#,
            now,
        );
        let [Heard::Asked(connect)] = &heard[..] else {
            panic!("{heard:?}")
        };
        connect.clone()
    }

    fn hears(client: &mut Client, packet: &str, now: Instant) -> Vec<Heard> {
        let mut inbox = Vec::new();
        wire::push_plain(wire::TEXT, packet.as_bytes(), &mut inbox);
        client.dialect.take(&mut inbox, now)
    }

    #[test]
    fn a_silent_gateway_is_given_up() {
        let later = Instant::now() + Duration::from_secs(1_000);
        let mut socketio = there(Dialect::SocketIo(SocketIo::default()));
        connects(&mut socketio, later);
        let mut native = there(Dialect::Native);
        if let State::There { link, .. } = &mut native.state {
            link.heard = later;
        }
        for client in [socketio, native] {
            assert_eq!(client.overdue(later + SILENCE), None);
            let over = later + SILENCE + Duration::from_millis(1);
            assert_eq!(client.overdue(over), Some(End::Silent));
        }
    }

    #[test]
    fn a_session_is_resumed_if_all_of_it_is_known() {
        for is_acknowledged in [true, false] {
            let mut client = there(Dialect::SocketIo(SocketIo::default()));
            let now = Instant::now();
            let begins = connects(&mut client, now);
            hears(&mut client, r#"40{"sid":"s","pid":"p"}"#, now);
            hears(&mut client, r#"42["welcome",{"node":"n"},"o"]"#, now);
            client.subscriptions[0].is_acknowledged = is_acknowledged;
            client.ended(&End::Cut, now, 0.5);
            let resumes = connects(&mut client, now) != begins;
            assert_eq!(resumes, is_acknowledged);
        }
    }

    #[test]
    fn after_a_failure_it_goes_somewhere_else() {
        let mut client = Client::new(0, Dialect::Native, []);
        for (failures, addresses, went_to, chance, expected) in [
            (0, 1, 0, 0.9, 0),
            (0, 3, 0, 0.0, 0),
            (0, 3, 1, 0.5, 1),
            (0, 3, 0, 1.0, 2),
            (5, 1, 0, 0.9, 0),
            (1, 2, 0, 0.0, 1),
            (1, 2, 1, 0.9, 0),
            (1, 3, 1, 0.4, 0),
            (1, 3, 1, 0.6, 2),
            (1, 3, 2, 1.0, 1),
        ] {
            (client.failures, client.went_to) = (failures, went_to);
            let found = client.goes_to(addresses, chance);
            assert_eq!(found, expected, "{failures} {addresses} {went_to} {chance}");
        }
    }
}
