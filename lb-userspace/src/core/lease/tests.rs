use rstest::rstest;

use super::*;
use crate::config::model::BackendName;
use crate::core::api::Scope;

const MINUTE_MS: u64 = 60_000;

fn lease() -> Lease {
    let begun = Time { boot_ms: 1_000_000, wall_ms: 1_700_000_000_000 };
    Lease {
        scope: Scope { backend: BackendName::new("web-02").unwrap(), service: None },
        kind: LeaseKind::Drain,
        owner: Owner { name: "ada".into(), claimed: false, uid: 0, loginuid: Some(1000) },
        reason: "kernel test".into(),
        begun,
        ends: begun + DEFAULT,
        granted_ms: 30 * MINUTE_MS,
        boot_id: "first".into(),
        recallable: true,
        overrode: None,
    }
}

/// A moment `minutes` after the lease began, in its own boot.
fn mark(minutes: u64) -> Mark {
    Mark { time: lease().begun + Duration::from_secs(minutes * 60), boot_id: "first".into() }
}

/// A moment 20 s after a reboot, `minutes` by the wall clock after the lease began.
fn rebooted(minutes: i64) -> Time {
    Time { boot_ms: 20_000, wall_ms: lease().begun.wall_ms + minutes * 60_000 }
}

#[test]
fn carry_over_within_the_boot_changes_nothing_whatever_the_wall_clock_says() {
    let mut same = lease();
    let later = Time { boot_ms: 1_500_000, wall_ms: 0 };
    assert_eq!(same.carry_over(Some(&mark(5)), "first", later), Carried::SameBoot);
    assert_eq!(same, lease());
    assert_eq!(same.left(later), DEFAULT - Duration::from_secs(500));
    assert_eq!(same.seen_at(later).ends.wall_ms, 1_300_000, "as the clock of now would show it");
}

#[rstest]
#[case::half_way(Some(5), 15, Carried::ByWall, 15)]
#[case::without_a_mark(None, 15, Carried::ByWall, 15)]
#[case::long_over(Some(5), 500, Carried::ByWall, 0)]
#[case::clock_went_back(Some(10), -60, Carried::FromBoot, 20)]
#[case::clock_went_back_behind_the_mark(Some(10), 5, Carried::FromBoot, 20)]
#[case::clock_went_back_without_a_mark(None, -60, Carried::FromBoot, 30)]
fn carry_over_a_reboot_goes_by_the_wall_clock_unless_that_went_back(
    #[case] marked: Option<u64>,
    #[case] now: i64,
    #[case] carried: Carried,
    #[case] left_minutes: u64,
) {
    let (mut lease, now) = (lease(), rebooted(now));
    let marked = marked.map(mark);
    assert_eq!(lease.carry_over(marked.as_ref(), "second", now), carried);
    // From the boot's start, not from now, where the wall clock cannot tell.
    let since_boot = if carried == Carried::FromBoot { now.boot_ms } else { 0 };
    assert_eq!(
        lease.left(now),
        Duration::from_millis(left_minutes * MINUTE_MS).saturating_sub(Duration::from_millis(since_boot))
    );
    assert_eq!(lease.boot_id, "second");
    let again = lease.clone();
    assert_eq!(lease.carry_over(marked.as_ref(), "second", now), Carried::SameBoot);
    assert_eq!(lease, again);
}

#[test]
fn carry_over_where_the_wall_clock_was_set_during_the_lease_counts_by_what_both_clocks_told() {
    // Ten minutes in, the wall clock was put two hours ahead.
    let mut marked = mark(10);
    marked.time.wall_ms += 2 * 3_600_000;
    let now = Time { boot_ms: 20_000, wall_ms: marked.time.wall_ms + 5 * 60_000 };
    let mut lease = lease();
    assert_eq!(lease.carry_over(Some(&marked), "second", now), Carried::ByWall);
    assert_eq!(lease.left(now), Duration::from_secs(15 * 60));
}

#[test]
fn carry_over_never_gives_more_than_was_granted() {
    let mut lease = lease();
    // A mark of another boot is no mark.
    let strange = Mark { boot_id: "other".into(), time: Time { boot_ms: 0, wall_ms: 0 } };
    lease.carry_over(Some(&strange), "second", rebooted(0));
    assert_eq!(lease.left(rebooted(0)), DEFAULT);
}

#[test]
fn reminder_comes_five_minutes_ahead_or_a_quarter_of_a_short_lease() {
    assert_eq!(lease().reminder_ms(), lease().ends.boot_ms - 5 * MINUTE_MS);
    let short = Lease { granted_ms: 4 * MINUTE_MS, ..lease() };
    assert_eq!(short.reminder_ms(), short.ends.boot_ms - MINUTE_MS);
}
