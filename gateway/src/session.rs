//! What one connection may do and has asked for: a request in, effects out. Pure: the time is an argument.

use std::sync::Arc;

use crate::auth::keys::KeySource;
use crate::auth::{Identity, TokenError, Verifier};
use crate::few::Few;
use crate::history::Range;
use crate::limits::bucket::{Bucket, Pace, Verdict};
use crate::message::{ConnectionId, Message, Position};
use crate::name::{ChannelKind, ChannelName};
use crate::policy::{self, Act, Grants, Policies};
use crate::presence::Scope;
use crate::protocol::close::CloseCode;
use crate::protocol::native::{ErrorCode, Refusal, Request, RequestId};

mod authenticate;
mod given;
mod history;
mod presence;
pub use given::{Gift, may_be_given, named};
pub use presence::Turned;
mod publish;

/// What all sessions of a gateway share.
pub struct Rules {
    pub verifier: Verifier,
    /// Where the verifier's keys come from.
    pub keys: Arc<dyn KeySource>,
    /// This node's name.
    pub node: Arc<str>,
    pub max_channels: usize,
    /// Time that a connection has to say who it is, where that is required, in milliseconds.
    pub auth_deadline_ms: u64,
    pub ping_seconds: u32,
    /// Messages of one connection. None: no limit.
    pub message_pace: Option<Pace>,
    pub policies: Policies,
    /// Most bytes of a channel's log in one answer.
    pub max_history_bytes: usize,
    pub presence: Scope,
    /// Whether connections and their channels are told to the router, which tells the other nodes.
    pub registers: bool,
}

/// Now, by two clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// Milliseconds since the shard began; never goes back.
    pub monotonic_ms: u64,
    /// Milliseconds since the Unix epoch; may jump.
    pub unix_ms: u64,
}

impl Now {
    fn unix_seconds(self) -> u64 {
        self.unix_ms / 1000
    }
}

/// What every decision needs.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    pub rules: &'a Rules,
    pub now: Now,
}

/// In the place of a policy's number: whatever a connection sends. There are far fewer policies.
const ALL_MESSAGES: u16 = u16::MAX;

/// One connection's protocol state.
#[derive(Debug)]
pub struct Session {
    number: u64,
    user: Option<Arc<str>>,
    /// Seconds since the Unix epoch.
    expires: Option<u64>,
    grants: Option<Arc<Grants>>,
    /// Asked for or subscribed, the user's own channel included. At most `max_channels` and that one.
    channels: Vec<ChannelName>,
    given: Option<Box<given::Given>>,
    opened_ms: u64,
    /// A token waits for newer keys, or its user for a place. One at a time: what waits is the client's, and must not grow.
    auth_waits: bool,
    /// In all; bounded by `authenticate`.
    refused_tokens: u8,
    /// What it may still send now: in all, and under each policy that has a pace of its own, by its number. Only
    /// what has a pace and has been used is here.
    spent: Few<(u16, Bucket)>,
    /// The gateway's own: it may use the channel of that kind, and no limit is its.
    self_test: bool,
}

/// Why a subscription was asked for: decides its acknowledgement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ack {
    Subscribed {
        id: Option<RequestId>,
        /// What the client had of the channel last.
        recover: Option<Position>,
    },
    Joined(Option<RequestId>),
    /// The user's own channel, with the handshake: who is welcome can be reached.
    Welcome,
    /// The user's own channel, with the first `auth`.
    Authenticated {
        identity: Identity,
        id: Option<RequestId>,
    },
}

/// What is to be done. In order.
#[derive(Debug)]
pub enum Effect {
    /// Encode and send.
    Pong(Option<RequestId>),
    /// The connection has begun: nothing has been said on it before.
    Welcome,
    /// A token for the user who is known already.
    Authenticated {
        identity: Identity,
        id: Option<RequestId>,
    },
    Subscribe {
        channel: ChannelName,
        ack: Ack,
    },
    /// It has asked for this channel before.
    Again {
        channel: ChannelName,
        ack: Ack,
    },
    /// The acknowledgement follows at once.
    Unsubscribe {
        channel: ChannelName,
    },
    Unsubscribed {
        channel: ChannelName,
        id: Option<RequestId>,
    },
    Left {
        room: ChannelName,
        id: Option<RequestId>,
    },
    Publish {
        channel: ChannelName,
        message: Message,
        id: Option<RequestId>,
    },
    /// A part of the channel's log is wanted.
    History {
        channel: ChannelName,
        range: Range,
        id: Option<RequestId>,
    },
    /// Who has the channel is wanted.
    Presence {
        channel: ChannelName,
        id: Option<RequestId>,
    },
    Refuse {
        refusal: Refusal,
        id: Option<RequestId>,
    },
    /// Nothing for the client, which has its answer.
    TokenRefused(TokenError),
    /// Look for newer keys, and then call [`Session::keys_came`] with this.
    AwaitKeys {
        token: String,
        id: Option<RequestId>,
    },
    /// Count the user's connections on all nodes, and then call [`Session::place_came`] with this.
    AwaitPlace {
        identity: Identity,
        id: Option<RequestId>,
    },
    Close(CloseCode),
}

