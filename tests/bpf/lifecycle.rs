//! Creating, adopting, refusing, removing.

use std::fs;
use std::path::Path;
use std::process::Command;

use aya::maps::{Array, HashMap, Map, MapData, ProgramArray};
use aya::programs::{ProgramInfo, Xdp};
use aya_obj::programs::XdpAttachType;
use lb_common::abi::{ABI_VERSION, Called, MAX_SERVICES, Meta, maps, programs};
use nix::mount::{MsFlags, mount};
use rollcall::config::model::AttachMode;
use rollcall::io::bpf::pin::ensure_bpffs;
use rollcall::io::bpf::{BpfError, DataPlane, OpenOptions};

use crate::sandbox::sandbox;

/// Pins a map of some shape.
type Pin = fn(&Path);

/// From `linux/bpf.h`.
const BPF_F_RDONLY_PROG: u32 = 0x80;

fn refused(options: &OpenOptions) -> BpfError {
    match DataPlane::open(options) {
        Ok((_, adopted)) => panic!("opened, adopted: {adopted}"),
        Err(e) => e,
    }
}

#[test]
fn open_first_time_creates_and_second_time_adopts() {
    sandbox(|s| {
        let (plane, adopted) = s.open();
        assert!(!adopted);
        let meta = plane.meta();
        assert_eq!((meta.abi_version, meta.max_flows, meta.half_open_buckets), (ABI_VERSION, 1024, 16));
        assert!([100, 250, 300, 1000].contains(&meta.hz), "{}", meta.hz);
        assert!(meta.created_boot_ns > 0);
        let state = plane.read_state().unwrap();
        let settings = state.settings;
        assert_eq!((settings.seed, settings.half_open_mask), (meta.seed, 15));
        assert_eq!((settings.hz, settings.max_flows), (meta.hz, 1024));
        drop(plane);

        let pinned = s.pins();
        assert_eq!(pinned.len(), maps::ALL.len() + 2, "{pinned:?}");
        let (plane, adopted) = s.open();
        assert!(adopted);
        assert_eq!(plane.meta(), meta);
        assert_eq!(plane.read_state().unwrap(), state);
        assert_eq!(s.pins(), pinned);
        assert_eq!(DataPlane::open_readonly(&s.options().pin_dir).unwrap().meta(), meta);
    });
}

#[test]
fn open_with_sizes_that_differ_from_the_pinned_names_the_key() {
    sandbox(|s| {
        let base = OpenOptions { seed: Some(7), ..s.options() };
        drop(DataPlane::open(&base).unwrap());
        for (options, wanted) in [
            (OpenOptions { max_flows: 2048, ..base.clone() }, "conntrack.max_flows"),
            (OpenOptions { max_half_open: 128, ..base.clone() }, "conntrack.max_half_open"),
            (OpenOptions { arena_slots: 1, ..base.clone() }, "conntrack.arena_slots"),
            (OpenOptions { seed: Some(8), ..base.clone() }, "conntrack.seed"),
        ] {
            let error = refused(&options);
            assert!(matches!(&error, BpfError::Fixed { key, .. } if *key == wanted), "{error}");
            assert!(error.to_string().contains("rollcall down"), "{error}");
        }
        assert_eq!(DataPlane::open(&OpenOptions { seed: None, ..base }).unwrap().0.meta().seed, 7);
    });
}

#[test]
fn open_with_another_abi_version_pinned_is_refused() {
    sandbox(|s| {
        drop(s.open());
        let mut meta: Array<_, Meta> = Map::Array(MapData::from_pin(s.pin(maps::META)).unwrap()).try_into().unwrap();
        let old = meta.get(&0, 0).unwrap();
        meta.set(0, Meta { abi_version: ABI_VERSION + 1, ..old }, 0).unwrap();
        let error = refused(&s.options());
        assert_eq!(error, BpfError::AbiVersion { pinned: ABI_VERSION + 1, expected: ABI_VERSION });
    });
}

