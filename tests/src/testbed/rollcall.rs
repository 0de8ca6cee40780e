//! The product as an operator meets it: a configuration file, the daemon, the command line and its JSON.

use std::fmt::Write;
use std::io::Read;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::testbed::bed::{Bed, FAMILIES, Family};
use crate::testbed::kernel::Tables;
use crate::testbed::process::Process;
use crate::testbed::{nginx, poll, udp};

/// Names the binary, if it is not beside the tests.
pub const BINARY: &str = "ROLLCALL_BINARY";

/// Time in which a daemon must have started and written its maps; generous, for a busy machine.
const START: Duration = Duration::from_secs(30);

/// The daemon's pins, in the testbed's folder.
const PINS: &str = "bpf/rollcall";

/// A configuration file in the making.
#[derive(Clone, Debug)]
pub struct Configuration {
    /// Who edits it: `cli` or `external`.
    pub owner: &'static str,
    /// Interfaces of the edge.
    pub interfaces: Vec<String>,
    /// Source addresses.
    pub pool: Vec<IpAddr>,
    /// Servers: name and addresses.
    pub backends: Vec<(String, Vec<IpAddr>)>,
    /// Services.
    pub services: Vec<Service>,
    /// Time between two probes.
    pub interval: Duration,
    /// Consecutive failures until a member is down.
    pub fall: u32,
}

/// A service of a configuration.
#[derive(Clone, Debug)]
pub struct Service {
    /// Its name.
    pub name: String,
    /// What it listens on.
    pub listen: SocketAddr,
    /// `tcp` or `udp`.
    pub protocol: &'static str,
    /// `nat`, `dsr-l2` or `dsr-ipip`.
    pub mode: &'static str,
    /// `round-robin` or `maglev`.
    pub algorithm: &'static str,
    /// Whether refused attempts go to another member; of a TCP service.
    pub second_chance: bool,
    /// Port of all members.
    pub port: u16,
    /// Members and weights.
    pub members: Vec<(String, u16)>,
}

/// Port of the web services at the VIP; the members' port is another, so every request proves the translation.
pub const WEB: u16 = 80;

impl Configuration {
    /// Four services over all backends of the bed: `web4`, `web6`, `echo4`, `echo6`.
    pub fn usual(bed: &Bed, algorithm: &'static str) -> Self {
        let names: Vec<String> = (1..=bed.backends.len()).map(|n| format!("b{n}")).collect();
        let service = |family, kind: &str, protocol, listen_port, port| Service {
            name: format!("{kind}{}", if family == Family::V4 { 4 } else { 6 }),
            listen: SocketAddr::new(bed.vip(family), listen_port),
            protocol,
            mode: "nat",
            algorithm,
            second_chance: true,
            port,
            members: names.iter().map(|name| (name.clone(), 1)).collect(),
        };
        let web = FAMILIES.map(|f| service(f, "web", "tcp", WEB, nginx::PORT));
        let echo = FAMILIES.map(|f| service(f, "echo", "udp", udp::PORT, udp::PORT));
        Self {
            owner: "external",
            interfaces: bed.interfaces().iter().map(|&i| i.to_owned()).collect(),
            pool: FAMILIES.map(|f| bed.pool(f)).to_vec(),
            backends: (0..)
                .zip(&names)
                .map(|(i, name)| (name.clone(), FAMILIES.map(|f| bed.backend_address(f, i)).to_vec()))
                .collect(),
            services: web.into_iter().chain(echo).collect(),
            interval: Duration::from_millis(200),
            fall: 3,
        }
    }

