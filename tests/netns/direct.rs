//! Backends that answer clients themselves: real servers that hold the VIP, set up as docs/modes.md says.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use lb_tests::testbed::bed::{Bed, FAMILIES, Family, Plan, Shape};
use lb_tests::testbed::load::{self, Connections, Load};
use lb_tests::testbed::nginx::{self, Nginx};
use lb_tests::testbed::rollcall::{Configuration, Rollcall, member, members};
use lb_tests::testbed::tunnel::Tunnel;
use lb_tests::testbed::udp::Echo;
use lb_tests::testbed::{download, poll, udp};
use rstest::rstest;
use serde_json::Value;

use crate::stage::assert_no_failures;

const BYTES: u64 = 50_000_000;

/// The commands of a code block of docs/modes.md that begins with this comment.
fn documented(comment: &str) -> String {
    let page = include_str!("../../docs/modes.md");
    let block = page.split("```sh\n").find(|block| block.starts_with(comment));
    let block = block.unwrap_or_else(|| panic!("docs/modes.md has no block that begins with {comment}"));
    block.split("```").next().expect("a block ends").to_owned()
}

/// A running system. Fields are dropped in this order.
struct Direct {
    rollcall: Rollcall,
    nginx: Vec<Nginx>,
    _echo: Vec<Echo>,
    _tunnels: Vec<Tunnel>,
    configuration: Configuration,
    bed: Bed,
}

impl Direct {
    #[track_caller]
    fn new(mode: &'static str, algorithm: &'static str, edit: impl FnOnce(&mut Configuration)) -> Self {
        let bed = Bed::build(Plan::test(Shape::OneArm, 3));
        let [vip4, vip6] = FAMILIES.map(|family| bed.vip(family).to_string());
        let commands = documented("# VIP on a backend").replace("192.0.2.80", &vip4).replace("2001:db8::80", &vip6);
        for backend in &bed.backends {
            backend.run("sh", &["-ec", &commands]);
        }
        let tunnels = if mode == "dsr-ipip" { bed.backends.iter().map(Tunnel::open).collect() } else { Vec::new() };
        let nginx = Nginx::start_all(&bed);
        let at_the_vip = |(host, n)| Echo::start_at(host, &format!("b{n}"), FAMILIES.map(|family| bed.vip(family)));
        let echo = bed.backends.iter().zip(1..).map(at_the_vip).collect();
        let mut configuration = Configuration::usual(&bed, algorithm);
        for service in &mut configuration.services {
            service.mode = mode;
            service.listen.set_port(service.port);
        }
        edit(&mut configuration);
        let rollcall = Rollcall::start(&bed, &configuration);
        Self { rollcall, nginx, _echo: echo, _tunnels: tunnels, configuration, bed }
    }

    fn web(&self, family: Family) -> SocketAddr {
        SocketAddr::new(self.bed.vip(family), nginx::PORT)
    }

    fn load(&self, family: Family, client: u8, connections: Connections) -> Load {
        let mut plan = load::Plan::new(self.web(family), self.bed.client_addresses(family, client));
        plan.connections = connections;
        plan.pause = Duration::from_millis(5);
        Load::start(&self.bed.clients[usize::from(client)], plan)
    }

    #[track_caller]
    fn settled(&mut self) -> Value {
        let status = self.rollcall.wait_for(&self.bed, Duration::from_secs(10), "a settled kernel", |_| true);
        self.rollcall.assert_kernel_agrees(&self.bed, &self.configuration);
        status
    }
}

