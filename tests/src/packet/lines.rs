//! What the program logs, kept for a test.

use std::sync::{Arc, Mutex};

use aya_log::EbpfLogger;
use log::{Log, Metadata, Record};

use super::plane::Plane;

/// The program's lines, as the daemon would see them.
pub struct Lines {
    logger: EbpfLogger<Kept>,
    kept: Kept,
}

impl Lines {
    /// Takes the log of a plane.
    pub fn of(plane: &mut Plane) -> Self {
        let kept = Kept::default();
        let logger = EbpfLogger::init_with_logger(plane.object(), kept.clone()).expect("AYA_LOGS");
        Self { logger, kept }
    }

    /// The lines since the last call: level, target and text.
    pub fn take(&mut self) -> Vec<String> {
        self.logger.flush();
        std::mem::take(&mut *self.kept.0.lock().expect("no test panics while it logs"))
    }
}

#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Vec<String>>>);

impl Log for Kept {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        let line = format!("{} {} {}", record.level(), record.target(), record.args());
        self.0.lock().expect("no test panics while it logs").push(line);
    }

    fn flush(&self) {}
}
