//! One subscription connection to one master: what is written goes out, what Redis pushes comes in. It opens once; when it
//! ends, the subscriber begins another.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;

use super::Settings;
use super::connect::{Connection, ConnectionError, Wanted};
use super::topology::Endpoint;
use super::wire::{self, Push};

/// Room for one read. More lets Redis wait.
const READ_BYTES: usize = 64 << 10;

/// Tells one connection from the next to the same master.
pub(super) type LinkId = u64;

/// What a connection says.
pub(super) enum Said {
    Open {
        /// The policy by which Redis deletes keys when it is full.
        evicts: Option<String>,
    },
    /// In the order in which Redis sent it.
    Pushed(Vec<Push>),
    Ended(ConnectionError),
}

/// Until the connection ends, or nobody writes to it any more.
pub(super) async fn run(
    settings: Arc<Settings>,
    (id, endpoint): (LinkId, Endpoint),
    mut commands: mpsc::UnboundedReceiver<Bytes>,
    said: mpsc::Sender<(LinkId, Said)>,
) {
    let name = "pushcluster-subscriber";
    let opening = async {
        let mut connection = Connection::open(&settings, &endpoint, Wanted::Master, name).await?;
        let evicts = connection.evicts(settings.timeout).await?;
        Ok((connection, evicts))
    };
    let ended = match opening.await {
        Ok((connection, evicts)) => {
            if said.send((id, Said::Open { evicts })).await.is_err() {
                return;
            }
            match pump(connection, &mut commands, |pushes| {
                said.send((id, Said::Pushed(pushes)))
            })
            .await
            {
                Ok(()) => return,
                Err(cause) => cause,
            }
        }
        Err(cause) => cause,
    };
    let _ = said.send((id, Said::Ended(ended))).await;
}

/// `Ok`: nobody is there any more on this side.
async fn pump<E, F: Future<Output = Result<(), E>>>(
    connection: Connection,
    commands: &mut mpsc::UnboundedReceiver<Bytes>,
    mut take: impl FnMut(Vec<Push>) -> F,
) -> Result<(), ConnectionError> {
    let Connection { socket, mut input } = connection;
    let (mut reader, mut writer) = tokio::io::split(socket);
    let mut output = BytesMut::new();
    let read = async {
        loop {
            let mut pushes = Vec::new();
            while let Some(frame) = wire::next_frame(&mut input)? {
                pushes.push(wire::push(frame));
            }
            // While the node does not take what was read, nothing more is read: Redis holds it
            // (`client-output-buffer-limit pubsub`), and in the end says so by closing.
            if !pushes.is_empty() && take(pushes).await.is_err() {
                return Ok(());
            }
            input.reserve(READ_BYTES);
            if reader.read_buf(&mut input).await? == 0 {
                return Err(ConnectionError::Closed);
            }
        }
    };
    let write = async {
        while let Some(command) = commands.recv().await {
            output.extend_from_slice(&command);
            while let Ok(command) = commands.try_recv() {
                output.extend_from_slice(&command);
            }
            writer.write_all_buf(&mut output).await?;
            writer.flush().await?;
        }
        Ok(())
    };
    tokio::select! {
        ended = read => ended,
        ended = write => ended,
    }
}
