//! Connections that come to nothing: unanswered ones by their share, resets by what was usual, since many servers end good
//! connections by a reset.

use std::time::Duration;

use super::Counted;
use super::past::Past;
use crate::core::api::Time;
use crate::core::streak::Streak;

/// The shortest window.
const WINDOW: Duration = Duration::from_secs(60);
/// New flows without which a window does not end.
const FLOWS: u64 = 50;
/// Fewer failed ones are nobody's concern.
const FAILED: u64 = 10;
/// A share of unanswered flows that is too many.
const UNANSWERED: f64 = 0.05;
/// Resets so many times what is usual,
const TIMES: f64 = 3.0;
/// and so large a share of the new flows more.
const MORE: f64 = 0.1;

/// The flows of one member.
#[derive(Clone, Debug, Default)]
pub(super) struct Errors {
    /// When the window began, whose counters these are, and how they stood then.
    began: Option<(Time, u32, Counted)>,
    resets: Past,
    streak: Streak,
}

impl Errors {
    pub(super) fn count(&mut self, id: u32, counted: Counted, now: Time) {
        let Some((began, of, then)) = self.began else {
            self.began = Some((now, id, counted));
            return;
        };
        let since = |now: u64, then: u64| now.checked_sub(then).filter(|_| of == id);
        let (Some(opened), Some(unanswered), Some(resets)) = (
            since(counted.opened, then.opened),
            since(counted.unanswered, then.unanswered),
            since(counted.resets, then.resets),
        ) else {
            self.began = Some((now, id, counted));
            return;
        };
        if (began + WINDOW).boot_ms > now.boot_ms || opened < FLOWS {
            return;
        }
        self.began = Some((now, id, counted));
        let share = |n: u64| n as f64 / opened as f64;
        let usual = self.resets.usual_before(share(resets));
        let unusual = usual.filter(|usual| share(resets) >= usual * TIMES && share(resets) >= usual + MORE);
        let percent = |share: f64| 100.0 * share;
        let amiss = if unanswered >= FAILED && share(unanswered) >= UNANSWERED {
            Some(format!("{unanswered} of {opened} new ones got no answer"))
        } else {
            unusual.filter(|_| resets >= FAILED).map(|usual| {
                let (now, then) = (percent(share(resets)), percent(usual));
                format!("it reset {resets} of {opened} ({now:.0} %, usually {then:.0} %)")
            })
        };
        self.streak.take(amiss, began, now);
    }

    pub(super) fn expire(&mut self, now: Time) {
        self.streak.expire(now);
    }

    /// As if nothing had been found; what is usual stays.
    pub(super) fn forget(&mut self) {
        self.streak = Streak::default();
    }

    pub(super) fn found(&self) -> Option<(Time, &str)> {
        self.streak.found()
    }
}
