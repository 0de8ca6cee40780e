//! Putting the program on interfaces, and finding out where it is.
//!
//! Each interface has a link, pinned beside the maps. What is attached already stays attached, with this build's program
//! behind it; only what differs from the wish is changed.

use std::io;
use std::os::fd::AsFd;

use aya::programs::loaded_programs;

use super::DataPlane;
use super::device::{self, Device};
use super::error::BpfError;
use super::link::Link;
use super::pin::unpin;
use super::types::{Attached, Mode};
use crate::config::model::AttachMode;

/// An interface that is to be attached, and the live link that it has.
struct Target {
    device: Device,
    link: Option<(Link, Mode)>,
}

/// A new attach that failed.
enum Refusal {
    /// This interface cannot have the mode; another mode may do.
    Mode { interface: String, cause: String },
    /// No mode would help.
    Final(BpfError),
}

impl DataPlane {
    /// Attaches to exactly these interfaces, and returns what the kernel then says of each.
    ///
    /// Live links are kept with their mode, their program replaced if it differs, unless the wish excludes the mode.
    /// `auto` tries native on all that have no link yet; if one cannot, all run generic. With `auto` a link that is
    /// generic already stays so, since trying native would interrupt its traffic. Interfaces that are not named any more
    /// are detached. If it fails, links made by this call are gone again.
    pub fn attach(&mut self, interfaces: &[String], mode: AttachMode) -> Result<Vec<Attached>, BpfError> {
        // All must exist before anything is changed.
        let find = |name: &String| device::by_name(name)?.ok_or_else(|| BpfError::NoInterface { name: name.clone() });
        let devices: Vec<Device> = interfaces.iter().map(find).collect::<Result<_, _>>()?;
        let mut targets = Vec::new();
        for device in devices {
            targets.push(Target { link: self.live_link(&device)?, device });
        }
        // Under another name than the one it was attached by, an interface would refuse the new link.
        let renamed = |ifindex| targets.iter().any(|t| t.device.ifindex == ifindex);
        self.detach_others(interfaces, renamed)?;

        let kept_generic = targets.iter().any(|t| matches!(t.link, Some((_, Mode::Generic))));
        self.fallback = None;
        match mode {
            AttachMode::Native => self.attach_all(&mut targets, Mode::Native).map_err(into_error(Mode::Native))?,
            AttachMode::Generic => self.attach_all(&mut targets, Mode::Generic).map_err(into_error(Mode::Generic))?,
            AttachMode::Auto if kept_generic => {
                self.attach_all(&mut targets, Mode::Generic).map_err(into_error(Mode::Generic))?;
                self.fallback = Some(
                    "kept generic as an earlier start attached it; `rollcall down` and a new start try native again"
                        .to_owned(),
                );
            }
            AttachMode::Auto => match self.attach_all(&mut targets, Mode::Native) {
                Ok(()) => {}
                Err(Refusal::Final(e)) => return Err(e),
                Err(Refusal::Mode { interface, cause }) => {
                    self.attach_all(&mut targets, Mode::Generic).map_err(into_error(Mode::Generic))?;
                    self.fallback = Some(format!("{interface} cannot run native: {cause}"));
                }
            },
        }
        // Last, so that a refusal has interrupted nothing.
        self.detach_others(interfaces, |_| true)?;
        targets.iter().map(|t| self.verified(&t.device.name, t.device.ifindex)).collect()
    }

    /// Where the program is now, by the kernel's word. A link whose interface is gone, or was replaced by another of the
    /// same name, is not listed.
    pub fn attached(&self) -> Result<Vec<Attached>, BpfError> {
        let mut found = Vec::new();
        for name in self.pins.links()? {
            let Some(info) = Link::open(&self.pins.link(&name))?.info()?.filter(|i| i.ifindex != 0) else { continue };
            let Some(device) = device::by_index(info.ifindex)? else { continue };
            if device.xdp.is_some_and(|xdp| xdp.program == info.program) {
                found.push(self.verified(&name, device.ifindex)?);
            }
        }
        Ok(found)
    }

