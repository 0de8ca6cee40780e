//! Attaching, adopting links, and what stands in the way.

use std::fs;

use aya::programs::links::{FdLink, PinnedLink};
use aya::programs::xdp::XdpLink;
use aya::programs::{ProgramInfo, Xdp};
use aya_obj::programs::XdpAttachType;
use lb_common::abi::programs;
use rollcall::config::model::AttachMode;
use rollcall::io::bpf::types::{Attached, Mode};
use rollcall::io::bpf::{BpfError, DataPlane};

use crate::sandbox::{Sandbox, sandbox};

fn names(interfaces: &[&str]) -> Vec<String> {
    interfaces.iter().map(|&i| i.to_owned()).collect()
}

fn attach(plane: &mut DataPlane, interfaces: &[&str], mode: AttachMode) -> Vec<Attached> {
    let attached = plane.attach(&names(interfaces), mode).unwrap_or_else(|e| panic!("{e}"));
    let mut listed = plane.attached().unwrap();
    let mut wanted = attached.clone();
    listed.sort_by_key(|a| a.ifindex);
    wanted.sort_by_key(|a| a.ifindex);
    assert_eq!(listed, wanted, "what attach reports is what the kernel says");
    attached
}

fn modes(attached: &[Attached]) -> Vec<(&str, Mode)> {
    attached.iter().map(|a| (a.interface.as_str(), a.mode)).collect()
}

/// The XDP part of what `ip` says: mode and program id.
fn xdp_of(s: &Sandbox, interface: &str) -> Option<(String, u32)> {
    let json: serde_json::Value = serde_json::from_str(&s.ip(&format!("-json -d link show dev {interface}"))).unwrap();
    let xdp = &json[0]["xdp"];
    let mode = match xdp["mode"].as_u64()? {
        1 => "native",
        2 => "generic",
        other => panic!("mode {other}"),
    };
    Some((mode.to_owned(), xdp["prog"]["id"].as_u64()?.try_into().unwrap()))
}

#[test]
fn attach_auto_on_veth_is_native_and_survives_the_handle() {
    sandbox(|s| {
        s.veth("rcl-a", "rcl-b");
        let (mut plane, _) = s.open();
        let attached = attach(&mut plane, &["rcl-a", "rcl-b"], AttachMode::Auto);
        assert_eq!(modes(&attached), [("rcl-a", Mode::Native), ("rcl-b", Mode::Native)]);
        assert!(attached.iter().all(|a| a.fallback.is_none()));
        let before = xdp_of(s, "rcl-a").unwrap();
        assert_eq!(before.0, "native");
        drop(plane);
        assert_eq!(xdp_of(s, "rcl-a").unwrap(), before, "pinned");

        let (mut plane, adopted) = s.open();
        assert!(adopted);
        assert_eq!(plane.attached().unwrap().len(), 2);
        let link = fs::metadata(s.pin("link-rcl-a")).unwrap().modified().unwrap();
        attach(&mut plane, &["rcl-a", "rcl-b"], AttachMode::Auto);
        assert_eq!(xdp_of(s, "rcl-a").unwrap(), before, "the same program");
        assert_eq!(fs::metadata(s.pin("link-rcl-a")).unwrap().modified().unwrap(), link, "the same link");
    });
}

#[test]
fn attach_auto_where_one_cannot_be_native_is_generic_on_all_with_the_reason() {
    sandbox(|s| {
        s.veth("rcl-a", "rcl-b");
        let (mut plane, _) = s.open();
        let attached = attach(&mut plane, &["rcl-a", "lo"], AttachMode::Auto);
        assert_eq!(modes(&attached), [("rcl-a", Mode::Generic), ("lo", Mode::Generic)]);
        let reason = attached[0].fallback.clone().unwrap();
        assert!(reason.contains("lo cannot run native") && reason.contains("driver"), "{reason}");
        assert_eq!(xdp_of(s, "rcl-a").unwrap().0, "generic");

        // A new start keeps what runs, and says why it is generic.
        drop(plane);
        let before = xdp_of(s, "rcl-a").unwrap();
        let (mut plane, _) = s.open();
        let attached = attach(&mut plane, &["rcl-a", "lo"], AttachMode::Auto);
        assert_eq!(xdp_of(s, "rcl-a").unwrap(), before);
        assert!(attached[0].fallback.as_ref().unwrap().contains("earlier start"));
        // Asked for explicitly, native is tried; generic is no fall-back when it is what was asked for.
        let attached = attach(&mut plane, &["rcl-a"], AttachMode::Native);
        assert_eq!(modes(&attached), [("rcl-a", Mode::Native)]);
        let attached = attach(&mut plane, &["rcl-a"], AttachMode::Generic);
        assert_eq!((attached[0].mode, attached[0].fallback.clone()), (Mode::Generic, None));
    });
}

#[test]
fn attach_native_where_it_cannot_fails_and_leaves_nothing() {
    sandbox(|s| {
        s.veth("rcl-a", "rcl-b");
        let (mut plane, _) = s.open();
        let error = plane.attach(&names(&["rcl-a", "lo"]), AttachMode::Native).unwrap_err();
        assert!(
            matches!(&error, BpfError::Attach { interface, mode: Mode::Native, .. } if interface == "lo"),
            "{error}"
        );
        assert!(error.to_string().contains("no native XDP"), "{error}");
        assert_eq!(xdp_of(s, "rcl-a"), None);
        assert_eq!(plane.attached().unwrap(), []);
    });
}