    /// The file's text, with the daemon's own paths in `folder`.
    pub fn text(&self, folder: &Path) -> String {
        let at = |name: &str| folder.join(name).display().to_string();
        let quoted = |family: fn(&IpAddr) -> bool| -> Vec<String> {
            self.pool.iter().copied().filter(family).map(|a| a.to_string()).collect()
        };
        let mut text = format!(
            "config_owner = {:?}\n\n[edge]\ninterfaces = {:?}\n\n[source_pool]\nipv4 = {:?}\nipv6 = {:?}\n\
             # Outside the host's own range, 32768 to 60999.\nports = \"10000-29999\"\n\n\
             [control]\nsocket = {:?}\nstate_dir = {:?}\npin_dir = {:?}\n",
            self.owner,
            self.interfaces,
            quoted(IpAddr::is_ipv4),
            quoted(IpAddr::is_ipv6),
            at("control.sock"),
            at("state"),
            at(PINS),
        );
        for (name, addresses) in &self.backends {
            write!(text, "\n[[backend]]\nname = {name:?}\n").expect("a string takes all");
            for address in addresses {
                let key = if address.is_ipv4() { "ipv4" } else { "ipv6" };
                writeln!(text, "{key} = \"{address}\"").expect("a string takes all");
            }
        }
        for service in &self.services {
            self.write_service(&mut text, service).expect("a string takes all");
        }
        text
    }

    fn write_service(&self, text: &mut String, service: &Service) -> std::fmt::Result {
        write!(
            text,
            "\n[[service]]\nname = {:?}\nvip = \"{}\"\nport = {}\nprotocol = {:?}\nalgorithm = {:?}\n\
             # A prime of about a thousand for each backend.\ntable_size = 10007\n",
            service.name,
            service.listen.ip(),
            service.listen.port(),
            service.protocol,
            service.algorithm
        )?;
        if service.mode != "nat" {
            writeln!(text, "mode = {:?}", service.mode)?;
        }
        if service.protocol == "tcp" {
            writeln!(text, "second_chance = {}", service.second_chance)?;
            let ms = self.interval.as_millis();
            write!(
                text,
                "\n[service.probe]\ntype = \"http\"\npath = \"/\"\ninterval = \"{ms}ms\"\ntimeout = \"{ms}ms\"\n\
                 rise = 2\nfall = {}\n",
                self.fall
            )?;
        } else {
            // What answers UDP on a backend is asked about by its TCP neighbour.
            write!(
                text,
                "\n[service.probe]\ntype = \"tcp\"\nport = {}\ninterval = \"{}ms\"\nrise = 2\nfall = {}\n",
                nginx::PORT,
                self.interval.as_millis(),
                self.fall
            )?;
        }
        for (backend, weight) in &service.members {
            write!(text, "\n[[service.member]]\nbackend = {backend:?}\nport = {}\nweight = {weight}\n", service.port)?;
        }
        Ok(())
    }
}

/// The daemon on the edge of a bed, and its command line.
pub struct Rollcall {
    folder: PathBuf,
    process: Option<Process>,
}

