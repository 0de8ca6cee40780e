//! Times that grew: of probes, and of clients' handshakes as the program measures them.

use std::time::Duration;

use super::Counted;
use super::past::{Past, median};
use crate::core::api::Time;
use crate::core::streak::Streak;

/// A window.
const WINDOW: Duration = Duration::from_secs(300);
/// Probes without which a window says nothing.
const PROBES: usize = 10;
/// Handshakes without which a window says nothing.
const HANDSHAKES: u64 = 20;
/// So many times what is usual,
const TIMES: f64 = 3.0;
/// and so much more, ms.
const MORE_MS: f64 = 50.0;

/// Whether a time is far above what is usual, in words.
fn slower(past: &mut Past, what: &str, ms: f64) -> Option<String> {
    let usual = past.usual_before(ms)?;
    let slow = ms >= usual * TIMES && ms >= usual + MORE_MS;
    slow.then(|| format!("{what} take {ms:.0} ms, usually {usual:.0} ms"))
}

/// Times of successful probes.
#[derive(Clone, Debug, Default)]
pub(super) struct Probes {
    last: Option<Time>,
    began: Option<Time>,
    took_ms: Vec<f64>,
    past: Past,
    streak: Streak,
}

impl Probes {
    /// Takes the newest probe; the same one again is nothing new.
    pub(super) fn take(&mut self, time: Time, took: Duration) {
        if self.last.is_some_and(|last| time.boot_ms <= last.boot_ms) {
            return;
        }
        self.last = Some(time);
        let began = *self.began.get_or_insert(time);
        self.took_ms.push(took.as_secs_f64() * 1000.0);
        if (began + WINDOW).boot_ms > time.boot_ms {
            return;
        }
        let took_ms = std::mem::take(&mut self.took_ms);
        self.began = Some(time);
        if took_ms.len() >= PROBES
            && let Some(ms) = median(took_ms)
        {
            let amiss = slower(&mut self.past, "probes", ms);
            self.streak.take(amiss, began, time);
        }
    }

    pub(super) fn expire(&mut self, now: Time) {
        self.streak.expire(now);
    }

    pub(super) fn found(&self) -> Option<(Time, &str)> {
        self.streak.found()
    }
}

/// Times from a client's first packet to the backend's answer.
#[derive(Clone, Debug, Default)]
pub(super) struct Handshakes {
    /// When the window began, whose counters these are, and how they stood then.
    began: Option<(Time, u32, Counted)>,
    past: Past,
    streak: Streak,
}

impl Handshakes {
    pub(super) fn count(&mut self, id: u32, counted: Counted, now: Time) {
        let Some((began, of, then)) = self.began else {
            self.began = Some((now, id, counted));
            return;
        };
        if of != id || counted.answers < then.answers || counted.answer_ns < then.answer_ns {
            self.began = Some((now, id, counted));
            return;
        }
        if (began + WINDOW).boot_ms > now.boot_ms {
            return;
        }
        self.began = Some((now, id, counted));
        let answers = counted.answers - then.answers;
        if answers >= HANDSHAKES {
            let ms = (counted.answer_ns - then.answer_ns) as f64 / answers as f64 / 1e6;
            let amiss = slower(&mut self.past, "handshakes", ms);
            self.streak.take(amiss, began, now);
        }
    }

    pub(super) fn expire(&mut self, now: Time) {
        self.streak.expire(now);
    }

    pub(super) fn found(&self) -> Option<(Time, &str)> {
        self.streak.found()
    }
}