impl Session {
    /// A session whose handshake may have said who it is.
    pub fn new(number: u64, identity: Option<Identity>, now: Now) -> Self {
        let (user, expires, grants) =
            identity.map_or((None, None, None), |i| (Some(i.user), i.expires, i.grants));
        Session {
            number,
            user,
            expires,
            grants,
            channels: Vec::new(),
            given: None,
            opened_ms: now.monotonic_ms,
            auth_waits: false,
            refused_tokens: 0,
            spent: Few::None,
            self_test: false,
        }
    }

    /// The session of the gateway's own connection to itself.
    pub fn self_test(number: u64, now: Now) -> Self {
        Session {
            self_test: true,
            ..Session::new(number, None, now)
        }
    }

    pub fn is_self_test(&self) -> bool {
        self.self_test
    }

    pub fn id(&self, rules: &Rules) -> ConnectionId {
        ConnectionId::new(&rules.node, self.number)
    }

    pub fn number(&self) -> u64 {
        self.number
    }

    pub fn user(&self) -> Option<&Arc<str>> {
        self.user.as_ref()
    }

    /// Whether it gets what goes to everyone: somebody who has yet to say who he is does not.
    pub fn may_receive(&self, rules: &Rules) -> bool {
        !self.self_test && (self.user.is_some() || rules.verifier.anonymous())
    }

    /// Whether it may use this channel because it is the self-test's.
    fn is_own_test(&self, channel: &ChannelName) -> bool {
        self.self_test && channel.kind() == ChannelKind::SelfTest
    }

    pub fn opened_ms(&self) -> u64 {
        self.opened_ms
    }

    pub fn has_channels(&self) -> bool {
        !self.channels.is_empty()
    }

    pub fn channels(&self) -> &[ChannelName] {
        &self.channels
    }

    /// All its channels, which it forgets: the connection is over.
    pub fn take_channels(&mut self) -> Vec<ChannelName> {
        std::mem::take(&mut self.channels)
    }

    /// A subscription that the broker refused is no longer wanted.
    pub fn forget(&mut self, channel: &ChannelName) {
        self.channels.retain(|c| c != channel);
        self.forget_given(channel);
    }

    /// The effect of the handshake.
    pub fn open(&mut self) -> Effect {
        match self.user.clone() {
            Some(user) => self.subscribe_own(&user, Ack::Welcome),
            None => Effect::Welcome,
        }
    }

    /// Whether one more message may come now. Everything that is answered counts, pings of either kind too.
    pub fn arrives(&mut self, cx: Context<'_>) -> Verdict {
        match cx.rules.message_pace {
            Some(pace) if !self.self_test => {
                let now_ns = cx.now.monotonic_ms.saturating_mul(1_000_000);
                self.bucket(ALL_MESSAGES).charge(pace, now_ns)
            }
            _ => Verdict::Pass,
        }
    }

    /// Carries out a request.
    pub fn handle(
        &mut self,
        request: Request<'_>,
        id: Option<RequestId>,
        cx: Context<'_>,
        effects: &mut Vec<Effect>,
    ) {
        let result = match request {
            Request::Ping => {
                effects.push(Effect::Pong(id));
                return;
            }
            Request::Auth { token } => {
                self.auth(&token, id, cx, effects);
                return;
            }
            _ if !self.may_receive(cx.rules) && !self.self_test => Err(Refusal {
                code: ErrorCode::Unauthorized,
                message:
                    "refused before authentication: send {\"type\":\"auth\",\"token\":…} first"
                        .into(),
            }),
            Request::Subscribe { channel, recover } => {
                let id = id.clone();
                let ack = Ack::Subscribed { id, recover };
                self.subscribe(channel, ack, cx, effects)
            }
            Request::Presence { channel } => self.may_see(&channel, cx.rules).map(|()| {
                let id = id.clone();
                effects.push(Effect::Presence { channel, id });
            }),
            Request::History {
                channel,
                since,
                limit,
            } => self.history(&channel, since, limit, cx.rules).map(|range| {
                let id = id.clone();
                effects.push(Effect::History { channel, range, id });
            }),
            Request::Join { room } => self.subscribe(room, Ack::Joined(id.clone()), cx, effects),
            Request::Unsubscribe { channel } => self.unsubscribe(channel, &id, effects),
            Request::Leave { room } => {
                self.drop_channel(&room, effects);
                effects.push(Effect::Left {
                    room,
                    id: id.clone(),
                });
                Ok(())
            }
            publish => self
                .publish(publish, &id, cx)
                .map(|effect| effects.push(effect)),
        };
        if let Err(refusal) = result {
            effects.push(Effect::Refuse { refusal, id });
        }
    }

