//! A port of a pod as an address of this machine, for what wants to connect by itself.

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::{Context, Result};
use tokio::io::copy_bidirectional;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::gateway::PodAddress;

/// Ends with this value, and every connection through it.
pub struct Tunnel {
    pub address: SocketAddr,
    _task: JoinSet<()>,
}

impl Tunnel {
    pub async fn open(pod: PodAddress, port: u16) -> Result<Tunnel> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
        let listener = listener.context("listen for a tunnel")?;
        let address = listener.local_addr()?;
        let mut task = JoinSet::new();
        task.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((mut near, _)) = listener.accept().await {
                let pod = pod.clone();
                // What fails here is a connection that ends, as its user will notice.
                connections.spawn(async move {
                    if let Ok(mut far) = pod.stream(port).await {
                        let _ = copy_bidirectional(&mut near, &mut far).await;
                    }
                });
                while connections.try_join_next().is_some() {}
            }
        });
        Ok(Tunnel {
            address,
            _task: task,
        })
    }
}
