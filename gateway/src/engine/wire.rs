//! What bytes pass through on their way to a socket: nothing, or TLS. The thread drives rustls itself, so a
//! connection with TLS has the same outbox, the same epoll and the same rounds as one without.

use std::io::{self, IoSlice, Read, Write};
use std::net::Shutdown;

use rustls::ServerConnection;

/// A socket and the TLS on it, for the time of one read or one flush.
///
/// Bytes that TLS has encrypted and the kernel has no room for wait in TLS, 64 KiB at most (rustls's own limit), and
/// nothing more is taken before they have left.
pub struct Wire<'a, S> {
    socket: &'a mut S,
    tls: Option<&'a mut ServerConnection>,
}

impl<'a, S: Read + Write> Wire<'a, S> {
    pub fn new(socket: &'a mut S, tls: &'a mut Option<Box<ServerConnection>>) -> Self {
        Wire {
            socket,
            tls: tls.as_deref_mut(),
        }
    }

    /// Whether TLS holds bytes that the socket has not taken.
    pub fn owes(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.wants_write())
    }

    /// Says that nothing more will be written (RFC 8446 section 6.1), as far as the kernel has room for it: a peer
    /// that misses it sees a connection that was cut, which it is.
    pub fn goodbye(&mut self) {
        if let Some(tls) = &mut self.tls {
            tls.send_close_notify();
            if let Err(error) = send(tls, self.socket) {
                tracing::debug!(%error, "the end of TLS was not told");
            }
        }
    }
}

impl Wire<'_, mio::net::TcpStream> {
    /// Ends our direction.
    pub fn shutdown(&mut self) -> io::Result<()> {
        self.goodbye();
        self.socket.shutdown(Shutdown::Write)
    }
}

impl<S: Read + Write> Read for Wire<'_, S> {
    /// [`io::ErrorKind::Interrupted`]: something was read that says nothing to us; there may be more. So a peer
    /// that sends records with nothing in them gets no more of a round than others.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(tls) = &mut self.tls else {
            return self.socket.read(buffer);
        };
        match tls.reader().read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            read => return read,
        }
        tls.read_tls(self.socket)?;
        if let Err(error) = tls.process_new_packets() {
            // It has an alert to send, which tells the peer why.
            let _ = send(tls, self.socket);
            return Err(io::Error::new(io::ErrorKind::InvalidData, error));
        }
        match tls.reader().read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                Err(io::ErrorKind::Interrupted.into())
            }
            read => read,
        }
    }
}

impl<S: Read + Write> Write for Wire<'_, S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.tls {
            None => self.socket.write(bytes),
            Some(_) => self.write_vectored(&[IoSlice::new(bytes)]),
        }
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let Some(tls) = &mut self.tls else {
            return self.socket.write_vectored(slices);
        };
        send(tls, self.socket)?;
        let taken = tls.writer().write_vectored(slices)?;
        match send(tls, self.socket) {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
            _ => Ok(taken),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.tls {
            None => Ok(()),
            Some(tls) => send(tls, self.socket),
        }
    }
}