#[rstest]
fn direct_service_answers_from_every_backend(
    #[values("dsr-l2", "dsr-ipip")] mode: &'static str,
    #[values("round-robin", "maglev")] algorithm: &'static str,
) {
    // In tunnels, one backend is reached by IPv6 alone.
    let mut direct = Direct::new(mode, algorithm, |configuration| {
        if mode == "dsr-ipip" {
            configuration.backends[2].1.retain(IpAddr::is_ipv6);
        } else {
            configuration.pool.clear();
        }
    });
    download::publish(&direct.bed, "big", BYTES);
    for family in FAMILIES {
        let sources = direct.bed.client_addresses(family, 0);
        let mut plan = load::Plan::new(direct.web(family), sources.clone());
        plan.limit = Some(300);
        let tally = Load::start(&direct.bed.clients[0], plan).wait();
        assert_no_failures(&tally);
        assert_eq!(tally.backends.len(), 3, "{:?}", tally.backends);

        let limit = Duration::from_secs(60);
        let failures = download::fetch(&direct.bed.clients[0], direct.web(family), &sources, "big", BYTES, 2, limit);
        assert_eq!(failures, Vec::<String>::new(), "{family:?}");

        let echo = SocketAddr::new(direct.bed.vip(family), udp::PORT);
        for source in direct.bed.client_addresses(family, 1) {
            let socket = udp::client(&direct.bed.clients[1], source);
            udp::ask(&socket, echo, &["one", "two", "three"], Duration::from_secs(2)).expect("UDP is answered");
        }
    }
    let status = direct.settled();
    assert!(status["services"].as_array().expect("a list").iter().all(|s| s["mode"] == mode), "{status:#}");
    let opened: u64 = members(&status).filter_map(|m| m["flows_opened"].as_u64()).sum();
    assert!(opened >= 640, "600 connections and 40 UDP flows, {opened} counted");
    poll::until(Duration::from_secs(10), "no open connection", || {
        let status = direct.rollcall.status(&direct.bed);
        let active: Vec<_> = ["web4", "web6"]
            .iter()
            .flat_map(|service| ["b1", "b2", "b3"].map(|b| member(&status, service, b)["flows_active"].clone()))
            .collect();
        if active.iter().all(|n| *n == 0) { Ok(()) } else { Err(format!("{active:?}")) }
    });
    let flows = direct.rollcall.json(&direct.bed, &["flows", "--limit", "1000"]);
    let udp = flows["flows"].as_array().expect("a list").iter().filter(|flow| flow["protocol"] == "udp").count();
    assert_eq!(udp, 40, "UDP flows are remembered: {flows:#}");
}

#[rstest]
fn direct_connections_survive_a_restart_and_new_ones_the_death_of_a_backend(
    #[values("dsr-l2", "dsr-ipip")] mode: &'static str,
) {
    let mut direct = Direct::new(mode, "round-robin", |_| ());
    let kept: Vec<Load> = FAMILIES.map(|family| direct.load(family, 0, Connections::KeepAlive)).into();
    let answered = |loads: &[Load]| -> u64 { loads.iter().map(|load| load.so_far().answered).sum() };
    let more = |what: &str| {
        let before = answered(&kept);
        poll::until(Duration::from_secs(10), what, || match answered(&kept) {
            now if now >= before + 100 => Ok(()),
            now => Err(format!("{before}, then {now}")),
        });
    };
    more("answers");
    direct.rollcall.kill();
    more("answers without the daemon");
    direct.rollcall.run(&direct.bed);
    direct.rollcall.wait_for_all(&direct.bed, Duration::from_secs(30));
    more("answers after its restart");
    for load in kept {
        assert_no_failures(&load.stop());
    }
    direct.nginx[0].kill();
    direct.rollcall.wait_for(&direct.bed, Duration::from_secs(10), "the dead backend out", |status| {
        ["web4", "web6"].iter().all(|service| member(status, service, "b1")["in_rotation"] == Value::Bool(false))
    });
    for family in FAMILIES {
        let mut plan = load::Plan::new(direct.web(family), direct.bed.client_addresses(family, 1));
        plan.limit = Some(200);
        let tally = Load::start(&direct.bed.clients[1], plan).wait();
        assert_no_failures(&tally);
        assert_eq!(tally.backends.keys().collect::<Vec<_>>(), ["b2", "b3"]);
    }
}
