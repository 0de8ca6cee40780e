//! The stage of one story: its own hosts, servers in cgroups, memory agents, balancer, and who is on call.

use std::net::SocketAddr;
use std::time::Duration;

use lb_tests::testbed::bed::{Bed, Family, Plan, Shape};
use lb_tests::testbed::cgroup::Cgroup;
use lb_tests::testbed::load::{self, Load};
use lb_tests::testbed::nginx::PORT;
use lb_tests::testbed::poll;
use lb_tests::testbed::process::Process;
use lb_tests::testbed::receiver::Receiver;
use lb_tests::testbed::rollcall::{Configuration, Rollcall, Service, WEB, binary};

use crate::model;
use crate::story::Kind;

/// Begins the names of all that the drill makes.
pub const PREFIX: &str = "rc-drill";

/// The servers, in the order of the bed's backends.
pub const NAMES: [&str; 2] = ["web-01", "web-02"];

/// Port of the memory agents.
const AGENT: u16 = 9465;

/// Time in which a server or an agent must answer after its start.
const START: Duration = Duration::from_secs(20);

/// The running system. Fields are dropped in this order.
pub struct Stage {
    /// The balancer and its command line.
    pub rollcall: Rollcall,
    _agents: Vec<Process>,
    /// The servers.
    pub servers: Vec<Server>,
    _cgroup: Cgroup,
    /// Who is on call; the plain balancer has nobody.
    pub receiver: Option<Receiver>,
    configuration: Configuration,
    /// The hosts.
    pub bed: Bed,
}

/// An application server in its cgroup.
pub struct Server {
    process: Process,
    cgroup: Cgroup,
}

impl Server {
    /// The share of its limit that is free.
    pub fn headroom(&self) -> f64 {
        model::LIMIT.saturating_sub(self.cgroup.usage()) as f64 / model::LIMIT as f64
    }

    /// Whether the kernel ended it because its memory ran out.
    pub fn is_killed(&mut self) -> bool {
        self.cgroup.oom_kills() > 0 || !self.process.is_running()
    }
}

impl Stage {
    /// Builds it and waits until both servers are in rotation.
    pub fn build(kind: Kind) -> Self {
        let plan = Plan { prefix: PREFIX, shape: Shape::TwoArm, clients: 1, addresses: 20, backends: 2 };
        let bed = Bed::build(plan);
        let cgroup = Cgroup::create(bed.scratch.name())
            .expect("the drill fills memory in cgroups, and none limit memory on this host: see docs/drill.md");
        let servers: Vec<Server> = (0..NAMES.len()).map(|index| start_server(&bed, &cgroup, index)).collect();
        let monitored = kind != Kind::Plain;
        let agents = if monitored {
            (0..NAMES.len()).map(|index| start_agent(&bed, &servers[index].cgroup, index)).collect()
        } else {
            Vec::new()
        };
        let receiver = monitored.then(|| Receiver::start(&bed));
        let configuration = configuration(&bed);
        let mut rollcall = Rollcall::absent(&bed);
        rollcall.write_text(&text(&bed, &configuration, receiver.as_ref()));
        rollcall.run(&bed);
        rollcall.wait_for_all(&bed, Duration::from_secs(60));
        if monitored {
            rollcall.wait_for(&bed, START, "the memory of both servers", |status| {
                let backends = status["services"][0]["backends"].as_array();
                backends.is_some_and(|all| all.iter().all(|b| b["memory"]["state"] == "ample"))
            });
        }
        Self { rollcall, _agents: agents, servers, _cgroup: cgroup, receiver, configuration, bed }
    }

    /// Sends `users` to the site.
    pub fn users(&self, users: usize) -> Load {
        let target = SocketAddr::new(self.bed.vip(Family::V4), WEB);
        let mut plan = load::Plan::new(target, self.bed.client_addresses(Family::V4, 0));
        plan.workers = users;
        plan.every = model::CYCLE;
        Load::start(&self.bed.clients[0], plan)
    }