/// Until the socket has all that TLS has for it.
fn send(tls: &mut ServerConnection, socket: &mut impl Write) -> io::Result<()> {
    while tls.wants_write() {
        match tls.write_tls(socket) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;
    use rustls::crypto::ring::default_provider;
    use rustls::pki_types::{PrivateKeyDer, ServerName};
    use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig};

    use super::*;
    use crate::engine::outbox::{Flushed, Outbox};

    /// Both directions in memory; what is written has `room` bytes.
    #[derive(Default)]
    struct Pipe {
        room: usize,
        sent: Vec<u8>,
        comes: Vec<u8>,
    }

    impl Read for Pipe {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let count = buffer.len().min(self.comes.len());
            if count == 0 {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            buffer[..count].copy_from_slice(&self.comes[..count]);
            self.comes.drain(..count);
            Ok(count)
        }
    }

    impl Write for Pipe {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let count = bytes.len().min(self.room);
            if count == 0 {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            self.room -= count;
            self.sent.extend_from_slice(&bytes[..count]);
            Ok(count)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// Two ends whose handshake is done.
    fn ends() -> (ClientConnection, Option<Box<ServerConnection>>) {
        let made = rcgen::generate_simple_self_signed(vec!["x".to_owned()]).unwrap();
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let provider = Arc::new(default_provider());
        let server = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(made.cert.der().clone()).unwrap();
        let client = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::try_from("x").unwrap();
        let mut client = ClientConnection::new(Arc::new(client), name).unwrap();
        let mut server = ServerConnection::new(Arc::new(server)).unwrap();
        while client.is_handshaking() || server.is_handshaking() || server.wants_write() {
            let mut bytes = Vec::new();
            while client.wants_write() {
                client.write_tls(&mut bytes).unwrap();
            }
            server.read_tls(&mut bytes.as_slice()).unwrap();
            server.process_new_packets().unwrap();
            let mut bytes = Vec::new();
            while server.wants_write() {
                server.write_tls(&mut bytes).unwrap();
            }
            hear(&mut client, &bytes);
        }
        (client, Some(Box::new(server)))
    }

    /// What the client understands of these bytes.
    fn hear(client: &mut ClientConnection, mut bytes: &[u8]) -> Vec<u8> {
        let mut heard = Vec::new();
        while !bytes.is_empty() {
            client.read_tls(&mut bytes).unwrap();
            client.process_new_packets().unwrap();
            // What has not come yet is no end.
            let _ = client.reader().read_to_end(&mut heard);
        }
        heard
    }

    #[test]
    fn what_waits_leaves_in_order_however_little_the_kernel_takes() {
        for step in [1_000, 16_401, 50_000, 1_000_000] {
            let (mut client, mut server) = ends();
            let mut pipe = Pipe::default();
            let mut outbox = Outbox::default();
            let mut expected = Vec::new();
            for (frame, len) in [(1, 70_000), (2, 1), (3, 16_384), (4, 100)] {
                expected.extend(vec![frame; len]);
                outbox.push_control(Bytes::from(vec![frame; len]));
            }
            let mut heard = Vec::new();
            let mut held_by_tls_alone = false;
            for _ in 0..200 {
                pipe.room = step;
                let mut wire = Wire::new(&mut pipe, &mut server);
                let flushed = outbox.flush(&mut wire).unwrap();
                assert_eq!(
                    wire.owes() || !outbox.is_empty(),
                    flushed == Flushed::Blocked
                );
                held_by_tls_alone |= wire.owes() && outbox.is_empty();
                heard.extend(hear(&mut client, &std::mem::take(&mut pipe.sent)));
                if flushed == Flushed::All {
                    break;
                }
            }
            assert!(heard == expected, "step {step}: {} bytes", heard.len());
            assert_eq!(held_by_tls_alone, step < 50_000, "step {step}");
        }
    }

    #[test]
    fn what_the_client_says_is_read_record_by_record() {
        let (mut client, mut server) = ends();
        let mut pipe = Pipe::default();
        for text in ["one", "", "two"] {
            client.writer().write_all(text.as_bytes()).unwrap();
            client.write_tls(&mut pipe.comes).unwrap();
        }
        client.send_close_notify();
        client.write_tls(&mut pipe.comes).unwrap();
        let mut wire = Wire::new(&mut pipe, &mut server);
        let mut buffer = [0; 100];
        let mut heard = Vec::new();
        loop {
            match wire.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => heard.extend_from_slice(&buffer[..count]),
                Err(error) => assert_eq!(error.kind(), io::ErrorKind::Interrupted),
            }
        }
        assert_eq!(heard, b"onetwo");
    }

    #[test]
    fn a_forged_record_ends_the_connection_with_an_alert() {
        let (mut client, mut server) = ends();
        let mut pipe = Pipe {
            room: 100,
            comes: vec![23, 3, 3, 0, 20],
            ..Pipe::default()
        };
        pipe.comes.extend([0; 20]);
        let mut wire = Wire::new(&mut pipe, &mut server);
        let error = wire.read(&mut [0; 100]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        client.read_tls(&mut pipe.sent.as_slice()).unwrap();
        let told = client.process_new_packets().unwrap_err();
        assert!(matches!(told, rustls::Error::AlertReceived(_)), "{told}");
    }
}
