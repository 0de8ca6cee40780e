//! Creating a data plane, or adopting the pinned one.

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use aya::maps::{MapError, ProgramArray};
use aya::programs::{ProgramError, ProgramInfo, Xdp};
use aya::util::KernelVersion;
use aya::{Ebpf, EbpfLoader};
use aya_obj::programs::XdpAttachType;
use lb_common::abi::{ABI_VERSION, Called, Meta, Settings, direct_buckets, maps, programs};
use nix::time::{ClockId, clock_gettime};

use super::error::{BpfError, errno};
use super::log::ProgramLog;
use super::maps::{Maps, meta, verify};
use super::object::{OBJECT, Sizes, shapes};
use super::pin::{Pins, clear_leftovers, ensure_bpffs, unpin};
use super::{DataPlane, collect, sys};

/// What a data plane is created with. All of it is fixed while the data plane is up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenOptions {
    /// Where things are pinned; on a bpffs.
    pub pin_dir: PathBuf,
    /// Established flows per family.
    pub max_flows: u32,
    /// Half-open flows per family; a power of two.
    pub max_half_open: u32,
    /// Slots of all tables together.
    pub arena_slots: u32,
    /// Seed of the flow hash; `None`: random when created, and whatever the pinned one has when adopted.
    pub seed: Option<u32>,
}

impl DataPlane {
    /// Adopts the pinned data plane, or creates and pins one. The flag says whether it was adopted.
    ///
    /// Adopting changes nothing but the pinned programs, and those only where this build's differ; the interfaces follow
    /// with [`DataPlane::attach`].
    pub fn open(options: &OpenOptions) -> Result<(Self, bool), BpfError> {
        require_kernel()?;
        let sizes = Sizes::new(options.max_flows, options.max_half_open, options.arena_slots)?;
        ensure_bpffs(&options.pin_dir)?;
        clear_leftovers(&options.pin_dir)?;
        let pins = Pins::current(&options.pin_dir);
        if pins.exists() {
            let meta = check(&pins)?;
            compare(options, &sizes, &meta)?;
            let log = renew_programs(&pins, &sizes)?;
            return Ok((Self::from_pins(pins, meta, Some(log))?, true));
        }
        let (meta, log) = create(&options.pin_dir, &sizes, options.seed)?;
        Ok((Self::from_pins(pins, meta, Some(log))?, false))
    }

    /// Opens the pinned data plane as it is, to read it.
    pub fn open_readonly(pin_dir: &Path) -> Result<Self, BpfError> {
        let pins = Pins::current(pin_dir);
        if !pins.exists() {
            return Err(BpfError::NotRunning { path: pin_dir.to_owned() });
        }
        let meta = check(&pins)?;
        Self::from_pins(pins, meta, None)
    }

    fn from_pins(pins: Pins, meta: Meta, log: Option<ProgramLog>) -> Result<Self, BpfError> {
        Ok(Self {
            meta,
            maps: Maps::open(&pins)?,
            lb: pinned_program(&pins, programs::LB)?,
            collect: pinned_program(&pins, programs::COLLECT)?,
            pins,
            fallback: None,
            grace: None,
            log,
        })
    }
}

fn require_kernel() -> Result<(), BpfError> {
    let release = KernelVersion::current().map_err(|e| BpfError::kernel("cannot ask for the kernel's version", &e))?;
    if release < KernelVersion::new(5, 15, 0) {
        let release = nix::sys::utsname::uname()
            .map_or_else(|_| format!("{release:?}"), |u| u.release().to_string_lossy().into_owned());
        return Err(BpfError::KernelTooOld { release });
    }
    Ok(())
}

/// Builds a set of pins aside and puts it into use when it is complete.
fn create(root: &Path, sizes: &Sizes, seed: Option<u32>) -> Result<(Meta, ProgramLog), BpfError> {
    let pins = Pins::building(root);
    pins.create()?;
    let mut object = load(&pins, sizes)?;
    for name in programs::PINNED {
        let path = pins.object(name);
        program(&mut object, name)?.pin(&path).map_err(|e| BpfError::at("pin", &path, &e))?;
    }

    let mut opened = Maps::open(&pins)?;
    let hz = collect::measure_hz(program(&mut object, programs::COLLECT)?, &opened.clock)?;
    let made = Meta {
        abi_version: ABI_VERSION,
        max_flows: sizes.max_flows,
        half_open_buckets: sizes.buckets,
        arena_slots: sizes.arena_slots,
        hz,
        seed: seed.unwrap_or_else(rand::random),
        created_boot_ns: boot_ns()?,
        ..Meta::default()
    };
    // What the program needs to be safe; the rest is the core's to write.
    let settings = Settings {
        seed: made.seed,
        half_open_mask: sizes.buckets - 1,
        direct_mask: direct_buckets(sizes.max_flows) - 1,
        hz,
        max_flows: sizes.max_flows,
        ..Settings::default()
    };
    opened.settings.set(0, settings, 0).map_err(|e| BpfError::kernel("cannot write SETTINGS", &e))?;
    meta(&pins)?.set(0, made, 0).map_err(|e| BpfError::kernel("cannot write META", &e))?;
    pins.publish()?;
    Ok((made, ProgramLog::of(&mut object)?))
}

