//! The programs' own log: lines that `collect` leaves in the ring buffer `AYA_LOGS`, see `lb-ebpf/src/findings.rs`.
//!
//! The buffer is pinned, so lines of a time without a daemon are read by the next one.

use aya::Ebpf;
use aya_log::EbpfLogger;

use super::error::BpfError;

/// The ring buffer's one reader.
pub struct ProgramLog(EbpfLogger<&'static dyn ::log::Log>);

impl ProgramLog {
    /// Takes the ring buffer of a loaded object, pinned or not. (aya-log can find a pinned program's by itself, but only
    /// by walking over all programs of the machine, which takes `CAP_SYS_ADMIN`.)
    pub(super) fn of(object: &mut Ebpf) -> Result<Self, BpfError> {
        EbpfLogger::init(object).map(Self).map_err(|e| BpfError::kernel("cannot open AYA_LOGS", &e))
    }

    /// Hands the lines that are there to the logger of the process. Does not wait.
    ///
    /// # Panics
    /// At a line that a program of another aya-log wrote; the next call goes on behind it.
    pub fn flush(&mut self) {
        self.0.flush();
    }
}
