//! One socket and all that belongs to it. Hundreds of thousands of these are idle: the struct is kept small.

use std::io;

use bytes::Bytes;
use mio::net::TcpStream;
use rustls::ServerConnection;

use super::heartbeat::{Heartbeat, Intervals};
use super::outbox::{Flushed, Outbox};
use super::wire::Wire;
use crate::limits::Share;
use crate::protocol::close::CloseCode;
use crate::protocol::deflate::Window;
use crate::protocol::frame::Decoder;
use crate::session::{Context, Session};

/// How long a peer has to answer a close frame, in milliseconds (RFC 6455 section 7.1.1 asks for "a reasonable time").
pub const CLOSE_DEADLINE_MS: u64 = 2_000;

pub struct Connection {
    pub socket: TcpStream,
    /// None: none.
    pub tls: Option<Box<ServerConnection>>,
    pub generation: u32,
    /// Boxed: with no such cap configured it is a null pointer.
    pub share: Option<Box<Share>>,
    pub session: Session,
    pub decoder: Decoder,
    /// permessage-deflate, and how far back the client can look; None: not agreed on.
    pub deflate: Option<Window>,
    pub outbox: Outbox,
    pub heartbeat: Heartbeat,
    /// The one entry of the timer wheel that counts.
    pub timer: u64,
    pub closing: Option<Closing>,
    /// In the list of those to flush at the end of the round.
    pub dirty: bool,
    /// In the list of those to read.
    pub unread: bool,
    /// Until the welcome: the bytes that came with the handshake, often none. Nothing is read meanwhile, so the
    /// kernel's buffer bounds what a client can say before it is heard. Boxed: later it is a null pointer.
    pub early: Option<Box<Bytes>>,
    /// The peer will send nothing more; only then must a socket be read to its very end.
    pub read_closed: bool,
}

/// A close that has begun: nothing more is said or heard but the end of it.
#[derive(Debug, Clone, Copy)]
pub struct Closing {
    pub code: CloseCode,
    pub deadline_ms: u64,
    /// The peer has said goodbye: what is left is to write our answer.
    pub peer_is_done: bool,
    /// The peer broke the protocol: nothing it sends can be understood any more. It is read and thrown away, because
    /// closing a socket with unread bytes resets it, and the reset overtakes our close frame.
    pub deaf: bool,
}

impl Connection {
    /// The way to the peer.
    pub fn wire(&mut self) -> Wire<'_, TcpStream> {
        Wire::new(&mut self.socket, &mut self.tls)
    }

    /// Writes what waits.
    pub fn flush(&mut self) -> io::Result<Flushed> {
        let mut wire = Wire::new(&mut self.socket, &mut self.tls);
        self.outbox.flush(&mut wire)
    }

    /// Whether its socket is read: it has been welcomed, or closes.
    pub fn is_heard(&self) -> bool {
        self.early.is_none()
    }

    /// When time alone can next bring something about.
    pub fn due_ms(&self, intervals: Intervals, cx: Context<'_>) -> u64 {
        let now = cx.now.monotonic_ms;
        if let Some(closing) = self.closing {
            return closing.deadline_ms;
        }
        let heartbeat = self
            .heartbeat
            .due_ms(now, self.session.has_channels(), intervals);
        let session = self
            .session
            .next_tick_ms(cx)
            .map_or(u64::MAX, |wait| now.saturating_add(wait));
        heartbeat.min(session)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_connection_is_small() {
        // With its place in the slab, the wheel and the map by number well under the 1 KiB that is promised.
        assert!(
            size_of::<Connection>() <= 312,
            "{}",
            size_of::<Connection>()
        );
    }
}
