//! Receivers of alerts: a webhook that keeps what it gets, and servers that misbehave.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;

use crate::testbed::bed::Bed;
use crate::testbed::poll;

/// A server on the edge's loopback. Its threads end with the process.
pub struct Receiver {
    address: SocketAddr,
    received: Arc<Mutex<Vec<Value>>>,
}

impl Receiver {
    /// Takes every POST.
    #[track_caller]
    pub fn start(bed: &Bed) -> Self {
        Self::answering(bed, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
    }

    /// Keeps every POST and answers this.
    #[track_caller]
    pub fn answering(bed: &Bed, answer: &'static str) -> Self {
        let received = Arc::new(Mutex::new(Vec::new()));
        let kept = received.clone();
        let address = serve(bed, move |mut stream| {
            if let Some(body) = read(&stream) {
                kept.lock().expect("no thread panics with it").push(body);
                // The daemon may have given up.
                let _ = stream.write_all(answer.as_bytes());
            }
        });
        Self { address, received }
    }

    /// Takes connections and says nothing.
    #[track_caller]
    pub fn hanging(bed: &Bed) -> Self {
        let held = Mutex::new(Vec::new());
        let address = serve(bed, move |stream| held.lock().expect("no thread panics with it").push(stream));
        Self { address, received: Arc::default() }
    }

    /// Answers without end.
    #[track_caller]
    pub fn flooding(bed: &Bed) -> Self {
        let address = serve(bed, |mut stream| {
            let head = b"HTTP/1.1 500 Broken\r\n\r\n";
            let _ = stream.write_all(head);
            while stream.write_all(&[b'x'; 65536]).is_ok() {}
        });
        Self { address, received: Arc::default() }
    }

    /// Its URL.
    pub fn url(&self) -> String {
        format!("http://{}/hook", self.address)
    }

    /// What came so far.
    pub fn all(&self) -> Vec<Value> {
        self.received.lock().expect("no thread panics with it").clone()
    }

    /// Waits for a message with this status and key.
    #[track_caller]
    pub fn wait_for(&self, deadline: Duration, status: &str, key: &str) -> Value {
        poll::until(deadline, &format!("{status} {key}"), || {
            let all = self.all();
            let found = all.iter().find(|m| m["status"] == status && m["key"] == key).cloned();
            found.ok_or_else(|| format!("{:#}", Value::Array(all)))
        })
    }
}

#[track_caller]
fn serve(bed: &Bed, each: impl Fn(TcpStream) + Send + Sync + 'static) -> SocketAddr {
    let listener = bed.edge.enter(|| TcpListener::bind("127.0.0.1:0")).expect("the loopback is up");
    let address = listener.local_addr().expect("it is bound");
    let each = Arc::new(each);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let each = each.clone();
            std::thread::spawn(move || each(stream));
        }
    });
    address
}

/// A request's body; `None` if it is no whole request with JSON.
fn read(stream: &TcpStream) -> Option<Value> {
    let mut reader = BufReader::new(stream);
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        if line.trim().is_empty() {
            break;
        }
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse().ok()?;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    serde_json::from_slice(&body).ok()
}
