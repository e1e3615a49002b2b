//! A `redis-server` of a bench's own, and a plain connection to it: the floor of what goes through Redis.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Longest wait for an answer, and for the server to be there.
const PATIENCE: Duration = Duration::from_secs(30);

/// Killed when dropped. It keeps nothing on disk.
pub struct Redis {
    pub port: u16,
    process: Child,
    _folder: tempfile::TempDir,
}

impl Redis {
    pub fn start() -> io::Result<Redis> {
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let folder = tempfile::tempdir()?;
        let mut command = Command::new("redis-server");
        command.args(["--port", &port.to_string(), "--bind", "127.0.0.1"]);
        command.args(["--save", "", "--appendonly", "no", "--dir"]);
        command.arg(folder.path()).stdout(Stdio::null());
        let redis = Redis {
            port,
            process: command.spawn()?,
            _folder: folder,
        };
        let began = Instant::now();
        while redis.connect().and_then(|mut c| c.ask(&["PING"])).is_err() {
            if began.elapsed() > PATIENCE {
                return Err(io::Error::other("redis-server does not answer"));
            }
            std::thread::yield_now();
        }
        Ok(redis)
    }

    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    pub fn connect(&self) -> io::Result<Connection> {
        Connection::open(self.address())
    }

    /// CPU time of Redis so far (`INFO cpu`).
    pub fn cpu(&self) -> io::Result<Duration> {
        let info = self.connect()?.ask(&["INFO", "cpu"])?;
        let seconds = |key: &str| {
            let line = info.lines().find_map(|line| line.strip_prefix(key))?;
            line.trim().parse::<f64>().ok()
        };
        match (seconds("used_cpu_sys:"), seconds("used_cpu_user:")) {
            (Some(sys), Some(user)) => Ok(Duration::from_secs_f64(sys + user)),
            _ => Err(io::Error::other(info)),
        }
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Blocking; speaks RESP 2 (<https://redis.io/docs/latest/develop/reference/protocol-spec/>).
pub struct Connection {
    socket: TcpStream,
    bytes: Vec<u8>,
}

impl Connection {
    /// To a Redis, or to whatever hands on to one.
    pub fn open(address: SocketAddr) -> io::Result<Connection> {
        let socket = TcpStream::connect(address)?;
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        Ok(Connection {
            socket,
            bytes: Vec::new(),
        })
    }

    pub fn send(&mut self, words: &[&str]) -> io::Result<()> {
        let mut command = format!("*{}\r\n", words.len());
        for word in words {
            command += &format!("${}\r\n{word}\r\n", word.len());
        }
        self.socket.write_all(command.as_bytes())
    }

    /// The elements of an answer, a line each; an error of Redis is one here.
    pub fn answer(&mut self) -> io::Result<String> {
        let line = self.line()?;
        let (kind, rest) = line.split_at(line.len().min(1));
        let count = || {
            rest.parse::<i64>()
                .map_err(|_| io::Error::other(line.clone()))
        };
        match kind {
            "-" => Err(io::Error::other(rest.to_owned())),
            "$" => match usize::try_from(count()?) {
                Ok(len) => self.take(len),
                Err(_) => Ok(String::new()),
            },
            "*" => {
                let elements = (0..count()?).map(|_| self.answer());
                Ok(elements.collect::<io::Result<Vec<_>>>()?.join("\n"))
            }
            _ => Ok(rest.to_owned()),
        }
    }

    pub fn ask(&mut self, words: &[&str]) -> io::Result<String> {
        self.send(words)?;
        self.answer()
    }

    /// Up to the end of the line, which is taken off.
    pub fn line(&mut self) -> io::Result<String> {
        loop {
            if let Some(end) = self.bytes.windows(2).position(|two| two == b"\r\n") {
                let line: Vec<u8> = self.bytes.drain(..end + 2).collect();
                return Ok(String::from_utf8_lossy(&line[..end]).into_owned());
            }
            self.read()?;
        }
    }

    fn take(&mut self, len: usize) -> io::Result<String> {
        while self.bytes.len() < len + 2 {
            self.read()?;
        }
        let taken: Vec<u8> = self.bytes.drain(..len + 2).collect();
        Ok(String::from_utf8_lossy(&taken[..len]).into_owned())
    }

    fn read(&mut self) -> io::Result<()> {
        let mut buffer = [0; 65_536];
        match self.socket.read(&mut buffer)? {
            0 => Err(ErrorKind::UnexpectedEof.into()),
            count => {
                self.bytes.extend_from_slice(&buffer[..count]);
                Ok(())
            }
        }
    }
}
