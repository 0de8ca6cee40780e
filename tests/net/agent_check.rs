//! HAProxy's agent-check: what HAProxy itself makes of an agent's lines, and what we make of them.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use lb_tests::testbed::poll;
use lb_tests::testbed::process::Process;
use rollcall::config::memory::AgentCheck;
use rollcall::core::memory::advice::{Advice, Intent, State};
use rollcall::io::memory::{self, MemoryError};

use crate::ns::{Namespace, PATIENCE};

/// An agent that answers every connection with its current line, and counts how often.
struct Agent {
    to: SocketAddr,
    shared: Arc<Mutex<Line>>,
}

#[derive(Clone, Copy)]
struct Line {
    text: &'static str,
    /// Tells it from an earlier one of the same text.
    number: u64,
    /// How often it was said.
    said: u64,
}

impl Agent {
    fn start(ns: &Namespace) -> Self {
        let shared = Arc::new(Mutex::new(Line { text: "up\n", number: 0, said: 0 }));
        let theirs = Arc::clone(&shared);
        let to = ns.run(move || {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let to = listener.local_addr().unwrap();
            std::thread::spawn(move || {
                for stream in listener.incoming() {
                    let line = *theirs.lock().unwrap();
                    // Whoever asks may have left.
                    let _ = stream.and_then(|mut stream| stream.write_all(line.text.as_bytes()));
                    let mut now = theirs.lock().unwrap();
                    now.said += u64::from(now.number == line.number);
                }
            });
            to
        });
        Self { to, shared }
    }

    /// Says `text` from now on, and waits until it was said twice: HAProxy asks again only when what came of the first
    /// time is in force.
    fn say(&self, text: &'static str) {
        let mut line = self.shared.lock().unwrap();
        *line = Line { text, number: line.number + 1, said: 0 };
        drop(line);
        poll::until(PATIENCE, "HAProxy asks its agent", || {
            let said = self.shared.lock().unwrap().said;
            if said >= 2 { Ok(()) } else { Err(format!("asked {said} times")) }
        });
    }

    /// What we read of it; again if a busy machine did not answer within its second.
    fn asked(&self, ns: &Namespace) -> Result<Advice, MemoryError> {
        let check = AgentCheck { to: self.to, interval: Duration::from_secs(5) };
        poll::until(PATIENCE, "an answer of the agent", || match ns.block_on(memory::ask(&check)) {
            Err(late) if late.to_string().starts_with("timed out") => Err(late.to_string()),
            result => Ok(result),
        })
    }
}

/// HAProxy with one server, whose agent is ours.
struct Haproxy {
    socket: PathBuf,
    _process: Process,
    _files: tempfile::TempDir,
}

/// What HAProxy holds of its server: `show servers state` and `show stat`.
#[derive(Debug, PartialEq, Eq)]
struct Server {
    running: bool,
    maintenance: bool,
    drain: bool,
    weight: u32,
    max_connections: u32,
    last_agent: String,
}

impl Haproxy {
    fn start(ns: &Namespace, agent: SocketAddr) -> Self {
        let files = tempfile::tempdir().unwrap();
        let socket = files.path().join("stats");
        let configuration = files.path().join("haproxy.cfg");
        let text = format!(
            "global\n stats socket {} mode 600 level admin\n\
             defaults\n mode tcp\n timeout connect 20s\n timeout check 20s\n timeout client 1s\n timeout server 1s\n\
             backend b\n server s 127.0.0.1:1 weight 100 maxconn 7 agent-check agent-port {} agent-inter 40ms\n",
            socket.display(),
            agent.port()
        );
        std::fs::write(&configuration, text).unwrap();
        let log = files.path().join("log");
        let process =
            ns.run(|| Process::spawn("haproxy", Command::new("haproxy").arg("-db").arg("-f").arg(configuration), &log));
        let haproxy = Self { socket, _process: process, _files: files };
        poll::until(PATIENCE, "HAProxy answers", || {
            UnixStream::connect(&haproxy.socket).map(drop).map_err(|e| e.to_string())
        });
        haproxy
    }

