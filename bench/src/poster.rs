//! One HTTP connection that publishes without waiting for its answers.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};

use crate::server::API_KEY;

pub struct Poster {
    socket: TcpStream,
    request: Vec<u8>,
    answers: Vec<u8>,
}

impl Poster {
    pub fn connect(address: SocketAddr) -> io::Result<Poster> {
        let socket = TcpStream::connect(address)?;
        socket.set_nodelay(true)?;
        socket.set_nonblocking(true)?;
        let body = r#"{"channel":"c","data":"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"}"#;
        let request = format!(
            "POST /api/publish HTTP/1.1\r\nHost: {address}\r\nX-API-Key: {API_KEY}\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        Ok(Poster {
            socket,
            request: request.into_bytes(),
            answers: Vec::new(),
        })
    }

    /// Publishes once more, and looks at what was answered so far.
    pub fn post(&mut self) -> io::Result<()> {
        self.read_answers()?;
        let written = self.socket.write(&self.request)?;
        if written == self.request.len() {
            return Ok(());
        }
        Err(io::Error::other("the API does not read what is published"))
    }

    fn read_answers(&mut self) -> io::Result<()> {
        self.answers.clear();
        let mut buffer = [0; 4_096];
        loop {
            match self.socket.read(&mut buffer) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(count) => self.answers.extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        // Answers are cut anywhere; a refusal says so in its first line, which is short enough to come whole.
        let text = String::from_utf8_lossy(&self.answers);
        let refused = text
            .lines()
            .find(|line| line.starts_with("HTTP/1.1 ") && !line.starts_with("HTTP/1.1 200"));
        match refused {
            None => Ok(()),
            Some(line) => Err(io::Error::other(format!("the API answered {line}"))),
        }
    }
}
