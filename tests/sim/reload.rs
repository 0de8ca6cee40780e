//! Scripted stories of reloads and restarts: what members keep, and what is kept for flows.

use std::sync::Arc;
use std::time::Duration;

use rollcall::config::model::ServiceName;
use rollcall::core::api::EventKind;
use rollcall::core::reason::ReasonKind;

use crate::configs::{config, port, service};
use crate::scenarios::{SECOND, all_in, ip, rotation, running};

#[test]
fn reload_that_adds_a_member_keeps_it_out_until_its_first_success() {
    let mut world = running(2);
    world.dead.insert(ip(3));
    world.configure(Arc::new(config(vec![service(3)])));
    world.run(Duration::from_secs(30));
    assert_eq!(rotation(&world), [true, true, false]);
    assert!(world.members()[2].reasons.iter().any(|r| r.kind == ReasonKind::NotYetProbed));
    world.dead.clear();
    world.run_until(Duration::from_millis(2200), all_in);
}

#[test]
fn reload_that_renames_the_service_keeps_ids_health_and_table() {
    let mut world = running(3);
    let before = world.kernel.read_state();
    let mut renamed = service(3);
    renamed.name = ServiceName::new("shop").unwrap();
    renamed.members.reverse();
    world.configure(Arc::new(config(vec![renamed])));
    assert!(all_in(&world));
    world.run(SECOND);
    assert_eq!(world.kernel.read_state(), before);
    assert_eq!(world.seen(EventKind::Configured), 2);
    assert_eq!(world.seen(EventKind::OutOfRotation), 0);
}

#[test]
fn reload_that_changes_a_port_gives_a_new_id_and_the_old_one_lives_for_its_flows() {
    let mut world = running(2);
    for slot in 0..10 {
        world.kernel.open_flow(0, slot);
    }
    let mut moved = service(2);
    moved.members[0].port = port(9090);
    world.configure(Arc::new(config(vec![moved.clone()])));
    world.run(Duration::from_secs(10));
    assert!(all_in(&world));
    assert_eq!(world.members().iter().map(|m| m.id).collect::<Vec<_>>(), [Some(2), Some(1)]);
    assert_eq!(world.core.leaving().into_keys().collect::<Vec<_>>(), [0]);
    world.report_drained();
    world.run(SECOND);
    assert!(world.kernel.read_state().members.contains_key(&0));
    world.kernel.close_flows(|member| member == 0);
    world.report_drained();
    world.run(SECOND);
    assert!(!world.kernel.read_state().members.contains_key(&0));
    moved.members[0].port = port(7070);
    world.configure(Arc::new(config(vec![moved])));
    world.run(Duration::from_secs(10));
    assert_eq!(world.members()[0].id, Some(0), "the lowest free id");
}

#[test]
fn restart_adopts_ids_and_health_and_writes_nothing() {
    let mut world = running(4);
    world.run(Duration::from_secs(10));
    world.dead.insert(ip(2));
    world.run_until(Duration::from_secs(10), |w| w.settled() && !w.members()[1].in_rotation);
    let before = world.kernel.read_state();
    let applies = world.applies;
    world.restart(world.config());
    assert_eq!(rotation(&world), [true, false, true, true]);
    world.run(Duration::from_secs(30));
    assert_eq!((world.kernel.read_state(), world.applies), (before, applies));
    // Adopted as up: `fall` failures in a row before it goes.
    world.restart(world.config());
    world.dead.insert(ip(3));
    world.run(Duration::from_secs(3));
    assert_eq!(rotation(&world), [true, false, true, true]);
    world.run(Duration::from_secs(5));
    assert_eq!(rotation(&world), [true, false, false, true]);
}

#[test]
fn restart_with_another_configuration_keeps_what_is_removed_for_its_flows() {
    let mut world = running(3);
    world.kernel.open_flow(0, 2);
    world.restart(Arc::new(config(vec![service(2)])));
    world.run(SECOND);
    assert_eq!(rotation(&world), [true, true]);
    let leaving = world.core.leaving();
    assert_eq!(leaving[&2].to_string(), "web/web-3");
    assert_eq!(world.kernel.read_state().members.len(), 3);
}
