//! A path to a server that takes its time, as the one between two machines does: loopback has none.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

const READ_BYTES: usize = 64 * 1024;

/// A free port of loopback from which all leads to `to`, and each byte takes `delay` on its way, there as well as back
/// (and what the system's timers add, which is up to 50 µs). It is there for as long as this program is.
pub fn open(to: SocketAddr, delay: Duration) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    thread::spawn(move || {
        for near in listener.incoming() {
            if let Err(error) = near.and_then(|near| join(near, to, delay)) {
                eprintln!("bench: a path to {to} could not be opened: {error}");
            }
        }
    });
    Ok(address)
}

fn join(near: TcpStream, to: SocketAddr, delay: Duration) -> io::Result<()> {
    let far = TcpStream::connect(to)?;
    for socket in [&near, &far] {
        socket.set_nodelay(true)?;
    }
    one_way(near.try_clone()?, far.try_clone()?, delay);
    one_way(far, near, delay);
    Ok(())
}

/// One thread reads and says when it is due, the other one writes: what comes meanwhile is not delayed twice.
fn one_way(mut from: TcpStream, to: TcpStream, delay: Duration) {
    let (under_way, due) = mpsc::channel();
    thread::spawn(move || {
        let mut buffer = vec![0; READ_BYTES];
        loop {
            match from.read(&mut buffer) {
                Ok(0) => return,
                Ok(count) => {
                    let bytes = buffer[..count].to_vec();
                    if under_way.send((Instant::now() + delay, bytes)).is_err() {
                        return;
                    }
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return,
            }
        }
    });
    thread::spawn(move || arrive(to, &due));
}

fn arrive(mut to: TcpStream, due: &Receiver<(Instant, Vec<u8>)>) {
    for (at, bytes) in due {
        thread::sleep(at.saturating_duration_since(Instant::now()));
        if to.write_all(&bytes).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Both);
}
