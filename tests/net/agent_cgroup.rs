//! The agent on a cgroup whose memory a child really fills, of whichever version the kernel gives the memory controller to.
//! Version 2 runs in the guest of `cargo xtask vm`, too, since many hosts still mount version 1.

use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use lb_tests::skip;
use lb_tests::testbed::cgroup::{Cgroup, Version};
use rollcall::agent::{Agent, Options};
use rollcall::config::memory::{MemoryKind, MemorySource};
use rollcall::core::memory::sample::Sample;
use rollcall::io::memory;
use tokio_util::sync::CancellationToken;

const MIB: u64 = 1 << 20;

/// A child in a cgroup that takes memory when it is told to, and keeps it.
struct Filler {
    child: Child,
    orders: ChildStdin,
    done: BufReader<ChildStdout>,
}

impl Filler {
    fn start(cgroup: &Cgroup) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "agent_cgroup::filler", "--ignored", "--nocapture"]);
        cgroup.enter(&mut command);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (orders, done) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        Self { child, orders, done }
    }

    fn order(&mut self, order: &str) {
        writeln!(self.orders, "{order}").unwrap();
        let mut line = String::new();
        while !line.contains(&format!("done {order}")) {
            line.clear();
            assert_ne!(self.done.read_line(&mut line).unwrap(), 0, "the child died of {order:?}");
        }
    }
}

impl Drop for Filler {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
#[ignore = "started by the test below, in a cgroup"]
fn filler() {
    let (mut kept, mut files) = (Vec::new(), Vec::new());
    for order in std::io::stdin().lines() {
        let order = order.unwrap();
        let (what, number) = order.split_once(' ').unwrap();
        let number: usize = number.parse().unwrap();
        match what {
            // Written, so that the pages are there.
            "take" => kept.push(vec![1u8; number << 20]),
            "threads" => (0..number).for_each(|_| _ = std::thread::spawn(std::thread::park)),
            // The names and inodes that this makes are caches of the kernel's, which it can take back.
            "walk" => walk(Path::new("/proc/self/task"), number),
            // As are pages of a file, once they are on the disk.
            "file" => {
                let mut file = tempfile::tempfile().unwrap();
                file.write_all(&vec![1u8; number << 20]).unwrap();
                file.sync_all().unwrap();
                files.push(file);
            }
            _ => panic!("unknown order {order}"),
        }
        println!("done {order}");
    }
}

/// Looks at everything in a folder, and so many levels below.
fn walk(folder: &Path, levels: usize) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.metadata().is_ok_and(|meta| meta.is_dir()) && levels > 0 {
            walk(&entry.path(), levels - 1);
        }
    }
}

/// Reads as a balancer does, and again if a busy (or emulated) machine did not answer within its second.
async fn read(to: SocketAddr) -> Result<Sample, String> {
    let source = MemorySource { kind: MemoryKind::Agent { token_file: None }, to, interval: Duration::from_secs(5) };
    let end = Instant::now() + Duration::from_secs(40);
    loop {
        match memory::read(&source).await.map_err(|e| e.to_string()) {
            Err(late) if late.starts_with("timed out") && Instant::now() < end => {}
            result => return result,
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn agent_follows_a_cgroup_that_a_child_fills() {
    let Some(above) = Cgroup::create(&format!("rollcall-test-{}", std::process::id())) else {
        skip::record("net agent_cgroup::follows", "no cgroups limit memory on this host");
        return;
    };
    let options = Options {
        listen: "127.0.0.1:0".parse().unwrap(),
        allow: Vec::new(),
        token_file: None,
        cgroup: Some(above.path().join("app")),
    };
    // It may start before the service that it watches.
    let agent = Agent::bind(options).await.unwrap();
    let (to, stop) = (agent.address(), CancellationToken::new());
    let serving = tokio::spawn(agent.serve(stop.clone()));
    let missing =
        format!("status 503: there is no cgroup /rollcall-test-{}/app; does its service run?", std::process::id());
    assert_eq!(read(to).await.unwrap_err(), missing);

    let app = above.below("app");
    app.limit(Some(64 * MIB));
    let mut filler = Filler::start(&app);
    // Less would leave the cgroup a larger share than the system has.
    filler.order("take 20");
    let before = read(to).await.unwrap();
    assert_eq!(before.total_bytes, 64 * MIB, "{before:?}");
    filler.order("take 24");
    let after = read(to).await.unwrap();
    let used = after.used_bytes() - before.used_bytes();
    assert!(used.abs_diff(24 * MIB) < 2 * MIB, "24 MiB were taken, and {used} bytes more are used");
    // A tighter limit above it counts from when it is set.
    above.limit(Some(50 * MIB));
    let tighter = read(to).await.unwrap();
    assert_eq!(tighter.total_bytes, 50 * MIB, "{tighter:?}");
    assert!(tighter.headroom() < 0.15, "{tighter:?}");
    above.limit(None);

    // Room for the stacks of threads.
    app.limit(Some(128 * MIB));
    filler.order("threads 300");
    let current = app.usage();
    let before = read(to).await.unwrap();
    // The kernel's own caches are told apart by version 2 alone.
    match app.version() {
        Version::V1 => filler.order("file 32"),
        Version::V2 => filler.order("walk 2"),
    }
    let grown = app.usage() - current;
    assert!(grown > 2 * MIB, "a cache grew the cgroup by {grown} bytes only");
    let more = read(to).await.unwrap().used_bytes().saturating_sub(before.used_bytes());
    assert!(more < grown / 2, "of {grown} bytes, nearly all reclaimable, {more} are counted as used");

    drop((filler, app));
    assert_eq!(read(to).await.unwrap_err(), missing);
    stop.cancel();
    serving.await.unwrap();
}
