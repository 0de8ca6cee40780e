//! What most tests begin with: a bed, its servers, the daemon with every member in rotation, and load on it.

use std::net::SocketAddr;
use std::time::Duration;

use lb_tests::testbed::bed::{Bed, FAMILIES, Family, Plan, Shape};
use lb_tests::testbed::load::{self, Connections, Load, Tally};
use lb_tests::testbed::nginx::Nginx;
use lb_tests::testbed::poll;
use lb_tests::testbed::rollcall::{Configuration, Rollcall, WEB};
use lb_tests::testbed::udp::Echo;

/// A running system. Fields are dropped in this order.
pub struct Stage {
    pub rollcall: Rollcall,
    pub nginx: Vec<Nginx>,
    pub _echo: Vec<Echo>,
    pub configuration: Configuration,
    pub bed: Bed,
}

impl Stage {
    /// The usual four services.
    #[track_caller]
    pub fn new(shape: Shape, backends: u8, algorithm: &'static str) -> Self {
        Self::with(shape, backends, algorithm, |_| ())
    }

    /// The usual four services, changed by `edit`.
    #[track_caller]
    pub fn with(shape: Shape, backends: u8, algorithm: &'static str, edit: impl FnOnce(&mut Configuration)) -> Self {
        let bed = Bed::build(Plan::test(shape, backends));
        let nginx = Nginx::start_all(&bed);
        let echo = Echo::start_all(&bed);
        let mut configuration = Configuration::usual(&bed, algorithm);
        edit(&mut configuration);
        let rollcall = Rollcall::start(&bed, &configuration);
        Self { rollcall, nginx, _echo: echo, configuration, bed }
    }

    /// The web service of a family.
    pub fn web(&self, family: Family) -> SocketAddr {
        SocketAddr::new(self.bed.vip(family), WEB)
    }

    /// Load on the web service of a family, from all addresses of one client.
    pub fn plan(&self, family: Family, client: u8) -> load::Plan {
        load::Plan::new(self.web(family), self.bed.client_addresses(family, client))
    }

    /// The status once the kernel holds what was decided; panics if it does not within ten seconds, or if its tables, read
    /// back from the maps, are not what the status says.
    #[track_caller]
    pub fn settled(&mut self) -> serde_json::Value {
        let status = self.rollcall.wait_for(&self.bed, Duration::from_secs(10), "a settled kernel", |_| true);
        self.rollcall.assert_kernel_agrees(&self.bed, &self.configuration);
        status
    }
}

/// Keep-alive and short connections over both families, all at once, with pauses that leave the machine some air.
pub struct Steady(Vec<Load>);

impl Steady {
    /// Starts it and waits until each part has answers.
    #[track_caller]
    pub fn start(stage: &Stage) -> Self {
        let kinds = [Connections::KeepAlive, Connections::Short];
        let loads = FAMILIES.iter().flat_map(|&family| kinds.map(|kind| (family, kind))).zip([0, 1, 1, 0]);
        let steady = Self(
            loads
                .map(|((family, kind), client)| {
                    let mut plan = stage.plan(family, client);
                    plan.connections = kind;
                    plan.pause = Duration::from_millis(5);
                    Load::start(&stage.bed.clients[usize::from(client)], plan)
                })
                .collect(),
        );
        poll::until(Duration::from_secs(10), "answers on every kind of load", || {
            let counts: Vec<u64> = steady.0.iter().map(|load| load.so_far().answered).collect();
            if counts.iter().all(|&n| n >= 20) { Ok(()) } else { Err(format!("{counts:?}")) }
        });
        steady
    }

    /// All of it so far.
    pub fn so_far(&self) -> Tally {
        sum(self.0.iter().map(Load::so_far))
    }

    /// Waits until at least `requests` more were answered, so that the load has seen what happened before.
    #[track_caller]
    pub fn wait_for(&self, requests: u64) {
        let before = self.so_far().answered;
        poll::until(Duration::from_secs(20), "more answers", || {
            let now = self.so_far().answered;
            if now >= before + requests { Ok(()) } else { Err(format!("{} of {requests}", now - before)) }
        });
    }

    /// Ends it.
    #[track_caller]
    pub fn stop(self) -> Tally {
        sum(self.0.into_iter().map(Load::stop))
    }
}

fn sum(tallies: impl Iterator<Item = Tally>) -> Tally {
    tallies.fold(Tally::default(), |mut sum, tally| {
        sum.add(&tally);
        sum
    })
}

/// Panics if a request failed, with the first few.
#[track_caller]
pub fn assert_no_failures(tally: &Tally) {
    let first: Vec<_> = tally.failures.iter().take(5).collect();
    assert!(first.is_empty(), "{} of {} requests failed, such as {first:#?}", tally.failures.len(), tally.answered);
}