#[test]
fn open_with_a_pinned_map_of_another_shape_says_what_differs() {
    sandbox(|s| {
        let foreign: [(&str, Pin); 5] = [
            ("value size", |p| Array::<_, u32>::create(MAX_SERVICES, 0).unwrap().pin(p).unwrap()),
            ("entries", |p| Array::<_, u64>::create(MAX_SERVICES - 1, 0).unwrap().pin(p).unwrap()),
            ("flags", |p| Array::<_, u64>::create(MAX_SERVICES, BPF_F_RDONLY_PROG).unwrap().pin(p).unwrap()),
            ("type", |p| HashMap::<_, u32, u64>::create(MAX_SERVICES, 0).unwrap().pin(p).unwrap()),
            ("type", |p| HashMap::<_, u64, u64>::create(MAX_SERVICES, 0).unwrap().pin(p).unwrap()),
        ];
        for (wanted, pin) in foreign {
            drop(s.open());
            let path = s.pin(maps::DESCRIPTORS);
            fs::remove_file(&path).unwrap();
            pin(&path);
            let error = refused(&s.options());
            assert!(
                matches!(error, BpfError::MapMismatch { map: maps::DESCRIPTORS, what, .. } if what == wanted),
                "{wanted}: {error}"
            );
            assert!(error.to_string().contains("rollcall down"), "{error}");
            DataPlane::remove(&s.options().pin_dir).unwrap();
        }
    });
}

#[test]
fn open_with_a_map_missing_is_refused_and_remove_mends_it() {
    sandbox(|s| {
        drop(s.open());
        fs::remove_file(s.pin(maps::CURSORS)).unwrap();
        let error = refused(&s.options());
        assert_eq!(error, BpfError::Incomplete { path: s.pin(maps::CURSORS) });
        DataPlane::remove(&s.options().pin_dir).unwrap();
        assert!(!s.open().1);
    });
}

#[test]
fn open_after_an_interrupted_creation_starts_afresh() {
    sandbox(|s| {
        let (plane, _) = s.open();
        let first = plane.meta();
        drop(plane);
        // A set that was built and not yet put into use, as a crash before the rename leaves it.
        fs::rename(s.options().pin_dir.join("v1"), s.options().pin_dir.join("v1-new")).unwrap();
        fs::remove_file(s.options().pin_dir.join("v1-new").join(maps::VERDICTS)).unwrap();
        let (plane, adopted) = s.open();
        assert!(!adopted);
        assert_ne!(plane.meta().created_boot_ns, first.created_boot_ns);
        assert!(s.pins().iter().all(|p| p.starts_with("rollcall/v1/")), "{:?}", s.pins());
    });
}

#[test]
fn open_with_another_program_pinned_replaces_the_pin() {
    sandbox(|s| {
        drop(s.open());
        let tag = |name| ProgramInfo::from_pin(s.pin(name)).unwrap().tag();
        let id = |name| ProgramInfo::from_pin(s.pin(name)).unwrap().id();
        let (lb, collect) = (tag(programs::LB), (tag(programs::COLLECT), id(programs::COLLECT)));
        // Any other program stands for that of an older build.
        fs::remove_file(s.pin(programs::LB)).unwrap();
        Xdp::from_pin(s.pin(programs::COLLECT), XdpAttachType::Interface).unwrap().pin(s.pin(programs::LB)).unwrap();
        assert_ne!(tag(programs::LB), lb);
        assert!(s.open().1);
        assert_eq!(tag(programs::LB), lb);
        // Its texts are in a map of its own, which no tag covers.
        assert_eq!(tag(programs::COLLECT), collect.0);
        assert_ne!(id(programs::COLLECT), collect.1, "another build's texts may differ");
        // And once more: an equal program is kept.
        let kept = id(programs::LB);
        assert!(s.open().1);
        assert_eq!(id(programs::LB), kept);
    });
}

