//! `limits.maxConnectionsPerUser` over all nodes.

use std::time::Duration;

use super::fact::Place;
use super::{Registry, calls};
use crate::limits::keyed::AllTaken;

/// A handshake waits for Redis no longer: without an answer the node's own count alone decides.
const PATIENCE: Duration = Duration::from_secs(1);
/// From the handshake until the connection is written down. One that never comes counts for so long.
const ARRIVAL: Duration = Duration::from_secs(10);

impl Registry {
    /// A place for one more connection of the user on any node, of whom there may be `cap`. None: Redis does not answer,
    /// and it is not for this node to say.
    pub async fn take_place(&self, user: &str, cap: u32) -> Result<Option<Place>, AllTaken> {
        let store = &self.shared.store;
        // While Redis is away no handshake waits for it.
        if cap == 0 || !self.shared.inner().reachable {
            return Ok(None);
        }
        let place = Place(rand::random());
        let ends = (cap, ARRIVAL.as_millis());
        let call = [calls::take_place(store.names(), user, place, ends)];
        let answer = tokio::time::timeout(PATIENCE, store.run(&call)).await;
        let cause = match answer {
            Ok(Ok(answers)) => match answers.first().and_then(|answer| answer.number()) {
                Some(1) => return Ok(Some(place)),
                Some(_) => return Err(AllTaken),
                None => "another program has its key".to_owned(),
            },
            Ok(Err(cause)) => cause,
            Err(_) => "Redis did not answer in time".to_owned(),
        };
        tracing::debug!("connections of {user} on other nodes are not counted: {cause}");
        Ok(None)
    }
}