/// What a command printed and returned.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Exit code; -1 if a signal ended it.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Rollcall {
    /// Writes the file, starts the daemon and waits until every member is in rotation and the kernel holds it.
    #[track_caller]
    pub fn start(bed: &Bed, configuration: &Configuration) -> Self {
        let mut rollcall = Self { folder: bed.scratch.path(""), process: None };
        rollcall.write(configuration);
        rollcall.run(bed);
        rollcall.wait_for_all(bed, START);
        rollcall
    }

    /// A command line for a bed whose daemon is started later, or never.
    pub fn absent(bed: &Bed) -> Self {
        Self { folder: bed.scratch.path(""), process: None }
    }

    /// The configuration file.
    pub fn file(&self) -> PathBuf {
        self.folder.join("rollcall.toml")
    }

    /// The control socket.
    pub fn socket(&self) -> PathBuf {
        self.folder.join("control.sock")
    }

    /// Replaces the configuration file, as an editor would: at once.
    #[track_caller]
    pub fn write(&self, configuration: &Configuration) {
        self.write_text(&configuration.text(&self.folder));
    }

    /// Replaces the configuration file by this text.
    #[track_caller]
    pub fn write_text(&self, text: &str) {
        let new = self.folder.join("rollcall.toml.new");
        std::fs::write(&new, text).and_then(|()| std::fs::rename(&new, self.file())).expect("the folder is writable");
    }

    /// Starts the daemon without waiting for anything.
    #[track_caller]
    pub fn run(&mut self, bed: &Bed) {
        let mut command = bed.edge.command(binary());
        command.arg("run").arg("--config").arg(self.file());
        self.process = Some(Process::spawn("rollcall", &mut command, &self.folder.join("rollcall.log")));
    }

    /// Waits until every member of every service is in rotation, the kernel holds all that was decided, and the program
    /// is on every interface.
    #[track_caller]
    pub fn wait_for_all(&mut self, bed: &Bed, deadline: Duration) -> Value {
        self.wait_for(bed, deadline, "every member in rotation", |status| {
            let attached = status["attached"].as_array().map_or(0, Vec::len);
            attached == bed.interfaces().len() && members(status).all(|m| m["in_rotation"] == Value::Bool(true))
        })
    }

    /// Waits until the status is settled and as wanted.
    #[track_caller]
    pub fn wait_for(&mut self, bed: &Bed, deadline: Duration, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        poll::until(deadline, what, || {
            if let Some(process) = &mut self.process {
                assert!(process.is_running(), "the daemon ended:\n{}", process.tail());
            }
            let answer = self.cli(bed, &["status", "--output", "json"]);
            if answer.code != 0 {
                return Err(answer.stderr);
            }
            let status: Value = serde_json::from_str(&answer.stdout).map_err(|e| format!("{e}: {}", answer.stdout))?;
            if status["settled"] == Value::Bool(true) && wanted(&status) { Ok(status) } else { Err(answer.stdout) }
        })
    }

    /// Runs the command line in the edge's namespace.
    #[track_caller]
    pub fn cli(&self, bed: &Bed, arguments: &[&str]) -> Answer {
        let mut command = bed.edge.command(binary());
        command.arg("--config").arg(self.file()).arg("--socket").arg(self.socket()).args(arguments);
        answer(&mut command)
    }

    /// Runs a reading verb; its JSON.
    #[track_caller]
    pub fn json(&self, bed: &Bed, arguments: &[&str]) -> Value {
        let answer = self.cli(bed, &[arguments, &["--output", "json"]].concat());
        assert_eq!(answer.code, 0, "{arguments:?}: {}", answer.stderr);
        serde_json::from_str(&answer.stdout).unwrap_or_else(|e| panic!("{arguments:?}: {e}: {}", answer.stdout))
    }

    /// The roll call.
    #[track_caller]
    pub fn status(&self, bed: &Bed) -> Value {
        self.json(bed, &["status"])
    }

    /// Panics unless the kernel's tables are what the status says of them; see [`Tables`].
    ///
    /// At once, not after a while: the daemon repairs what it finds wrong, and a settled status must be true before that.
    /// Only where the status itself changed meanwhile the comparison is made again.
    #[track_caller]
    pub fn assert_kernel_agrees(&self, bed: &Bed, configuration: &Configuration) {
        self.assert_agrees(bed, configuration, |tables| tables);
    }

    /// The same of who takes new flows alone: where a server was just removed, the kernel still holds it for its flows.
    #[track_caller]
    pub fn assert_shares_agree(&self, bed: &Bed, configuration: &Configuration) {
        self.assert_agrees(bed, configuration, Tables::serving);
    }

    #[track_caller]
    fn assert_agrees(&self, bed: &Bed, configuration: &Configuration, part: fn(Tables) -> Tables) {
        let reported = || {
            let status = self.status(bed);
            let settled = status["settled"] == Value::Bool(true);
            (settled, Tables::reported(&status, &configuration.pool))
        };
        let (reported, held) = poll::until(Duration::from_secs(10), "a status that stands still", || {
            let before = reported();
            let held = Tables::pinned(&self.folder.join(PINS));
            if before.0 && reported() == before { Ok((before.1, held)) } else { Err(format!("{before:#?}")) }
        });
        assert_eq!(Ok(part(reported)), held.map(part), "left is what the daemon reports, right what the kernel holds");
    }

    /// Writes the file and has it reloaded.
    #[track_caller]
    pub fn reload(&self, bed: &Bed, configuration: &Configuration) {
        self.write(configuration);
        let answer = self.cli(bed, &["reload"]);
        assert_eq!(answer.code, 0, "reload: {}", answer.stderr);
    }

    /// Kills the daemon by SIGKILL. The data plane stays.
    #[track_caller]
    pub fn kill(&mut self) {
        self.process.take().expect("the daemon was started").kill();
    }

    /// Ends the daemon by SIGTERM and waits for it. The data plane stays.
    #[track_caller]
    pub fn terminate(&mut self) {
        let mut process = self.process.take().expect("the daemon was started");
        process.signal(Signal::SIGTERM);
        let status = process.wait(Duration::from_secs(10));
        assert!(status.success(), "the daemon ended with {status}:\n{}", process.tail());
    }

    /// The daemon's process id.
    pub fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(Process::pid)
    }

    /// The running daemon.
    pub fn process(&mut self) -> Option<&mut Process> {
        self.process.as_mut()
    }
}