    fn subscribe(
        &mut self,
        channel: ChannelName,
        ack: Ack,
        cx: Context<'_>,
        effects: &mut Vec<Effect>,
    ) -> Result<(), Refusal> {
        let rules = cx.rules;
        if !channel.may_subscribe(self.user.as_deref()) && !self.is_own_test(&channel) {
            return Err(denied(&format!("subscribe to {channel}: it is not yours")));
        }
        if !self.is_allowed(Act::Subscribe, &channel, rules) {
            return Err(denied(&format!("subscribe to {channel}")));
        }
        if self.channels.contains(&channel) {
            effects.push(Effect::Again { channel, ack });
            return Ok(());
        }
        self.has_room(&channel, rules)?;
        self.may_come(&channel, cx)?;
        self.channels.push(channel.clone());
        effects.push(Effect::Subscribe { channel, ack });
        Ok(())
    }

    /// By the policy of the channel, or because it was given. The user's own channel is not asked for: it is part of being connected.
    fn is_allowed(&self, act: Act, channel: &ChannelName, rules: &Rules) -> bool {
        let name = channel.as_str();
        let policy = rules.policies.of(name);
        self.is_own_test(channel)
            || (act == Act::Subscribe && self.is_given(channel))
            || policy::allows(
                policy,
                act,
                name,
                self.user.is_some(),
                self.grants.as_deref(),
            )
    }

    /// The rules are others now: the client is told which of its channels they take away. That it has more than it
    /// could ask for now takes none away.
    pub fn rules_changed(&mut self, rules: &Rules, effects: &mut Vec<Effect>) {
        // Policies may have moved, and with them their numbers: what was spent under them is forgotten.
        self.spent.retain(|(policy, _)| *policy == ALL_MESSAGES);
        self.give_up_what_is_no_longer_granted(rules, effects);
    }

    /// Its channels that it could not subscribe to now.
    pub fn no_longer_granted(&self, rules: &Rules) -> Vec<ChannelName> {
        let own = self
            .user
            .as_deref()
            .and_then(|user| ChannelName::user(user).ok());
        let may_receive = self.may_receive(rules) || self.self_test;
        let lost = |channel: &&ChannelName| {
            let allowed = may_receive && self.is_allowed(Act::Subscribe, channel, rules);
            Some(*channel) != own.as_ref() && !allowed
        };
        self.channels.iter().filter(lost).cloned().collect()
    }

    /// A new token may name fewer channels than the one before, and a new policy may want more of who has them.
    fn give_up_what_is_no_longer_granted(&mut self, rules: &Rules, effects: &mut Vec<Effect>) {
        for channel in self.no_longer_granted(rules) {
            self.drop_channel(&channel, effects);
            effects.push(Effect::Unsubscribed { channel, id: None });
        }
    }

    fn unsubscribe(
        &mut self,
        channel: ChannelName,
        id: &Option<RequestId>,
        effects: &mut Vec<Effect>,
    ) -> Result<(), Refusal> {
        if self
            .user
            .as_ref()
            .is_some_and(|user| channel.as_str().strip_prefix("user:") == Some(user))
        {
            return Err(denied(&format!(
                "unsubscribe from {channel}: it is how private messages reach you"
            )));
        }
        self.drop_channel(&channel, effects);
        effects.push(Effect::Unsubscribed {
            channel,
            id: id.clone(),
        });
        Ok(())
    }

    fn drop_channel(&mut self, channel: &ChannelName, effects: &mut Vec<Effect>) {
        let before = self.channels.len();
        self.forget(channel);
        if self.channels.len() < before {
            effects.push(Effect::Unsubscribe {
                channel: channel.clone(),
            });
        }
    }
}

fn denied(what: &str) -> Refusal {
    Refusal {
        code: ErrorCode::Denied,
        message: format!("denied: {what}"),
    }
}

impl Ack {
    /// Whether it stands for the user's own channel, without which a connection must not live: private messages
    /// would be lost and nobody told.
    pub fn is_own(&self) -> bool {
        matches!(self, Ack::Welcome | Ack::Authenticated { .. })
    }

    pub fn id(&self) -> Option<&RequestId> {
        match self {
            Ack::Subscribed { id, .. } | Ack::Joined(id) | Ack::Authenticated { id, .. } => {
                id.as_ref()
            }
            Ack::Welcome => None,
        }
    }
}

#[cfg(test)]
#[path = "session_tests.rs"]
#[expect(clippy::too_many_lines, reason = "tables")]
mod tests;
