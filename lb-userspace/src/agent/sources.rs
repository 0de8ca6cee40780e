//! All that the agent reads, put together: the system's memory, the cgroup's, the pressure, and whose they are.

use std::io;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::cgroup::Cgroup;
use super::hierarchy::Hierarchy;
use super::meminfo::{self, Memory};
use super::pressure;
use crate::control::daemon::{ControlError, ErrorCode};
use crate::control::schema::{Headroom, Limit};

/// Where things are read.
pub(super) struct Sources {
    /// `/proc`.
    proc: PathBuf,
    /// The cgroup that is watched, if the kernel limits memory by cgroups.
    cgroup: Option<Cgroup>,
    hostname: String,
    boot_id: String,
}

/// What was read.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Measurement {
    /// By the system.
    pub(super) system: Memory,
    /// By the cgroup that leaves the smallest share, with its name; `None` if none has a limit.
    pub(super) cgroup: Option<(String, Memory)>,
    /// Share of the last ten seconds in which some task waited for memory.
    pub(super) pressure: Option<f64>,
}

impl Measurement {
    /// The limit that leaves the smaller share: whose, the cgroup's name, and the memory.
    pub(super) fn tighter(&self) -> (Limit, Option<&str>, Memory) {
        match &self.cgroup {
            Some((name, memory)) if memory.is_tighter_than(self.system) => {
                (Limit::Cgroup, Some(name.as_str()), *memory)
            }
            _ => (Limit::System, None, self.system),
        }
    }
}

impl Sources {
    /// Finds them. Where a cgroup was asked for, cgroups must limit memory; whether that one is there now does not matter,
    /// since services come and go.
    pub(super) fn find(proc: &Path, wanted: Option<&Path>) -> Result<Self, ControlError> {
        let system =
            |what: &str, e: io::Error| ControlError::new(ErrorCode::System, format!("cannot read {what}: {e}"));
        let read = |file: &str| {
            let path = proc.join(file);
            std::fs::read_to_string(&path).map_err(|e| system(&path.display().to_string(), e))
        };
        let hierarchy = Hierarchy::find(&read("self/mountinfo")?);
        let cgroup = match (hierarchy, wanted) {
            (Some(hierarchy), wanted) => {
                Some(Cgroup::at(hierarchy, wanted.unwrap_or(Path::new(""))).map_err(|why| {
                    ControlError::new(ErrorCode::Usage, why).with_hint("see systemd-cgls for the names")
                })?)
            }
            (None, Some(wanted)) => {
                let what = format!("cannot watch cgroup {}: no cgroups limit memory here", wanted.display());
                let hint = "leave out --cgroup, or mount the cgroups that have the memory controller";
                return Err(ControlError::new(ErrorCode::System, what).with_hint(hint));
            }
            (None, None) => None,
        };
        let hostname = nix::unistd::gethostname().map_err(|e| system("the host's name", e.into()))?;
        let sources = Self {
            boot_id: read("sys/kernel/random/boot_id")?.trim().to_owned(),
            hostname: hostname.to_string_lossy().into_owned(),
            proc: proc.to_owned(),
            cgroup,
        };
        sources.system().map_err(|why| ControlError::new(ErrorCode::System, why))?;
        if let Some(cgroup) = sources.cgroup.as_ref().filter(|cgroup| wanted.is_some() && !cgroup.folder().is_dir()) {
            tracing::warn!("there is no cgroup {} yet; until there is, requests are answered by 503", cgroup.name());
        }
        Ok(sources)
    }

    /// In words, for the log.
    pub(super) fn describe(&self) -> String {
        match &self.cgroup {
            None => "telling the system's memory; no cgroups limit memory here".to_owned(),
            Some(cgroup) => {
                format!("telling the memory of the system or of cgroup {}, whichever is tighter", cgroup.name())
            }
        }
    }

    /// Reads everything now.
    pub(super) fn measure(&self) -> Result<Measurement, String> {
        let system = self.system()?;
        let cgroup = self.cgroup.as_ref().map(Cgroup::tightest).transpose()?.flatten();
        // The topmost cgroup of a host has no file of its own.
        let own = self.cgroup.as_ref().and_then(|cgroup| pressure::read(&cgroup.folder().join("memory.pressure")));
        let pressure = own.or_else(|| pressure::read(&self.proc.join("pressure/memory")));
        Ok(Measurement { system, cgroup, pressure })
    }

    fn system(&self) -> Result<Memory, String> {
        let file = self.proc.join("meminfo");
        let text = std::fs::read_to_string(&file).map_err(|e| format!("cannot read {}: {e}", file.display()))?;
        meminfo::parse(&text).map_err(|why| format!("{} {why}", file.display()))
    }

    /// The document of a measurement made at `time`.
    pub(super) fn headroom(&self, measurement: &Measurement, time: Timestamp) -> Headroom {
        let (limit, cgroup, memory) = measurement.tighter();
        Headroom {
            time,
            hostname: self.hostname.clone(),
            boot_id: self.boot_id.clone(),
            limit,
            cgroup: cgroup.map(ToOwned::to_owned),
            total_bytes: memory.total_bytes,
            available_bytes: memory.available_bytes,
            pressure_some_avg10_ratio: measurement.pressure,
        }
    }
}