    /// Whether this program is on the interface, whatever is pinned, and whether its link is pinned.
    pub fn carries(&self, interface: &str) -> Result<(bool, bool), BpfError> {
        let on = device::by_name(interface)?.and_then(|device| device.xdp).map(|xdp| xdp.program);
        Ok((on == Some(self.program_id()?), self.pins.link(interface).exists()))
    }

    /// The link that still holds this interface. One that does not (the interface was deleted, and perhaps made again
    /// under the same name) is unpinned.
    fn live_link(&self, device: &Device) -> Result<Option<(Link, Mode)>, BpfError> {
        let path = self.pins.link(&device.name);
        if !path.exists() {
            return Ok(None);
        }
        let link = Link::open(&path)?;
        if let Some(info) = link.info()?
            && info.ifindex == device.ifindex
            && let Some(xdp) = device.xdp
            && xdp.program == info.program
            && let Some(mode) = xdp.mode
        {
            return Ok(Some((link, mode)));
        }
        tracing::warn!(interface = device.name, "the pinned link is defunct; attaching anew");
        unpin(&path)?;
        Ok(None)
    }

    /// Detaches the interfaces that are not named, where `on` agrees to the index.
    fn detach_others(&self, interfaces: &[String], on: impl Fn(u32) -> bool) -> Result<(), BpfError> {
        for name in self.pins.links()?.iter().filter(|n| !interfaces.contains(n)) {
            let path = self.pins.link(name);
            let link = Link::open(&path)?;
            if on(link.info()?.map_or(0, |info| info.ifindex)) {
                link.detach()?;
                unpin(&path)?;
            }
        }
        Ok(())
    }

    /// Brings all targets to one mode, with this program. A live link of the other mode is detached first: the kernel
    /// allows one mode at a time. On a refusal the links made here are undone.
    fn attach_all(&self, targets: &mut [Target], mode: Mode) -> Result<(), Refusal> {
        let ours = self.program_id().map_err(Refusal::Final)?;
        let mut made = Vec::new();
        let mut result = Ok(());
        for (index, target) in targets.iter_mut().enumerate() {
            result = match self.bring(target, mode, ours) {
                Ok(true) => {
                    made.push(index);
                    Ok(())
                }
                Ok(false) => Ok(()),
                Err(refusal) => Err(refusal),
            };
            if result.is_err() {
                break;
            }
        }
        if result.is_err() {
            for index in made {
                self.take_off(&mut targets[index]).map_err(Refusal::Final)?;
            }
        }
        result
    }

    /// Brings one target to a mode; says whether a link was made for it.
    fn bring(&self, target: &mut Target, mode: Mode, ours: u32) -> Result<bool, Refusal> {
        let path = self.pins.link(&target.device.name);
        let program = self.lb.fd().map_err(|e| Refusal::Final(BpfError::kernel("no program", &e)))?.as_fd();
        if let Some((link, has)) = &target.link
            && *has == mode
        {
            let info = link.info().map_err(Refusal::Final)?;
            if info.is_none_or(|i| i.program != ours) {
                link.replace(program).map_err(Refusal::Final)?;
            }
            return Ok(false);
        }
        self.take_off(target).map_err(Refusal::Final)?;
        let link = Link::create(program, target.device.ifindex, mode).map_err(|e| refusal(&target.device, mode, &e))?;
        link.pin(&path).map_err(Refusal::Final)?;
        target.link = Some((link, mode));
        Ok(true)
    }

    /// Detaches and unpins a target's link. Closing and unpinning alone would detach too, but only some time later.
    fn take_off(&self, target: &mut Target) -> Result<(), BpfError> {
        if let Some((link, _)) = target.link.take() {
            link.detach()?;
            unpin(&self.pins.link(&target.device.name))?;
        }
        Ok(())
    }

