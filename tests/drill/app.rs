//! The application server of the drill: HTTP/1.1, a thread for each connection, and memory by the [model](super::model)
//! that is really there: mapped, and written page by page. `/health` costs nothing.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::num::NonZeroUsize;
use std::ptr::NonNull;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use lb_tests::testbed::nginx::PORT;
use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous, munmap};

use crate::model;

/// Time between two looks for sessions that are over.
const REAP: Duration = Duration::from_millis(50);

/// How long a connection may be idle.
const IDLE: Duration = Duration::from_secs(30);

/// Stack of a connection's thread, so that threads are no part of the model.
const STACK: usize = 64 << 10;

static SESSIONS: Mutex<BinaryHeap<Reverse<Session>>> = Mutex::new(BinaryHeap::new());

/// Serves as `name` until the process ends, or the kernel ends it.
pub fn serve(name: &str) -> ! {
    let listener = TcpListener::bind(("0.0.0.0", PORT)).unwrap_or_else(|e| panic!("cannot listen on port {PORT}: {e}"));
    std::thread::spawn(|| {
        loop {
            std::thread::sleep(REAP);
            reap();
        }
    });
    loop {
        let Ok((stream, _)) = listener.accept() else { continue };
        let name = name.to_owned();
        // A thread that cannot be started closes the connection, as a server without room does.
        let _ = std::thread::Builder::new().stack_size(STACK).spawn(move || converse(stream, &name));
    }
}

/// Answers on one connection until the client ends it.
fn converse(stream: TcpStream, name: &str) {
    let _ = stream.set_nodelay(true);
    let _ = stream.set_read_timeout(Some(IDLE));
    let Ok(mut writer) = stream.try_clone() else { return };
    let mut reader = BufReader::new(stream);
    while let Some(path) = request(&mut reader) {
        if path != "/health" {
            work();
        }
        let length = name.len();
        let answer = format!("HTTP/1.1 200 OK\r\nx-backend: {name}\r\ncontent-length: {length}\r\n\r\n{name}");
        if writer.write_all(answer.as_bytes()).is_err() {
            return;
        }
    }
}

/// Reads a request without a body; its path.
fn request(reader: &mut impl BufRead) -> Option<String> {
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let path = line.split(' ').nth(1)?.to_owned();
    loop {
        line.clear();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        if line == "\r\n" {
            return Some(path);
        }
    }
}

/// What a request costs.
fn work() {
    let in_flight = Pages::new(model::IN_FLIGHT);
    std::thread::sleep(model::WORK);
    drop(in_flight);
    // Exponential: the logarithm of a uniform number, never of 0.
    let life = model::RETAINED_FOR.mul_f64(-(1.0 - rand::random::<f64>()).ln());
    let session = Session { ends: Instant::now() + life, _pages: Pages::new(model::RETAINED) };
    SESSIONS.lock().unwrap_or_else(PoisonError::into_inner).push(Reverse(session));
}

fn reap() {
    let now = Instant::now();
    let mut sessions = SESSIONS.lock().unwrap_or_else(PoisonError::into_inner);
    while sessions.peek().is_some_and(|Reverse(first)| first.ends <= now) {
        sessions.pop();
    }
}

/// What a request leaves behind.
struct Session {
    ends: Instant,
    _pages: Pages,
}

impl Ord for Session {
    fn cmp(&self, other: &Self) -> Ordering {
        self.ends.cmp(&other.ends)
    }
}

impl PartialOrd for Session {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Session {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Session {}

/// Memory of the kernel's, not of the allocator's: it is there when it is written, and gone when it is dropped.
struct Pages {
    start: NonNull<std::ffi::c_void>,
    bytes: NonZeroUsize,
}

// SAFETY: a mapping is nobody's thread's own.
unsafe impl Send for Pages {}

impl Pages {
    fn new(bytes: usize) -> Self {
        let bytes = NonZeroUsize::new(bytes).expect("the model has no empty sizes");
        let (protection, flags) = (ProtFlags::PROT_READ | ProtFlags::PROT_WRITE, MapFlags::MAP_PRIVATE);
        // SAFETY: a new mapping wherever the kernel has room; nothing else is there.
        let start = unsafe { mmap_anonymous(None, bytes, protection, flags) }.expect("addresses do not run out");
        // SAFETY: all of it was just mapped, writable. Each byte is written, so that each page is there.
        unsafe { start.cast::<u8>().write_bytes(1, bytes.get()) };
        Self { start, bytes }
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: exactly what `new` mapped, of which nobody holds a reference.
        unsafe { munmap(self.start, self.bytes.get()) }.expect("it is mapped");
    }
}
