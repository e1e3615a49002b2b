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
        if self.waits_for_keys {
            let refusal = Refusal {
                code: ErrorCode::InProgress,
                message: "auth refused: another one is under way".into(),
            };
            effects.push(Effect::Refuse { refusal, id });
            return;
        }
        let verified = cx.rules.verifier.verify(token, cx.now.unix_seconds());
        if verified.as_ref().is_err_and(TokenError::wants_keys) {
            self.waits_for_keys = true;
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
        self.waits_for_keys = false;
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
        let known = self.user.replace(identity.user.clone()).is_some();
        self.expires = identity.expires;
        self.grants = identity.grants.clone();
        self.give_up_what_is_no_longer_granted(cx.rules, effects);
        let id = id.clone();
        if known {
            effects.push(Effect::Authenticated { identity, id });
            self.begin_named(cx.rules, effects);
        } else {
            let user = identity.user.clone();
            // What the token names follows its acknowledgement.
            effects.push(self.subscribe_own(&user, Ack::Authenticated { identity, id }));
        }
        Ok(())
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