    fn ask(&self, command: &str) -> String {
        let mut stream = UnixStream::connect(&self.socket).unwrap();
        writeln!(stream, "{command}").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    fn server(&self) -> Server {
        // A line of names, a line of values.
        let state = self.ask("show servers state b");
        let mut lines = state.lines().skip_while(|l| !l.starts_with("# "));
        let names: Vec<&str> = lines.next().unwrap()[2..].split(' ').collect();
        let values: Vec<&str> = lines.next().unwrap().split(' ').collect();
        let number = |name: &str| -> u32 { values[names.iter().position(|n| *n == name).unwrap()].parse().unwrap() };
        let stat = self.ask("show stat");
        let mut lines = stat.lines();
        let names: Vec<&str> = lines.next().unwrap()[2..].split(',').collect();
        let values: Vec<&str> = lines.find(|l| l.starts_with("b,s,")).unwrap().split(',').collect();
        let text = |name: &str| values[names.iter().position(|n| *n == name).unwrap()];
        let administrative = number("srv_admin_state");
        Server {
            // SRV_ST_STOPPED is 0, SRV_ADMF_FMAINT 1, SRV_ADMF_FDRAIN 8.
            running: number("srv_op_state") != 0,
            maintenance: administrative & 1 != 0,
            drain: administrative & 8 != 0,
            weight: number("srv_uweight"),
            max_connections: text("slim").parse().unwrap(),
            last_agent: text("last_agt").to_owned(),
        }
    }
}

/// What HAProxy must hold if it was as `before` and got this advice.
fn advised(before: &Server, advice: &Advice) -> Server {
    let maintenance = advice.intent.map_or(before.maintenance, |intent| intent == Intent::Maintenance);
    Server {
        // In maintenance it is stopped, whatever the agent finds.
        running: !maintenance && advice.state.map_or(before.running, |state| !state.is_down()),
        maintenance,
        drain: advice.intent.map_or(before.drain, |intent| intent == Intent::Drain),
        // Its weights end at 256.
        weight: advice.percent.map_or(before.weight, |percent| u32::from(percent).min(256)),
        max_connections: advice.max_connections.unwrap_or(before.max_connections),
        last_agent: String::new(),
    }
}

const LINES: &[&str] = &[
    "75%\n",
    "75%\r\n",
    "0%\n",
    "300%\n",
    "99999%\n",
    "DRAIN\n",
    "Maint\n",
    "drain 30%\n",
    "fail,10%\n",
    "maxconn:30\n",
    // Not ended, so it may have been cut.
    "75%",
    "drain",
    "maxconn:30",
    "MAXCONN:31,12%\n",
    "10% 20%\n",
    "drain ready\n",
    "ready drain maint\n",
    "hello drain\n",
    "drain hello 40%\n",
    "-5% drain\n",
    "75\n",
    "up down\n",
    "down up\n",
    "stopped drain\n",
    "down # drain maint 1%\n",
    "drain\nmaint\n",
    "drain\rmaint\n",
    "  \tdrain,,40%  \n",
    "50%% drain\n",
    "7x% drain\n",
    "+50% drain\n",
    "maxconn:x drain\n",
    "drained\n",
    "down#glued\n",
    "#drain\n",
];

#[test]
fn advice_is_what_haproxy_makes_of_the_same_lines() {
    let ns = Namespace::new();
    let agent = Agent::start(&ns);
    let haproxy = Haproxy::start(&ns, agent.to);
    let mut wrong = Vec::new();
    for &line in LINES {
        agent.say("up ready 100% maxconn:7\n");
        let before = haproxy.server();
        assert!(before.running && !before.drain && !before.maintenance && before.weight == 100, "{before:?}");
        agent.say(line);
        let theirs = Server { last_agent: String::new(), ..haproxy.server() };
        let ours = agent.asked(&ns);
        // What is not understood at all changes nothing.
        let advice = ours.clone().unwrap_or_default();
        if theirs != advised(&before, &advice) {
            wrong.push(format!("{line:?}: HAProxy has {theirs:?}, we read {ours:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn message_is_the_one_that_haproxy_shows() {
    let ns = Namespace::new();
    let agent = Agent::start(&ns);
    let haproxy = Haproxy::start(&ns, agent.to);
    agent.say("stopped # new release\n");
    let theirs = haproxy.server().last_agent;
    let ours = agent.asked(&ns).unwrap();
    assert_eq!((ours.state, ours.message.as_deref()), (Some(State::Stopped), Some("new release")));
    assert!(theirs.contains("stopped") && theirs.contains("new release"), "{theirs}");
}
