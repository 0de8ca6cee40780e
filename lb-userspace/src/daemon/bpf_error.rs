//! The data plane's errors as the daemon's: their text already says what, where, why and what to do; only the class,
//! which fixes the exit code, is missing.

use crate::control::daemon::{ControlError, ErrorCode};
use crate::io::bpf::BpfError;

/// With its class.
pub fn for_people(e: BpfError) -> ControlError {
    let code = match &e {
        BpfError::Permission { .. } => ErrorCode::Permission,
        BpfError::Fixed { .. } | BpfError::BadSize { .. } | BpfError::DottedPath { .. } => ErrorCode::Config,
        BpfError::NotRunning { .. } => ErrorCode::Unavailable,
        BpfError::Occupied { .. } => ErrorCode::Conflict,
        _ => ErrorCode::System,
    };
    ControlError::new(code, e.to_string())
}
