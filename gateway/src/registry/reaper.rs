//! The task that removes what other nodes wrote under leases that have ended.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

use super::calls::{self, LeaseId};
use super::fact::Fact;
use super::{Shared, scripts};
use crate::broker::redis::{Answer, Call};

/// Facts that are removed before the claim is renewed.
const PAGE: usize = 256;

pub(super) async fn run(shared: Arc<Shared>) {
    let period = shared.settings.lease / 3;
    loop {
        // Not all nodes at the same moment.
        let part = Duration::from_millis(u64::from(rand::random::<u8>()));
        sleep(period + part.min(period / 4)).await;
        if let Err(cause) = look(&shared).await {
            tracing::debug!("leases of other nodes are not looked at: {cause}");
        }
    }
}

async fn look(shared: &Shared) -> Result<(), String> {
    let names = shared.store.names();
    let expired = calls::on_nodes(names, scripts::EXPIRED, Vec::new());
    for lease in one(shared, expired).await?.texts() {
        let lease = LeaseId::parse(&lease);
        // A node that was away for long renews first: nobody may have noticed.
        if shared.inner().lease.as_ref() == Some(&lease) {
            continue;
        }
        match claim(shared, &lease).await? {
            Some(1) => reap(shared, &lease).await?,
            Some(2) => forget(shared, &lease).await?,
            _ => {}
        }
    }
    Ok(())
}

async fn reap(shared: &Shared, lease: &LeaseId) -> Result<(), String> {
    let names = shared.store.names();
    let mut removed = 0;
    loop {
        let page = calls::some_facts(names, lease, PAGE);
        let texts = one(shared, page).await?.texts();
        if texts.is_empty() {
            break;
        }
        let now = crate::broker::unix_ms();
        let facts = texts.iter().filter_map(|text| Fact::parse(text));
        let erase: Vec<Call> = facts
            .map(|fact| calls::reap(names, lease, &fact, now))
            .collect();
        if !erase.is_empty() {
            shared.store.run(&erase).await?;
        }
        removed += texts.len() as u64;
        one(shared, calls::struck(names, lease, texts)).await?;
        if claim(shared, lease).await? != Some(1) {
            // It took too long, and another one goes on.
            return Ok(());
        }
    }
    let finish = calls::on_lease(names, scripts::FINISH, lease, vec![who(shared)]);
    if one(shared, finish).await?.number() == Some(1) {
        shared.counters.reaps.inc();
        shared.counters.reaped.inc_by(removed);
        let lease = lease.as_str();
        tracing::info!(
            lease,
            removed,
            "sessions of a node that is gone were removed"
        );
    }
    forget(shared, lease).await
}

async fn claim(shared: &Shared, lease: &LeaseId) -> Result<Option<i64>, String> {
    let ms = shared.settings.lease.as_millis().to_string();
    let arguments = vec![who(shared), ms];
    let call = calls::on_lease(shared.store.names(), scripts::CLAIM, lease, arguments);
    Ok(one(shared, call).await?.number())
}

async fn forget(shared: &Shared, lease: &LeaseId) -> Result<(), String> {
    let name = vec![lease.as_str().to_owned()];
    let call = calls::on_nodes(shared.store.names(), scripts::FORGET_NODE, name);
    one(shared, call).await.map(|_| ())
}

/// Names of nodes may be given twice by mistake, leases are not.
fn who(shared: &Shared) -> String {
    let inner = shared.inner();
    let lease = inner.lease.as_ref().map(LeaseId::as_str);
    lease.unwrap_or(&shared.settings.node).to_owned()
}

async fn one(shared: &Shared, call: Call) -> Result<Answer, String> {
    let answers = shared.store.run(&[call]).await?;
    answers
        .into_iter()
        .next()
        .ok_or_else(|| "no answer".to_owned())
}
