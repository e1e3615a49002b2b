//! Who is let in: what a handshake must pass besides being one. Each refusal is counted under its limit.

use std::net::IpAddr;
use std::sync::Arc;

use axum::http::{HeaderMap, StatusCode};
use gateway_config::Network;

use super::Problem;
use crate::auth::Identity;
use crate::limits::address::{self, AddressKey};
use crate::limits::keyed::AllTaken;
use crate::limits::{Limit, Permit, Places, Share};
use crate::memory::Pressure;
use crate::metrics::Metrics;
use crate::protocol::close::CloseCode;
use crate::registry::Registry;

/// Where a client comes from.
pub struct Origin<'a> {
    /// Of its TCP connection.
    pub peer: Option<IpAddr>,
    /// Proxies that are believed.
    pub trusted: &'a [Network],
    pub noted: Noted,
}

/// Whether a connection keeps the address of its client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Noted {
    Never,
    /// Where its socket does not have it.
    Forwarded,
    /// What answers it has no socket to ask.
    Always,
}

impl Noted {
    fn of(self, client: IpAddr, peer: IpAddr) -> Option<IpAddr> {
        let noted = match self {
            Noted::Never => false,
            Noted::Forwarded => client != peer.to_canonical(),
            Noted::Always => true,
        };
        noted.then_some(client)
    }
}

/// The limits that every handshake meets.
pub struct Door {
    places: Places,
    pressure: Pressure,
    metrics: Arc<Metrics>,
    registry: Option<Registry>,
}

impl Door {
    /// `registry`: counts users on all nodes. None: there is this one.
    pub fn new(
        places: Places,
        pressure: Pressure,
        metrics: Arc<Metrics>,
        registry: Option<&Registry>,
    ) -> Door {
        Door {
            places,
            pressure,
            metrics,
            registry: registry.cloned(),
        }
    }

    /// `limits.maxMemoryBytes`.
    pub fn has_memory(&self) -> Result<(), Problem> {
        if self.pressure.refuses() {
            return Err(self.refused(Limit::MemoryBytes, "this gateway is short of memory"));
        }
        Ok(())
    }

    /// Whether what has passed the door cannot stay: memory has become short since.
    pub fn turns_away(&self) -> Option<CloseCode> {
        self.pressure.refuses().then(|| {
            self.metrics.refused(Limit::MemoryBytes);
            CloseCode::TryAgainLater
        })
    }

    /// To be asked before the token is looked at: in a storm of reconnects checking signatures is what costs.
    pub fn pace(&self) -> Result<(), Problem> {
        if self.places.pacer.take() {
            return Ok(());
        }
        Err(self.refused(
            Limit::HandshakesPerSecond,
            "too many handshakes in this second",
        ))
    }

    /// A place among `connected` others.
    pub fn place(&self, connected: impl Fn() -> u64) -> Result<Permit, Problem> {
        let place = self.places.connections.take_beside(connected);
        place.ok_or_else(|| {
            self.refused(
                Limit::Connections,
                "this gateway has all the connections it may have",
            )
        })
    }

    /// Counts the connection under its address, as trusted proxies tell it, and its user; the user on all nodes, if
    /// Redis answers.
    pub async fn share(
        &self,
        from: &Origin<'_>,
        headers: &HeaderMap,
        identity: Option<&Identity>,
    ) -> Result<Share, Problem> {
        let mut share = Share::default();
        if let Some(peer) = from.peer {
            let forwarded = headers.get_all("x-forwarded-for").iter();
            let forwarded = forwarded.filter_map(|value| value.to_str().ok());
            let client = address::client(peer, forwarded, from.trusted);
            share.client = from.noted.of(client, peer);
            let taken = self.places.addresses.take(&AddressKey::of(client));
            share.address = taken.map_err(|AllTaken| {
                let message = "this address has all the connections it may have";
                self.refused(Limit::ConnectionsPerAddress, message)
            })?;
        }
        if let Some(identity) = identity {
            let full = |AllTaken| {
                let message = "this user has all the connections it may have";
                self.refused(Limit::ConnectionsPerUser, message)
            };
            let (user, users) = (&identity.user, &self.places.users);
            share.user = users.take(user).map_err(full)?;
            if let Some(registry) = &self.registry {
                let place = registry.take_place(user, users.cap()).await;
                share.place = place.map_err(full)?;
            }
        }
        Ok(share)
    }

    fn refused(&self, limit: Limit, message: &str) -> Problem {
        self.metrics.refused(limit);
        match limit {
            // Its own doing, so that a load balancer does not take the node for broken.
            Limit::ConnectionsPerAddress | Limit::ConnectionsPerUser => Problem::new(
                StatusCode::TOO_MANY_REQUESTS,
                "too_many_connections",
                message,
            ),
            _ => Problem::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", message),
        }
    }
}
