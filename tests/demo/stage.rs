//! What stands on the demo's stage, and how one looks around it.

use std::net::SocketAddr;
use std::time::Duration;

use lb_tests::testbed::bed::{Bed, FAMILIES, Plan, Shape};
use lb_tests::testbed::load::{self, Connections, Load};
use lb_tests::testbed::nginx::Nginx;
use lb_tests::testbed::process::Process;
use lb_tests::testbed::rollcall::{self, Configuration, Rollcall, WEB};

use crate::datagrams;

/// Begins the names of all that the demo makes.
pub const PREFIX: &str = "rc-demo";

/// Time between two probes; a server that dies is out within four of these.
pub const INTERVAL: Duration = Duration::from_millis(500);

/// The running system. Fields are dropped in this order.
pub struct Stage {
    /// The daemon and its command line.
    pub rollcall: Rollcall,
    /// The web servers.
    pub nginx: Vec<Nginx>,
    echo: Vec<Process>,
    /// The configuration that runs.
    pub configuration: Configuration,
    /// The hosts.
    pub bed: Bed,
}

impl Stage {
    /// Builds it and waits until every server is in rotation.
    pub fn build() -> Self {
        let plan = Plan { prefix: PREFIX, shape: Shape::TwoArm, clients: 2, addresses: 20, backends: 3 };
        let bed = Bed::build(plan);
        let nginx = Nginx::start_all(&bed);
        let echo = datagrams::start_servers(&bed);
        let mut configuration = Configuration::usual(&bed, "round-robin");
        configuration.owner = "cli";
        configuration.interval = INTERVAL;
        let rollcall = Rollcall::start(&bed, &configuration);
        Self { rollcall, nginx, echo, configuration, bed }
    }

    /// Starts HTTP load: both families, keep-alive and short connections.
    pub fn load(&self) -> Vec<Load> {
        let kinds = [Connections::KeepAlive, Connections::Short];
        let loads = FAMILIES.iter().flat_map(|&family| kinds.map(|kind| (family, kind))).zip([0_u8, 1, 1, 0]);
        loads
            .map(|((family, kind), client)| {
                let target = SocketAddr::new(self.bed.vip(family), WEB);
                let mut plan = load::Plan::new(target, self.bed.client_addresses(family, client));
                plan.connections = kind;
                plan.workers = 6;
                plan.pause = Duration::from_millis(5);
                Load::start(&self.bed.clients[usize::from(client)], plan)
            })
            .collect()
    }

    /// Leaves everything running.
    pub fn keep(&mut self) {
        self.nginx.iter_mut().for_each(Nginx::detach);
        self.echo.iter_mut().for_each(Process::detach);
        self.rollcall.process().into_iter().for_each(Process::detach);
        self.bed.keep();
    }

    /// How to look around, as commands to copy.
    pub fn guide(&self) -> String {
        let rollcall = rollcall::binary();
        let cli = format!("{} --config {}", rollcall.display(), self.rollcall.file().display());
        let client = format!("nsenter --net={}/{}", lb_tests::testbed::netns::FOLDER, self.bed.clients[0].name());
        let [v4, v6] = FAMILIES.map(|f| SocketAddr::new(self.bed.vip(f), WEB));
        format!(
            "Everything is left running. To look around, as root:\n\
             \x20 {cli} status\n\
             \x20 {cli} stats --watch\n\
             \x20 {cli} flows\n\
             \x20 {cli} backend set b1 --weight 3\n\
             \x20 {client} curl http://{v4}/\n\
             \x20 {client} curl http://{v6}/\n\
             \x20 kill {pid}    # the server {name}\n\
             To remove it: cargo xtask demo --clean\n",
            pid = self.nginx[0].pid(),
            name = self.nginx[0].name(),
        )
    }
}
