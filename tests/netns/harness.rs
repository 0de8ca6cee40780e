//! The testbed itself: what the other tests stand on must hold without Rollcall, too.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use lb_tests::testbed::bed::{Bed, FAMILIES, Plan, Shape};
use lb_tests::testbed::download;
use lb_tests::testbed::load::{self, Connections, Load};
use lb_tests::testbed::netns::{self, Namespace};
use lb_tests::testbed::nginx::{self, Nginx};
use lb_tests::testbed::scratch::{self, KEPT, Scratch, Sweep};
use lb_tests::testbed::udp::{self, Echo};

/// One arm, so that clients reach the servers without a router.
#[test]
fn testbed_without_a_balancer_serves_every_byte() {
    let bed = Bed::build(Plan::test(Shape::OneArm, 2));
    let _nginx = Nginx::start_all(&bed);
    let _echo = Echo::start_all(&bed);
    download::publish(&bed, "part", 300_000);
    for family in FAMILIES {
        let sources = bed.client_addresses(family, 0);
        let target = SocketAddr::new(bed.backend_address(family, 1), nginx::PORT);

        let mut plan = load::Plan::new(target, sources.clone());
        plan.limit = Some(200);
        let tally = Load::start(&bed.clients[0], plan.clone()).wait();
        assert_eq!((tally.answered, tally.connections, tally.failures.len()), (200, 200, 0), "{:?}", tally.failures);
        assert_eq!(tally.backends["b2"], 200);

        plan.connections = Connections::KeepAlive;
        let tally = Load::start(&bed.clients[0], plan).wait();
        assert_eq!((tally.answered, tally.connections, tally.failures.len()), (200, 4, 0), "{:?}", tally.failures);

        let failures = download::fetch(
            &bed.clients[1],
            target,
            &bed.client_addresses(family, 1),
            "part",
            300_000,
            50,
            Duration::from_secs(20),
        );
        assert_eq!(failures, Vec::<String>::new());

        let socket = udp::client(&bed.clients[0], sources[0]);
        let target = SocketAddr::new(bed.backend_address(family, 0), udp::PORT);
        assert_eq!(udp::ask(&socket, target, &["one", "two"], Duration::from_secs(2)), Ok("b1".to_owned()));
    }
}

#[test]
fn load_on_a_killed_server_reports_failures_with_its_name() {
    let bed = Bed::build(Plan::test(Shape::OneArm, 1));
    let mut servers = Nginx::start_all(&bed);
    let target = SocketAddr::new(bed.backend_address(FAMILIES[0], 0), nginx::PORT);
    let mut plan = load::Plan::new(target, bed.client_addresses(FAMILIES[0], 0));
    plan.connections = Connections::KeepAlive;
    let load = Load::start(&bed.clients[0], plan);
    lb_tests::testbed::poll::until(Duration::from_secs(5), "first answers", || match load.so_far().answered {
        0 => Err("none".to_owned()),
        _ => Ok(()),
    });
    servers[0].kill();
    lb_tests::testbed::poll::until(Duration::from_secs(5), "failures", || {
        let failures = load.so_far().failures;
        if failures.iter().any(|f| f.backend.as_deref() == Some("b1")) { Ok(()) } else { Err(format!("{failures:?}")) }
    });
    servers[0].restart(&bed);
    let before = load.so_far().answered;
    lb_tests::testbed::poll::until(Duration::from_secs(5), "answers again", || {
        let now = load.so_far().answered;
        if now > before { Ok(()) } else { Err(format!("{now}")) }
    });
}

#[test]
fn two_arms_without_a_balancer_do_not_route() {
    let bed = Bed::build(Plan::test(Shape::TwoArm, 1));
    for family in FAMILIES {
        let edge = bed.edge_address(family).to_string();
        bed.clients[0].run("ping", &["-c", "1", "-W", "2", &edge]);
        let backend = bed.backend_address(family, 0).to_string();
        bed.edge.run("ping", &["-c", "1", "-W", "2", &backend]);
        let direct = bed.clients[0].command("ping").args(["-c", "1", "-W", "1", &backend]).output().expect("ping runs");
        assert!(!direct.status.success(), "a client reached a backend past the edge");
    }
}

/// A crash leaves namespaces, processes, pins and files; the next run's sweep removes them, and nothing of the living.
#[test]
fn sweep_after_a_crash_removes_what_the_dead_left() {
    const PREFIX: &str = "rc-sweep";
    // A process id beyond the kernel's range is nobody's.
    let dead = format!("{PREFIX}-{}-0", u32::MAX);
    std::mem::forget(Namespace::create(&format!("{dead}-edge")));
    let living = Scratch::create("rc-sweep-other");
    let folder = std::env::temp_dir().join(&dead);
    std::fs::create_dir_all(folder.join("bpf")).expect("the temporary folder is writable");

    let own = Namespace::create(&format!("{PREFIX}-{}-7-edge", std::process::id()));
    let mut inside = own.command("sleep").arg("60").spawn().expect("sleep is everywhere");
    for which in [Sweep::Dead, Sweep::DeadAndKept] {
        let swept = scratch::sweep(PREFIX, which);
        if which == Sweep::Dead {
            assert_eq!(swept.removed.len(), 2, "{swept:?}");
            assert!(swept.removed.iter().all(|what| what.contains(&dead)), "{swept:?}");
        }
        assert_eq!(swept.running, [std::process::id()].into());
    }
    assert!(!folder.exists() && !Path::new(netns::FOLDER).join(format!("{dead}-edge")).exists());
    assert!(matches!(inside.try_wait(), Ok(None)), "a living owner's process was killed");

    // Kept on purpose: nobody owns it any more, though a process may have its owner's number.
    let kept = std::env::temp_dir().join(format!("{PREFIX}-{}-7", std::process::id()));
    std::fs::create_dir(&kept).expect("the temporary folder is writable");
    std::fs::write(kept.join(KEPT), "").expect("it was just made");
    assert_eq!(scratch::sweep(PREFIX, Sweep::Dead).removed, [""; 0]);
    let swept = scratch::sweep(PREFIX, Sweep::DeadAndKept);
    let folder = format!("folder {} and the pins in it", kept.display());
    assert_eq!(swept.removed, [format!("namespace {}", own.name()), folder]);
    assert!(swept.running.is_empty(), "{swept:?}");
    inside.wait().expect("it was killed with its namespace");
    assert!(living.path("bpf").exists(), "another prefix was swept");
}
