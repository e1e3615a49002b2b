//! Who is let in: what a handshake must pass besides being one. Each refusal is counted under its limit.

use std::net::IpAddr;
use std::sync::Arc;

use axum::http::{HeaderMap, StatusCode};
use gateway_config::{Config, Network};

use super::Problem;
use crate::auth::Identity;
use crate::limits::address::{self, AddressKey};
use crate::limits::{Cap, Limit, Pacer, Permit, Share, Shares};
use crate::memory::Pressure;
use crate::metrics::Metrics;
use crate::protocol::close::CloseCode;

/// The limits that every handshake meets.
pub struct Door {
    /// `limits.maxConnections`; a permit is a handshake under way.
    connections: Cap,
    /// `limits.handshakesPerSecond`.
    pacer: Pacer,
    /// `limits.maxConnectionsPerUser` and `limits.maxConnectionsPerAddress`.
    shares: Shares,
    trusted_proxies: Vec<Network>,
    pressure: Pressure,
    metrics: Arc<Metrics>,
}

impl Door {
    pub fn new(config: &Config, shares: Shares, pressure: Pressure, metrics: Arc<Metrics>) -> Door {
        let limits = &config.limits;
        let networks = config.listen.trusted_proxies.iter();
        Door {
            connections: Cap::new(limits.max_connections),
            pacer: Pacer::new(limits.handshakes_per_second),
            shares,
            // The rules of gateway-config have seen them.
            trusted_proxies: networks.filter_map(|text| Network::parse(text)).collect(),
            pressure,
            metrics,
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
        if self.pacer.take() {
            return Ok(());
        }
        Err(self.refused(
            Limit::HandshakesPerSecond,
            "too many handshakes in this second",
        ))
    }

    /// A place among `connected` others.
    pub fn place(&self, connected: impl Fn() -> u64) -> Result<Permit, Problem> {
        self.connections.take_beside(connected).ok_or_else(|| {
            self.refused(
                Limit::Connections,
                "this gateway has all the connections it may have",
            )
        })
    }

    /// Counts the connection under its address and its user.
    pub fn share(
        &self,
        peer: Option<IpAddr>,
        headers: &HeaderMap,
        identity: Option<&Identity>,
    ) -> Result<Share, Problem> {
        let mut share = Share::default();
        if let (Some(addresses), Some(peer)) = (&self.shares.addresses, peer) {
            let forwarded = headers.get_all("x-forwarded-for").iter();
            let forwarded = forwarded.filter_map(|value| value.to_str().ok());
            let client = address::client(peer, forwarded, &self.trusted_proxies);
            share.address = addresses.take(&AddressKey::of(client));
            if share.address.is_none() {
                let message = "this address has all the connections it may have";
                return Err(self.refused(Limit::ConnectionsPerAddress, message));
            }
        }
        if let (Some(users), Some(identity)) = (&self.shares.users, identity) {
            share.user = users.take(&identity.user);
            if share.user.is_none() {
                let message = "this user has all the connections it may have";
                return Err(self.refused(Limit::ConnectionsPerUser, message));
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