    fn program_id(&self) -> Result<u32, BpfError> {
        Ok(self.lb.info().map_err(|e| BpfError::kernel("cannot examine the program", &e))?.id())
    }

    /// What the kernel says of an interface that should have the link pinned for `name`. (It may have been renamed.)
    fn verified(&self, name: &str, ifindex: u32) -> Result<Attached, BpfError> {
        let device = device::by_index(ifindex)?.ok_or_else(|| BpfError::NoInterface { name: name.to_owned() })?;
        let expected = Link::open(&self.pins.link(name))?.info()?.map(|i| i.program);
        match device.xdp {
            Some(device::Xdp { mode: Some(mode), program }) if Some(program) == expected => Ok(Attached {
                interface: device.name,
                ifindex,
                mode,
                fallback: self.fallback.clone().filter(|_| mode == Mode::Generic),
            }),
            other => Err(BpfError::Unverified {
                interface: device.name,
                found: other.map_or_else(|| "no XDP program".to_owned(), |xdp| describe(&xdp)),
            }),
        }
    }
}

fn into_error(mode: Mode) -> impl Fn(Refusal) -> BpfError {
    move |refusal| match refusal {
        Refusal::Final(e) => e,
        Refusal::Mode { interface, cause } => BpfError::Attach { interface, mode, cause },
    }
}

/// Sorts a failed attach: taken by another program, a failure of any mode, or of this mode.
fn refusal(device: &Device, mode: Mode, error: &io::Error) -> Refusal {
    let interface = device.name.clone();
    let number = error.raw_os_error();
    // Asked again: the program may have come since.
    if matches!(number, Some(libc::EEXIST | libc::EBUSY))
        && let Ok(Some(Device { xdp: Some(xdp), .. })) = device::by_index(device.ifindex)
    {
        return Refusal::Final(occupied(interface, &xdp));
    }
    match number {
        Some(libc::EPERM | libc::EACCES | libc::ENOMEM | libc::ENODEV) => {
            Refusal::Final(BpfError::kernel(format!("cannot attach to {interface}"), error))
        }
        _ => Refusal::Mode { interface, cause: explain(mode, error) },
    }
}

/// Why drivers refuse, as far as the errno tells.
fn explain(mode: Mode, error: &io::Error) -> String {
    let meaning = match (error.raw_os_error(), mode) {
        (Some(libc::EOPNOTSUPP), Mode::Native) => "its driver has no native XDP, or not with its present features",
        (Some(libc::EINVAL | libc::ERANGE | libc::E2BIG), Mode::Native) => {
            "often the MTU is too large for native XDP, or LRO is on"
        }
        (Some(libc::ENOSPC | libc::EBUSY), Mode::Native) => "often too few queues are left for XDP to transmit",
        (Some(libc::EEXIST), _) => "a device above it, a bond or a team, has an XDP program already",
        (Some(libc::EOPNOTSUPP), Mode::Generic) => "this kind of interface cannot run XDP",
        _ => return format!("{error}; the kernel log may say more"),
    };
    format!("{error}; {meaning}")
}

fn occupied(interface: String, xdp: &device::Xdp) -> BpfError {
    // A program that a link holds is refused to `ip`; who attached it is not told by the kernel.
    let off = match xdp.mode {
        Some(Mode::Generic) => "xdpgeneric off",
        Some(Mode::Native) => "xdpdrv off",
        None => "xdp off",
    };
    let removal = format!("ip link set dev {interface} {off} (or stop what attached it, if a bpf_link holds it)");
    BpfError::Occupied { interface, program: describe(xdp), removal }
}

fn describe(xdp: &device::Xdp) -> String {
    let mode = xdp.mode.map_or("offloaded or in several modes", Mode::name);
    let name = loaded_programs().filter_map(Result::ok).find(|p| p.id() == xdp.program);
    match name.as_ref().and_then(|p| p.name_as_str()) {
        Some(name) => format!("program {name}, id {}, {mode}", xdp.program),
        None => format!("program id {}, {mode}", xdp.program),
    }
}
