//! A VIP that another host has.

use lb_tests::testbed::bed::Family;

use crate::stage::{START, Stage};

/// What doctor finds about the VIP.
fn doctor(stage: &Stage, vip: &str) -> serde_json::Value {
    let report = stage.rollcall.cli(&stage.bed, &["doctor", "--output", "json"]).stdout;
    let report: serde_json::Value = serde_json::from_str(&report).expect("doctor prints JSON");
    let checks = report["checks"].as_array().cloned().unwrap_or_default();
    checks.into_iter().find(|c| c["name"] == format!("vip {vip}")).expect("it is checked")
}

#[test]
fn vip_of_another_host_is_not_added_and_both_status_and_doctor_name_its_mac() {
    let mut stage = Stage::before_start();
    let vip = stage.bed.vip(Family::V4).to_string();
    let (client, edge) = (&stage.bed.clients[0], &stage.bed.edge);
    client.ip(&format!("address add {vip}/32 dev eth0\n"));
    let link = client.run("ip", &["-brief", "link", "show", "eth0"]);
    let mac = link.split_whitespace().nth(2).expect("name, state, MAC").to_owned();
    let on_front = || edge.run("ip", &["address", "show", "front"]).contains(&vip);

    stage.rollcall.run(&stage.bed);
    stage.rollcall.wait_for(&stage.bed, START, "the conflict in the status", |status| {
        let warnings = status["warnings"].to_string();
        warnings.contains(&format!("{vip}: another host on front has it: {mac}"))
    });
    assert!(!on_front());
    let check = doctor(&stage, &vip);
    assert!(check["result"] == "fail" && check["evidence"].to_string().contains(&mac), "{check:#}");

    // The file need not change for the daemon to ask again: any request that places addresses does.
    client.ip(&format!("address del {vip}/32 dev eth0\n"));
    stage.rollcall.write_text(&format!("# The other host gave it up.\n{}", stage.file_text()));
    let reload = stage.rollcall.cli(&stage.bed, &["reload"]);
    assert_eq!(reload.code, 0, "{reload:?}");
    assert!(on_front());
    let status = stage.rollcall.wait_for_all(&stage.bed, START);
    assert_eq!(status["warnings"], serde_json::json!([]), "{status:#}");
    stage.wait_for_service();
    assert_eq!(doctor(&stage, &vip)["result"], "ok");

    // Taken beside us: nobody is told by ARP alone, but doctor asks.
    client.ip(&format!("address add {vip}/32 dev eth0\n"));
    let check = doctor(&stage, &vip);
    assert!(check["result"] == "fail" && check["evidence"].to_string().contains("too"), "{check:#}");
}

#[test]
fn reload_that_adds_a_vip_of_another_host_says_so_at_once() {
    let mut stage = Stage::before_start();
    let vip = stage.bed.vip(Family::V4).to_string();
    let mut fewer = stage.configuration.clone();
    fewer.services.retain(|s| !s.name.ends_with('4'));
    assert!(!fewer.services.is_empty() && fewer.services.len() < stage.configuration.services.len());
    stage.rollcall.write(&fewer);
    stage.rollcall.run(&stage.bed);
    stage.rollcall.wait_for_all(&stage.bed, START);
    stage.bed.clients[0].ip(&format!("address add {vip}/32 dev eth0\n"));
    stage.rollcall.write(&stage.configuration);
    let reload = stage.rollcall.cli(&stage.bed, &["reload"]);
    assert!(reload.code == 0 && reload.stdout.contains("another host on front has it"), "{reload:?}");
}
