//! A small bed: one arm, two servers, the daemon with every member in rotation.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::time::Duration;

use lb_tests::testbed::bed::{Bed, Family, Plan, Shape};
use lb_tests::testbed::nginx::Nginx;
use lb_tests::testbed::poll;
use lb_tests::testbed::process::Process;
use lb_tests::testbed::rollcall::{Configuration, Rollcall, WEB, binary};

/// Time in which a daemon must have started, or must have said why not.
pub const START: Duration = Duration::from_secs(30);

/// A running system. Fields are dropped in this order.
pub struct Stage {
    pub rollcall: Rollcall,
    pub nginx: Vec<Nginx>,
    pub configuration: Configuration,
    pub bed: Bed,
}

impl Stage {
    /// The daemon runs, every member is in rotation.
    #[track_caller]
    pub fn new() -> Self {
        let mut stage = Self::before_start();
        stage.start();
        stage
    }

    /// The file is written, the daemon not yet started.
    #[track_caller]
    pub fn before_start() -> Self {
        Self::with_backends(2)
    }

    /// As [`Stage::before_start`], with so many servers.
    #[track_caller]
    pub fn with_backends(backends: u8) -> Self {
        let plan = Plan { prefix: "rc-daemon", shape: Shape::OneArm, clients: 1, addresses: 1, backends };
        let bed = Bed::build(plan);
        let nginx = Nginx::start_all(&bed);
        let mut configuration = Configuration::usual(&bed, "maglev");
        configuration.owner = "cli";
        let rollcall = Rollcall::absent(&bed);
        rollcall.write(&configuration);
        Self { rollcall, nginx, configuration, bed }
    }

    /// Starts the daemon and waits until every member is in rotation.
    #[track_caller]
    pub fn start(&mut self) {
        self.rollcall.run(&self.bed);
        self.rollcall.wait_for_all(&self.bed, START);
    }

    /// Starts a daemon that fails for as long as the file that is returned says so.
    #[track_caller]
    pub fn start_fallible(&mut self) -> (Process, PathBuf) {
        let faults = self.bed.scratch.path("faults");
        let daemon = self.spawn(&[("ROLLCALL_FAULTS", faults.to_str().expect("the folder has a plain name"))]);
        self.rollcall.wait_for_all(&self.bed, START);
        (daemon, faults)
    }

    /// A connection from the client to the web service.
    #[track_caller]
    pub fn connect(&self) -> std::io::Result<TcpStream> {
        let web = SocketAddr::new(self.bed.vip(Family::V4), WEB);
        self.bed.clients[0].enter(|| {
            let stream = TcpStream::connect_timeout(&web, Duration::from_secs(2))?;
            stream.set_read_timeout(Some(Duration::from_secs(2)))?;
            Ok(stream)
        })
    }

    /// Waits until a new connection is answered.
    #[track_caller]
    pub fn wait_for_service(&self) {
        poll::until(START, "an answer from the VIP", || {
            self.connect().and_then(|mut stream| ask(&mut stream)).map_err(|e| e.to_string())
        });
    }

    /// Starts a daemon that the caller watches itself.
    #[track_caller]
    pub fn spawn(&self, environment: &[(&str, &str)]) -> Process {
        let mut command = self.bed.edge.command(binary());
        command.arg("run").arg("--config").arg(self.rollcall.file()).envs(environment.iter().copied());
        let _ = std::fs::remove_file(self.log());
        Process::spawn("rollcall", &mut command, &self.log())
    }

    /// Runs a daemon that must refuse to start; its exit code and what it said.
    #[track_caller]
    pub fn refused(&self) -> (i32, String) {
        let status = self.spawn(&[]).wait(START);
        let said = std::fs::read_to_string(self.log()).expect("it has a log");
        (status.code().unwrap_or(-1), said)
    }

    /// The configuration file's text.
    #[track_caller]
    pub fn file_text(&self) -> String {
        std::fs::read_to_string(self.rollcall.file()).expect("it is there and readable")
    }

    /// Whether anything is pinned.
    pub fn is_pinned(&self) -> bool {
        self.bed.scratch.bpf().join("rollcall").exists()
    }

    fn log(&self) -> PathBuf {
        self.bed.scratch.path("watched.log")
    }
}

/// One request on a connection that stays open; the answering backend's name.
pub fn ask(stream: &mut TcpStream) -> io::Result<String> {
    stream.write_all(b"GET / HTTP/1.1\r\nHost: web\r\n\r\n")?;
    let mut answer = [0; 4096];
    let length = stream.read(&mut answer)?;
    let answer = String::from_utf8_lossy(&answer[..length]).into_owned();
    let backend = answer.lines().find_map(|l| l.to_ascii_lowercase().strip_prefix("x-backend: ").map(str::to_owned));
    backend.filter(|_| answer.starts_with("HTTP/1.1 200")).ok_or_else(|| io::Error::other(answer))
}
