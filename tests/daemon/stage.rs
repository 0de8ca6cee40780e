//! A small bed: one arm, two servers, the daemon with every member in rotation.

use std::path::PathBuf;
use std::time::Duration;

use lb_tests::testbed::bed::{Bed, Plan, Shape};
use lb_tests::testbed::nginx::Nginx;
use lb_tests::testbed::process::Process;
use lb_tests::testbed::rollcall::{Configuration, Rollcall, binary};

/// Time in which a daemon must have started, or must have said why not.
pub const START: Duration = Duration::from_secs(30);

/// A running system. Fields are dropped in this order.
pub struct Stage {
    pub rollcall: Rollcall,
    pub _nginx: Vec<Nginx>,
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
        let plan = Plan { prefix: "rc-daemon", shape: Shape::OneArm, clients: 1, addresses: 1, backends: 2 };
        let bed = Bed::build(plan);
        let nginx = Nginx::start_all(&bed);
        let mut configuration = Configuration::usual(&bed, "maglev");
        configuration.owner = "cli";
        let rollcall = Rollcall::absent(&bed);
        rollcall.write(&configuration);
        Self { rollcall, _nginx: nginx, configuration, bed }
    }

    /// Starts the daemon and waits until every member is in rotation.
    #[track_caller]
    pub fn start(&mut self) {
        self.rollcall.run(&self.bed);
        self.rollcall.wait_for_all(&self.bed, START);
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