/// All members of all services in a status.
pub fn members(status: &Value) -> impl Iterator<Item = &Value> {
    status["services"].as_array().into_iter().flatten().flat_map(|s| s["backends"].as_array().into_iter().flatten())
}

/// One member in a status.
#[track_caller]
pub fn member<'a>(status: &'a Value, service: &str, backend: &str) -> &'a Value {
    let service = status["services"].as_array().into_iter().flatten().find(|s| s["name"] == service);
    let backends = service.and_then(|s| s["backends"].as_array()).into_iter().flatten();
    backends.into_iter().find(|b| b["backend"] == backend).unwrap_or_else(|| panic!("no member {backend}: {status:#}"))
}

/// Time in which a command that is not meant to stay must have ended.
const ANSWER: Duration = Duration::from_secs(20);

/// Runs a command to its end; panics if it does not end, such as a daemon that should have been refused.
#[track_caller]
pub fn answer(command: &mut Command) -> Answer {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|e| panic!("cannot run {:?}: {e}", command.get_program()));
    let stdout = collect(child.stdout.take().expect("it is piped"));
    let stderr = collect(child.stderr.take().expect("it is piped"));
    let end = Instant::now() + ANSWER;
    let status = loop {
        if let Some(status) = child.try_wait().expect("it was started") {
            break Some(status);
        }
        if Instant::now() >= end {
            child.kill().and_then(|()| child.wait()).expect("a child can be killed");
            break None;
        }
        std::thread::sleep(Duration::from_millis(2));
    };
    let text = |thread: JoinHandle<String>| thread.join().expect("reading does not panic");
    let (stdout, stderr) = (text(stdout), text(stderr));
    let Some(status) = status else {
        panic!("{:?} did not end within {ANSWER:?}; it said: {stderr}", command.get_args());
    };
    Answer { code: status.code().unwrap_or(-1), stdout, stderr }
}

/// Reads all of a pipe on a thread, so that a full pipe never stops the command.
fn collect(mut pipe: impl Read + Send + 'static) -> JoinHandle<String> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        // A pipe that breaks gives what came before.
        let _ = pipe.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

/// The binary under test: named by the environment, or built beside this program.
#[track_caller]
pub fn binary() -> PathBuf {
    if let Some(path) = std::env::var_os(BINARY) {
        return path.into();
    }
    let own = std::env::current_exe().expect("Linux knows it");
    let found = own.ancestors().skip(1).take(2).map(|folder| folder.join("rollcall")).find(|path| path.is_file());
    found.unwrap_or_else(|| {
        panic!("no `rollcall` beside {}: build it with `cargo build --package lb-userspace`", own.display())
    })
}
