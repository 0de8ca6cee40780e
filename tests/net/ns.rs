//! Network namespaces without names: each lives as long as its descriptor, so that nothing is left behind, not even by a
//! crash.

use std::fs::File;
use std::future::Future;
use std::net::IpAddr;
use std::os::fd::AsRawFd;
use std::process::Command;
use std::time::Duration;

use nix::sched::{CloneFlags, setns, unshare};
use rollcall::io::net::{self, NetEvent, NetHandle};
use tokio::sync::mpsc;

/// Longest that any test waits for one thing.
pub const PATIENCE: Duration = Duration::from_secs(40);

pub struct Namespace(File);

impl Namespace {
    pub fn new() -> Self {
        let made = std::thread::spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace needs root");
            File::open("/proc/thread-self/ns/net").unwrap()
        });
        let ns = Self(made.join().unwrap());
        ns.sh("ip link set lo up");
        ns
    }

    /// Runs in the namespace. Threads and processes started there are in it, too.
    pub fn run<T: Send>(&self, f: impl FnOnce() -> T + Send) -> T {
        let inside = || {
            setns(&self.0, CloneFlags::CLONE_NEWNET).unwrap();
            f()
        };
        std::thread::scope(|s| s.spawn(inside).join()).unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    pub fn block_on<T: Send>(&self, future: impl Future<Output = T> + Send) -> T {
        self.run(|| tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future))
    }

    /// Runs shell commands; all must succeed. Returns their output.
    pub fn sh(&self, script: &str) -> String {
        let out = self.run(|| Command::new("sh").args(["-ec", script]).output().unwrap());
        assert!(out.status.success(), "{script}\n{}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8(out.stdout).unwrap()
    }

    /// Whether the kernel can make VLAN devices.
    pub fn has_vlans(&self) -> bool {
        let probe = "ip link add link lo name v1 type vlan id 1 && ip link del v1";
        self.run(|| Command::new("sh").args(["-c", probe]).output().unwrap().status.success())
    }

    /// A path by which `ip link … netns` finds this namespace.
    pub fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.0.as_raw_fd())
    }
}

/// The edge with `eth0` and `eth1`, each on a veth to the peer's interface of the same name; 10.0.N.1 and fd00:N::1 on
/// the edge, .2 on the peer.
pub struct Pair {
    pub edge: Namespace,
    pub peer: Namespace,
}

impl Pair {
    pub fn new() -> Self {
        let pair = Self { edge: Namespace::new(), peer: Namespace::new() };
        pair.connect(0);
        pair.connect(1);
        pair
    }

    /// Makes (again) the link `ethN`. Its MACs are 02:00:00:00:0N:01 and :02.
    pub fn connect(&self, n: u8) {
        self.edge.sh(&format!(
            "ip link add eth{n} address 02:00:00:00:0{n}:01 type veth \
             peer name eth{n} address 02:00:00:00:0{n}:02 netns {}",
            self.peer.path()
        ));
        for (ns, host) in [(&self.edge, 1), (&self.peer, 2)] {
            ns.sh(&format!(
                "ip addr add 10.0.{n}.{host}/24 dev eth{n}
                 ip addr add fd00:{n}::{host}/64 dev eth{n} nodad
                 ip link set eth{n} up"
            ));
        }
    }

    pub fn mac(n: u8, host: u8) -> [u8; 6] {
        [2, 0, 0, 0, n, host]
    }

    pub fn ifindex(&self, interface: &str) -> u32 {
        self.edge.run(|| nix::net::if_::if_nametoindex(interface).unwrap())
    }
}

/// A watcher on the edge, and the events it sent so far.
pub struct Watch {
    pub handle: NetHandle,
    events: mpsc::Receiver<NetEvent>,
}

impl Watch {
    /// Call inside the edge's namespace.
    pub fn start(interfaces: &[&str]) -> Self {
        let (sender, events) = mpsc::channel(16);
        let interfaces = interfaces.iter().map(|i| i.to_string()).collect();
        Self { handle: net::spawn(interfaces, sender).unwrap(), events }
    }

    /// The next event; fails if none comes.
    pub async fn next(&mut self) -> NetEvent {
        let next = tokio::time::timeout(PATIENCE, self.events.recv()).await;
        next.expect("an event").expect("a running watcher")
    }

    /// Drops the handle and waits for the watcher's end.
    pub async fn stop(mut self) {
        drop(self.handle);
        let end = async { while self.events.recv().await.is_some() {} };
        tokio::time::timeout(PATIENCE, end).await.expect("the watcher ends with its handle");
    }

    /// The next answer about this address; other events are skipped.
    pub async fn hop(&mut self, address: &str) -> Result<lb_common::abi::Hop, String> {
        let address: IpAddr = address.parse().unwrap();
        loop {
            if let NetEvent::NextHop(a, answer) = self.next().await
                && a == address
            {
                return answer;
            }
        }
    }
}

pub fn ips(addresses: &[&str]) -> Vec<IpAddr> {
    addresses.iter().map(|a| a.parse().unwrap()).collect()
}