#[test]
fn programs_reached_by_tail_call_are_installed_at_creation_and_at_adoption() {
    sandbox(|s| {
        let installed = || -> Vec<String> {
            let pin = s.pin(maps::PROGRAMS).display().to_string();
            let dump = Command::new("bpftool").args(["map", "dump", "pinned", &pin]).output().expect("bpftool runs");
            assert!(dump.status.success(), "{}", String::from_utf8_lossy(&dump.stderr));
            String::from_utf8_lossy(&dump.stdout).lines().filter(|l| l.starts_with("key")).map(str::to_owned).collect()
        };
        drop(s.open());
        let made = installed();
        assert_eq!(made.len(), Called::ALL.len(), "{made:?}");
        // As of an older build, which had none: and its programs must go on while nobody has them open.
        let mut map = Map::ProgramArray(MapData::from_pin(s.pin(maps::PROGRAMS)).unwrap());
        let mut programs: ProgramArray<_> = (&mut map).try_into().unwrap();
        programs.clear_index(&(Called::Icmp as u32)).unwrap();
        assert_eq!(installed().len(), made.len() - 1);
        assert!(s.open().1);
        assert_eq!(installed().len(), made.len());
    });
}

#[test]
fn open_readonly_without_a_data_plane_says_so() {
    sandbox(|s| {
        let pin_dir = s.options().pin_dir;
        let error = DataPlane::open_readonly(&pin_dir).err().unwrap();
        assert_eq!(error, BpfError::NotRunning { path: pin_dir });
    });
}

#[test]
fn open_outside_a_bpf_file_system_names_the_mount_command() {
    sandbox(|s| {
        let elsewhere = tempfile::tempdir().unwrap();
        let error = refused(&OpenOptions { pin_dir: elsewhere.path().join("rollcall"), ..s.options() });
        assert!(error.to_string().contains("mount -t bpf"), "{error}");
        let error = refused(&OpenOptions { pin_dir: s.bpffs().join("roll.call"), ..s.options() });
        assert!(matches!(error, BpfError::DottedPath { .. }), "{error}");
    });
}

#[test]
fn ensure_bpffs_mounts_at_the_usual_place_only() {
    sandbox(|s| {
        // A fresh sysfs has an empty directory there.
        mount(Some("sysfs"), "/sys", Some("sysfs"), MsFlags::empty(), None::<&str>).unwrap();
        let usual = Path::new("/sys/fs/bpf/rollcall");
        ensure_bpffs(usual).unwrap();
        ensure_bpffs(usual).unwrap();
        let (_, adopted) = DataPlane::open(&OpenOptions { pin_dir: usual.to_owned(), ..s.options() }).unwrap();
        assert!(!adopted);
        assert!(usual.join("v1").is_dir());
    });
}

#[test]
fn remove_is_repeatable_from_any_point() {
    sandbox(|s| {
        let pin_dir = s.options().pin_dir;
        DataPlane::remove(&pin_dir).unwrap();
        s.veth("rcl-a", "rcl-b");
        for crash in ["none", "links gone", "renamed", "half unpinned"] {
            let (mut plane, adopted) = s.open();
            assert!(!adopted, "{crash}");
            plane.attach(&["rcl-a".to_owned()], AttachMode::Auto).unwrap();
            drop(plane);
            let leaving = pin_dir.join("v1-old");
            match crash {
                "links gone" => fs::remove_file(s.pin("link-rcl-a")).unwrap(),
                "renamed" => fs::rename(pin_dir.join("v1"), &leaving).unwrap(),
                "half unpinned" => {
                    fs::rename(pin_dir.join("v1"), &leaving).unwrap();
                    fs::remove_file(leaving.join(maps::META)).unwrap();
                    fs::remove_file(leaving.join(programs::LB)).unwrap();
                }
                _ => {}
            }
            DataPlane::remove(&pin_dir).unwrap();
            assert!(!pin_dir.exists(), "{crash}");
            assert!(!s.ip("link show dev rcl-a").contains("xdp"), "{crash}");
            DataPlane::remove(&pin_dir).unwrap();
        }
    });
}