#[test]
fn attach_to_a_missing_interface_names_it_and_changes_nothing() {
    sandbox(|s| {
        s.veth("rcl-a", "rcl-b");
        let (mut plane, _) = s.open();
        attach(&mut plane, &["rcl-a"], AttachMode::Auto);
        let error = plane.attach(&names(&["rcl-b", "rcl-none"]), AttachMode::Auto).unwrap_err();
        assert_eq!(error, BpfError::NoInterface { name: "rcl-none".to_owned() });
        assert_eq!(modes(&plane.attached().unwrap()), [("rcl-a", Mode::Native)]);
    });
}

#[test]
fn attach_where_another_program_is_names_it_and_the_mend() {
    sandbox(|s| {
        s.veth("rcl-a", "rcl-b");
        let (mut plane, _) = s.open();
        let foreign = s.bpffs().join("foreign");
        Xdp::from_pin(s.pin(programs::COLLECT), XdpAttachType::Interface).unwrap().pin(&foreign).unwrap();
        let id = ProgramInfo::from_pin(&foreign).unwrap().id();
        for (how, mode, off) in [
            ("xdpdrv", AttachMode::Auto, "xdpdrv off"),
            ("xdpgeneric", AttachMode::Auto, "xdpgeneric off"),
            ("xdpdrv", AttachMode::Native, "xdpdrv off"),
            ("xdpdrv", AttachMode::Generic, "xdpdrv off"),
        ] {
            s.ip(&format!("link set dev rcl-a {how} pinned {}", foreign.display()));
            let error = plane.attach(&names(&["rcl-b", "rcl-a"]), mode).unwrap_err();
            assert!(matches!(&error, BpfError::Occupied { interface, .. } if interface == "rcl-a"), "{error}");
            let text = error.to_string();
            assert!(text.contains(&format!("program collect, id {id}")), "{text}");
            assert!(text.contains(&format!("ip link set dev rcl-a {off}")), "{text}");
            assert_eq!(xdp_of(s, "rcl-a").unwrap().1, id, "the other one is left alone");
            assert_eq!(xdp_of(s, "rcl-b"), None, "what was attached before the refusal is undone");
            s.ip(&format!("link set dev rcl-a {off}"));
        }
        attach(&mut plane, &["rcl-a"], AttachMode::Auto);
    });
}

#[test]
fn attach_to_other_interfaces_detaches_those_not_named() {
    sandbox(|s| {
        s.veth("rcl-a", "rcl-b");
        // A name with a dot, as VLAN interfaces have; a bpffs has no such names.
        s.veth("rcl-a.7", "rcl-c");
        let (mut plane, _) = s.open();
        attach(&mut plane, &["rcl-b", "rcl-a.7"], AttachMode::Generic);
        assert!(s.pin("link-rcl-a%2e7").exists());
        attach(&mut plane, &["rcl-a.7"], AttachMode::Generic);
        assert_eq!(xdp_of(s, "rcl-b"), None);
        attach(&mut plane, &["rcl-b"], AttachMode::Auto);
        assert_eq!(xdp_of(s, "rcl-a.7"), None);
        assert!(!s.pin("link-rcl-a%2e7").exists());
    });
}

#[test]
fn attach_after_the_interface_was_made_anew_replaces_the_defunct_link() {
    sandbox(|s| {
        s.veth("rcl-a", "rcl-b");
        let (mut plane, _) = s.open();
        let old = attach(&mut plane, &["rcl-a"], AttachMode::Auto)[0].ifindex;
        s.ip("link del rcl-a");
        assert_eq!(plane.attached().unwrap(), [], "a defunct link is not listed");
        s.veth("rcl-a", "rcl-b");
        assert_eq!(plane.attached().unwrap(), []);
        let new = attach(&mut plane, &["rcl-a"], AttachMode::Auto)[0].ifindex;
        assert_ne!(new, old);
        assert_eq!(xdp_of(s, "rcl-a").unwrap().0, "native");
    });
}

#[test]
fn attach_follows_a_renamed_interface() {
    sandbox(|s| {
        s.veth("rcl-a", "rcl-b");
        let (mut plane, _) = s.open();
        attach(&mut plane, &["rcl-a"], AttachMode::Auto);
        s.ip("link set dev rcl-a down");
        s.ip("link set dev rcl-a name rcl-c");
        assert_eq!(modes(&plane.attached().unwrap()), [("rcl-c", Mode::Native)]);
        attach(&mut plane, &["rcl-c"], AttachMode::Auto);
        assert!(!s.pin("link-rcl-a").exists());
    });
}

#[test]
fn attach_with_another_program_behind_the_link_replaces_it_through_the_link() {
    sandbox(|s| {
        s.veth("rcl-a", "rcl-b");
        let (mut plane, _) = s.open();
        attach(&mut plane, &["rcl-a"], AttachMode::Auto);
        let ours = xdp_of(s, "rcl-a").unwrap().1;
        let link = || fs::metadata(s.pin("link-rcl-a")).unwrap().modified().unwrap();
        let made = link();
        // Any other program stands for that of an older build.
        let mut other = Xdp::from_pin(s.pin(programs::COLLECT), XdpAttachType::Interface).unwrap();
        let pinned = FdLink::from(PinnedLink::from_pin(s.pin("link-rcl-a")).unwrap());
        other.attach_to_link(XdpLink::try_from(pinned).unwrap()).unwrap();
        assert_ne!(xdp_of(s, "rcl-a").unwrap().1, ours);
        drop(other);

        assert_eq!(modes(&attach(&mut plane, &["rcl-a"], AttachMode::Auto)), [("rcl-a", Mode::Native)]);
        assert_eq!(xdp_of(s, "rcl-a").unwrap().1, ours);
        assert_eq!(link(), made, "the link was never taken away");
    });
}
