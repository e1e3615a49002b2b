//! Who somebody is, and who they stay: the `auth` message.

use super::*;

/// So many tokens of one connection may be refused. Each costs the check of a signature, and who has none that
/// counts by then will not find one by trying.
const MOST_REFUSED_TOKENS: u8 = 5;

impl Session {
    pub(super) fn auth(
        &mut self,
        token: &str,
        id: Option<RequestId>,
        cx: Context<'_>,
        effects: &mut Vec<Effect>,
    ) {
        if self.auth_waits {
            let refusal = Refusal {
                code: ErrorCode::InProgress,
                message: "auth refused: another one is under way".into(),
            };
            effects.push(Effect::Refuse { refusal, id });
            return;
        }
        let verified = cx.rules.verifier.verify(token, cx.now.unix_seconds());
        if verified.as_ref().is_err_and(TokenError::wants_keys) {
            self.auth_waits = true;
            let token = token.to_owned();
            effects.push(Effect::AwaitKeys { token, id });
            return;
        }
        self.answer(verified, id, cx, effects);
    }

    /// The answer to [`Effect::AwaitKeys`]: what the token is now, it is.
    pub fn keys_came(
        &mut self,
        token: &str,
        id: Option<RequestId>,
        cx: Context<'_>,
        effects: &mut Vec<Effect>,
    ) {
        self.auth_waits = false;
        let verified = cx.rules.verifier.verify(token, cx.now.unix_seconds());
        self.answer(verified, id, cx, effects);
    }

    fn answer(
        &mut self,
        verified: Result<Identity, TokenError>,
        id: Option<RequestId>,
        cx: Context<'_>,
        effects: &mut Vec<Effect>,
    ) {
        // That the keys are not there yet is not the client's doing.
        let counts = verified != Err(TokenError::NoKeyYet);
        let Err(refusal) = self.authenticate(verified, &id, cx, effects) else {
            return;
        };
        effects.push(Effect::Refuse { refusal, id });
        self.refused_tokens = self.refused_tokens.saturating_add(u8::from(counts));
        if self.refused_tokens >= MOST_REFUSED_TOKENS {
            effects.push(Effect::Close(CloseCode::Unauthorized));
        }
    }

    fn authenticate(
        &mut self,
        verified: Result<Identity, TokenError>,
        id: &Option<RequestId>,
        cx: Context<'_>,
        effects: &mut Vec<Effect>,
    ) -> Result<(), Refusal> {
        let identity = match verified {
            Ok(identity) => identity,
            Err(error) => {
                let refusal = refused_token(&error);
                effects.push(Effect::TokenRefused(error));
                return Err(refusal);
            }
        };
        if self
            .user
            .as_ref()
            .is_some_and(|user| *user != identity.user)
        {
            // What was delivered to one user must not go on to another.
            return Err(denied(
                "auth as another user: open a new connection for that",
            ));
        }
        if self.user.is_none() && cx.rules.registers {
            self.auth_waits = true;
            let id = id.clone();
            effects.push(Effect::AwaitPlace { identity, id });
        } else {
            self.is_now(identity, id.clone(), cx, effects);
        }
        Ok(())
    }

    /// The answer to [`Effect::AwaitPlace`]: there is one.
    pub fn place_came(
        &mut self,
        identity: Identity,
        id: Option<RequestId>,
        cx: Context<'_>,
        effects: &mut Vec<Effect>,
    ) {
        self.auth_waits = false;
        self.is_now(identity, id, cx, effects);
    }

    fn is_now(
        &mut self,
        identity: Identity,
        id: Option<RequestId>,
        cx: Context<'_>,
        effects: &mut Vec<Effect>,
    ) {
        let known = self.user.replace(identity.user.clone()).is_some();
        self.expires = identity.expires;
        self.grants = identity.grants.clone();
        self.give_up_what_is_no_longer_granted(cx.rules, effects);
        if known {
            effects.push(Effect::Authenticated { identity, id });
            self.begin_named(cx.rules, effects);
        } else {
            let user = identity.user.clone();
            // What the token names follows its acknowledgement.
            effects.push(self.subscribe_own(&user, Ack::Authenticated { identity, id }));
        }
    }

    /// What time alone brings about.
    pub fn tick(&self, cx: Context<'_>) -> Option<CloseCode> {
        let expired = self
            .token_ends(cx.rules)
            .is_some_and(|end| end <= cx.now.unix_seconds());
        let unknown = !self.may_receive(cx.rules);
        let late = unknown && cx.now.monotonic_ms >= self.opened_ms + cx.rules.auth_deadline_ms;
        (expired || late).then_some(CloseCode::Unauthorized)
    }

    /// As the verifier sees it: what it accepts must not be closed at the next tick.
    fn token_ends(&self, rules: &Rules) -> Option<u64> {
        self.expires.map(|expires| rules.verifier.end(expires))
    }

    /// Milliseconds from now until `tick` can have something new to say.
    pub fn next_tick_ms(&self, cx: Context<'_>) -> Option<u64> {
        let expiry = self
            .token_ends(cx.rules)
            .map(|end| end.saturating_mul(1000).saturating_sub(cx.now.unix_ms));
        let auth = (!self.may_receive(cx.rules)).then(|| {
            (self.opened_ms + cx.rules.auth_deadline_ms).saturating_sub(cx.now.monotonic_ms)
        });
        expiry.into_iter().chain(auth).min()
    }

    /// Private messages arrive on the user's own channel: the client is told who it is when that is live, so that
    /// nothing sent to it from then on is lost.
    pub(super) fn subscribe_own(&mut self, user: &str, ack: Ack) -> Effect {
        let channel = ChannelName::user(user).expect("the verifier accepts no other user");
        // With it most connections have two: `push` alone would make room for four.
        self.channels.reserve_exact(2);
        self.channels.push(channel.clone());
        Effect::Subscribe { channel, ack }
    }
}

fn refused_token(error: &TokenError) -> Refusal {
    let code = match error {
        TokenError::NoKeyYet => ErrorCode::Unavailable,
        _ => ErrorCode::Unauthorized,
    };
    Refusal {
        code,
        message: error.to_string(),
    }
}
