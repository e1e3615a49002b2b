//! Who a connection says to be after its handshake: newer keys for its token, and places for one more connection of its
//! user, on all nodes and on this one.

use super::*;
use crate::auth::Identity;
use crate::limits::keyed::AllTaken;
use crate::protocol::native::RequestId;
use crate::registry::fact::Place;

impl Shard {
    pub(super) fn keys_came(
        &mut self,
        key: ConnectionKey,
        token: &str,
        id: Option<RequestId>,
        now: Now,
    ) {
        self.effects_of(key, now, |session, rules, effects| {
            session.keys_came(token, id, Context { rules, now }, effects);
        });
    }

    /// Has the user counted on all nodes, if there is a limit.
    pub(super) fn await_place(
        &mut self,
        key: ConnectionKey,
        identity: Identity,
        id: Option<RequestId>,
        now: Now,
    ) {
        let users = self.shared.settings.users.as_ref();
        let cap = users.map_or(0, |users| users.cap());
        if cap == 0 {
            return self.place_came(key, (identity, id), Ok(None), now);
        }
        self.tell(Event::AwaitPlace {
            shard: self.id,
            key,
            identity,
            id,
            cap,
        });
    }

    pub(super) fn place_came(
        &mut self,
        key: ConnectionKey,
        (identity, id): (Identity, Option<RequestId>),
        place: Result<Option<Place>, AllTaken>,
        now: Now,
    ) {
        // The place of one that is closing is given up when its time is over.
        let Some(connection) = self.connection(key).filter(|c| c.closing.is_none()) else {
            return;
        };
        let place = match place {
            Ok(place) => place,
            Err(AllTaken) => return self.user_is_full(key, id.as_ref(), now),
        };
        if place.is_some() {
            connection.share.get_or_insert_default().place = place;
        }
        self.effects_of(key, now, |session, rules, effects| {
            session.place_came(identity, id, Context { rules, now }, effects);
        });
    }

    /// Counts a connection under the user that it has just said to be; closes it when that user has enough.
    pub(super) fn take_share(&mut self, key: ConnectionKey, ack: &Ack, now: Now) -> bool {
        let Shard {
            connections,
            shared,
            ..
        } = self;
        let (Ack::Authenticated { identity, .. }, Some(users), Some(connection)) =
            (ack, &shared.settings.users, live(connections, key))
        else {
            return true;
        };
        if connection
            .share
            .as_ref()
            .is_some_and(|share| share.user.is_some())
        {
            return true;
        }
        match users.take(&identity.user) {
            Ok(None) => return true,
            Ok(place) => {
                connection.share.get_or_insert_default().user = place;
                return true;
            }
            Err(AllTaken) => {}
        }
        self.user_is_full(key, ack.id(), now);
        false
    }

    fn user_is_full(&mut self, key: ConnectionKey, id: Option<&RequestId>, now: Now) {
        let refusal = Refusal {
            code: ErrorCode::TooManyConnections,
            message: "auth refused: this user has all the connections it may have".into(),
        };
        self.refuse(key, &refusal, id, now);
        self.begin_close(key, CloseCode::Policy, now);
    }
}