    /// Takes `web-02` off the list of a balancer that makes no more of it than that.
    pub fn forget_web_02(&self) {
        let mut without = self.configuration.clone();
        without.services[0].members.pop();
        self.rollcall.write_text(&text(&self.bed, &without, None));
        let answer = self.rollcall.cli(&self.bed, &["reload"]);
        assert_eq!(answer.code, 0, "reload: {}", answer.stderr);
    }
}

#[track_caller]
fn start_server(bed: &Bed, above: &Cgroup, index: usize) -> Server {
    let (name, host) = (NAMES[index], &bed.backends[index]);
    let cgroup = above.below(name);
    cgroup.limit(Some(model::LIMIT));
    let mut command = host.command(std::env::current_exe().expect("Linux knows it"));
    cgroup.enter(&mut command);
    let mut process = Process::spawn(name, command.args(["serve", name]), &bed.scratch.path(&format!("{name}.log")));
    wait_for(bed, index, &mut process, SocketAddr::from(([127, 0, 0, 1], PORT)));
    Server { process, cgroup }
}

/// Beside the server, not in its cgroup: it must be able to tell of a server that has nothing left.
#[track_caller]
fn start_agent(bed: &Bed, cgroup: &Cgroup, index: usize) -> Process {
    let at = SocketAddr::new(bed.backend_address(Family::V4, index as u8), AGENT);
    let mut command = bed.backends[index].command(binary());
    // The edge's addresses on this side.
    command.args(["agent", "--listen", &at.to_string(), "--allow", "10.78.0.0/24", "--cgroup"]).arg(cgroup.path());
    let name = format!("agent of {}", NAMES[index]);
    let mut process = Process::spawn(&name, &mut command, &bed.scratch.path(&format!("agent-{}.log", NAMES[index])));
    wait_for(bed, index, &mut process, at);
    process
}

#[track_caller]
fn wait_for(bed: &Bed, index: usize, process: &mut Process, at: SocketAddr) {
    poll::until(START, &format!("{at} accepts connections"), || {
        assert!(process.is_running(), "it ended: {}", process.tail());
        let connected = bed.backends[index].enter(|| std::net::TcpStream::connect(at));
        connected.map(drop).map_err(|e| e.to_string())
    });
}

fn configuration(bed: &Bed) -> Configuration {
    Configuration {
        owner: "external",
        interfaces: bed.interfaces().iter().map(|&i| i.to_owned()).collect(),
        pool: vec![bed.pool(Family::V4)],
        backends: (0..).zip(NAMES).map(|(i, n)| (n.to_owned(), vec![bed.backend_address(Family::V4, i)])).collect(),
        services: vec![Service {
            name: "web".to_owned(),
            listen: SocketAddr::new(bed.vip(Family::V4), WEB),
            protocol: "tcp",
            mode: "nat",
            algorithm: "round-robin",
            second_chance: true,
            port: PORT,
            members: NAMES.map(|name| (name.to_owned(), 1)).to_vec(),
        }],
        interval: Duration::from_secs(1),
        fall: 3,
    }
}

/// The file's text: both balancers probe; one of them reads memory, too, and has somebody to tell.
fn text(bed: &Bed, configuration: &Configuration, receiver: Option<&Receiver>) -> String {
    let plain = configuration.text(&bed.scratch.path("")).replace("path = \"/\"", "path = \"/health\"");
    let Some(receiver) = receiver else { return plain };
    let mut text = String::new();
    for block in plain.split_inclusive("\n\n") {
        text += block;
        if block.starts_with("[[backend]]") {
            text += "[backend.memory]\nsource = \"agent\"\ninterval = \"1s\"\n\n";
        }
    }
    let text = text.replace("name = \"web\"\n", "name = \"web\"\nowner = \"web team\"\n");
    let route = |name: &str, more: &str| {
        let url = receiver.url();
        format!("\n[[alert_route]]\nname = \"{name}\"\ntype = \"webhook\"\nurl = \"{url}\"\n{more}\n")
    };
    text + &route("on-call", "severity = \"info\"") + &route("team-lead", "after = \"15s\"")
}
