//! A TCP proxy that can cut what goes through it.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

const OPEN: u8 = 0;
const SILENT: u8 = 1;
const CLOSED: u8 = 2;

/// Forwards connections on a port of its own to another port of this machine.
pub struct Proxy {
    pub port: u16,
    mode: Arc<AtomicU8>,
    streams: Arc<Mutex<Vec<TcpStream>>>,
}

impl Proxy {
    /// One that leads to a port of this machine.
    pub fn start(to: u16) -> Self {
        Self::listen(move |_| Some(to))
    }

    /// One that leads where the client says in a CONNECT request (RFC 9110, 9.3.6).
    pub fn tunnel() -> Self {
        Self::listen(|client| {
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                client.read_exact(&mut byte).ok()?;
                request.extend(byte);
            }
            let text = String::from_utf8(request).ok()?;
            let authority = text.strip_prefix("CONNECT ")?.split(' ').next()?;
            let port = authority.rsplit(':').next()?.parse().ok()?;
            client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").ok()?;
            Some(port)
        })
    }

    fn listen(to: impl Fn(&mut TcpStream) -> Option<u16> + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let proxy = Self { port, mode: Arc::default(), streams: Arc::default() };
        let (mode, streams) = (proxy.mode.clone(), proxy.streams.clone());
        thread::spawn(move || {
            for mut client in listener.incoming().map_while(Result::ok) {
                if mode.load(Ordering::SeqCst) != CLOSED
                    && let Some(port) = to(&mut client)
                    && let Ok(server) = TcpStream::connect(("127.0.0.1", port))
                {
                    streams.lock().unwrap().extend([client.try_clone().unwrap(), server.try_clone().unwrap()]);
                    forward(client.try_clone().unwrap(), server.try_clone().unwrap(), mode.clone());
                    forward(server, client, mode.clone());
                }
            }
        });
        proxy
    }

    /// How many connections went through.
    pub fn connections(&self) -> usize {
        self.streams.lock().unwrap().len() / 2
    }

    /// Ends all connections and takes no new one.
    pub fn cut(&self) {
        self.mode.store(CLOSED, Ordering::SeqCst);
        for stream in self.streams.lock().unwrap().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// Leaves the connections open and lets nothing through; new ones are let through.
    pub fn mute(&self) {
        self.mode.store(SILENT, Ordering::SeqCst);
        // Every connection of before stays mute: their threads see the mode at the next byte, and end there.
        thread::sleep(Duration::from_millis(50));
    }

    pub fn open(&self) {
        self.mode.store(OPEN, Ordering::SeqCst);
    }
}

fn forward(mut from: TcpStream, mut to: TcpStream, mode: Arc<AtomicU8>) {
    thread::spawn(move || {
        let mut buffer = [0; 16 << 10];
        loop {
            match from.read(&mut buffer) {
                Ok(read) if read > 0 => {
                    if mode.load(Ordering::SeqCst) == SILENT {
                        // Swallowed, and this connection is mute for good.
                        thread::sleep(Duration::from_secs(120));
                        return;
                    }
                    if to.write_all(&buffer[..read]).is_err() {
                        break;
                    }
                }
                _ => break,
            }
        }
        let _ = to.shutdown(Shutdown::Both);
    });
}