/// Loads the object; maps that are pinned already are used, others are created and pinned.
fn load(pins: &Pins, sizes: &Sizes) -> Result<Ebpf, BpfError> {
    let mut loader = EbpfLoader::new();
    for (name, entries) in sizes.entries() {
        loader.map_max_entries(name, entries);
    }
    for name in maps::ALL {
        loader.map_pin_path(name, pins.object(name));
    }
    let mut object = loader.load(OBJECT).map_err(|e| BpfError::kernel("cannot create the maps", &e))?;
    for name in programs::PINNED.into_iter().chain(Called::ALL.map(Called::name)) {
        let refused = |e: ProgramError| BpfError::kernel(format!("the kernel does not accept program {name}"), &e);
        program(&mut object, name)?.load().map_err(refused)?;
    }
    install_called(&mut object)?;
    Ok(object)
}

/// Puts this build's programs where tail calls find them. Each replacement is one atomic store; a running `lb` of an older
/// build calls the new ones from then on, see [`Called`].
fn install_called(object: &mut Ebpf) -> Result<(), BpfError> {
    for called in Called::ALL {
        let name = called.name();
        let fd =
            program(object, name)?.fd().map_err(|e| BpfError::kernel(format!("program {name} is not loaded"), &e))?;
        let fd = fd.try_clone().map_err(|e| BpfError::kernel(format!("cannot duplicate program {name}"), &e))?;
        let map = object.map_mut(maps::PROGRAMS).ok_or_else(|| BpfError::Object("it has no map PROGRAMS".into()))?;
        let wrong = |e: MapError| BpfError::kernel(format!("cannot put program {name} into PROGRAMS"), &e);
        let mut programs: ProgramArray<_> = map.try_into().map_err(wrong)?;
        programs.set(called as u32, &fd, 0).map_err(wrong)?;
    }
    Ok(())
}

fn program<'a>(object: &'a mut Ebpf, name: &str) -> Result<&'a mut Xdp, BpfError> {
    let program = object.program_mut(name).ok_or_else(|| BpfError::Object(format!("it has no program {name}")))?;
    program.try_into().map_err(|e: ProgramError| BpfError::Object(format!("program {name}: {e}")))
}

fn pinned_program(pins: &Pins, name: &str) -> Result<Xdp, BpfError> {
    let path = pins.object(name);
    Xdp::from_pin(&path, XdpAttachType::Interface).map_err(|e| missing(&path, &e))
}

fn missing(path: &Path, error: &ProgramError) -> BpfError {
    match errno(error) {
        Some(libc::ENOENT) => BpfError::Incomplete { path: path.to_owned() },
        _ => BpfError::at("open pinned program", path, error),
    }
}

/// Judges a pinned set by itself: its version, then every map.
fn check(pins: &Pins) -> Result<Meta, BpfError> {
    let meta = meta(pins)?.get(&0, 0).map_err(|e| BpfError::kernel("cannot read META", &e))?;
    if meta.abi_version != ABI_VERSION {
        return Err(BpfError::AbiVersion { pinned: meta.abi_version, expected: ABI_VERSION });
    }
    verify(pins, &shapes(&Sizes::of(&meta))?)?;
    Ok(meta)
}

/// Holds a pinned set against what the configuration asks for.
fn compare(options: &OpenOptions, sizes: &Sizes, meta: &Meta) -> Result<(), BpfError> {
    let running = Sizes::of(meta);
    for (key, running, configured) in [
        ("conntrack.max_flows", running.max_flows, sizes.max_flows),
        ("conntrack.max_half_open", running.max_half_open(), sizes.max_half_open()),
        ("conntrack.arena_slots", running.arena_slots, sizes.arena_slots),
        ("conntrack.seed", meta.seed, options.seed.unwrap_or(meta.seed)),
    ] {
        if running != configured {
            return Err(BpfError::Fixed { key, running, configured });
        }
    }
    Ok(())
}

/// Puts this build's programs in the place of pinned ones that differ, and opens their log. The kernel's tag covers the
/// instructions without the maps that they name, so an equal tag over the same maps is an equal program. Not so for
/// `collect`: the texts that it logs are in a map of its own, which is not pinned. Nothing is attached to it, so it is
/// always replaced.
fn renew_programs(pins: &Pins, sizes: &Sizes) -> Result<ProgramLog, BpfError> {
    let mut object = load(pins, sizes)?;
    for name in programs::PINNED {
        let path = pins.object(name);
        let ours = program(&mut object, name)?;
        let tag = ours.info().map_err(|e| BpfError::kernel(format!("cannot examine program {name}"), &e))?.tag();
        match ProgramInfo::from_pin(&path) {
            Ok(pinned) if pinned.tag() == tag && name != programs::COLLECT => continue,
            Ok(pinned) if pinned.tag() == tag => {}
            Ok(_) => tracing::info!(program = name, "replacing the pinned program by this build's"),
            Err(e) if errno(&e) == Some(libc::ENOENT) => {}
            Err(e) => return Err(BpfError::at("open pinned program", &path, &e)),
        }
        // A pin cannot be overwritten, but it can be renamed over.
        let aside = pins.object(&format!("{name}-new"));
        unpin(&aside)?;
        let fd = ours.fd().map_err(|e| BpfError::kernel("program is not loaded", &e))?;
        sys::pin(fd.as_fd(), &aside).map_err(|e| BpfError::at("pin", &aside, &e))?;
        std::fs::rename(&aside, &path).map_err(|e| BpfError::at("replace", &path, &e))?;
    }
    ProgramLog::of(&mut object)
}

fn boot_ns() -> Result<u64, BpfError> {
    let now = clock_gettime(ClockId::CLOCK_BOOTTIME)
        .map_err(|e| BpfError::kernel("cannot read CLOCK_BOOTTIME", &std::io::Error::from(e)))?;
    Ok(now.tv_sec().unsigned_abs() * 1_000_000_000 + now.tv_nsec().unsigned_abs())
}
