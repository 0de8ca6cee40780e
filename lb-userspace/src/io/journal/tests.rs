//! What was appended is read back, by who and when was asked for; the oldest goes when there is too much; damage is put
//! aside.

use super::*;
use crate::config::model::{BackendName, ServiceName};

/// A minute for each event.
const STEP_MS: i64 = 60_000;

fn event(n: i64, backend: &str, kind: EventKind) -> Event {
    Event {
        time: Time { boot_ms: n.unsigned_abs(), wall_ms: n * STEP_MS },
        backend: BackendName::new(backend),
        service: (n % 2 == 0).then(|| ServiceName::new("www").unwrap()),
        kind,
        by: (n % 3 == 0).then(|| "ada".to_owned()),
        cause: format!("cause {n}"),
    }
}

fn sample(n: i64, backend: Option<&str>, opened: u64) -> Sample {
    let counted = Counted { opened, dropped: 3, ..Counted::default() };
    Sample { wall_ms: n * STEP_MS, service: "www".into(), backend: backend.map(Into::into), counted }
}

fn journal(dir: &Path, bounds: Bounds) -> Journal {
    Journal::open(dir, bounds).unwrap()
}

fn reader(dir: &Path) -> Reader {
    Reader::open(dir).unwrap().unwrap()
}

fn read(dir: &Path, query: EventQuery) -> (Vec<i64>, bool) {
    let (events, more) = reader(dir).events(&query).unwrap();
    (events.into_iter().map(|e| e.time.wall_ms / STEP_MS).collect(), more)
}

fn samples(dir: &Path, since: i64, until: i64) -> Vec<Sample> {
    let mut found = Vec::new();
    reader(dir).samples(since, until, |sample| found.push(sample)).unwrap();
    found
}

fn all() -> EventQuery {
    EventQuery { limit: 100, ..EventQuery::default() }
}

#[test]
fn events_appended_are_read_back_as_they_were_by_another_opening() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = journal(dir.path(), Bounds::default());
    let events = [event(1, "web-01", EventKind::Down), event(6, "web-02", EventKind::OutOfRotation)];
    journal.append(&events, &[]).unwrap();
    let expected: Vec<_> = events.iter().zip(1..).map(|(event, id)| Recorded::new(id, event)).collect();
    // The writer stays open: readers need no word with it.
    assert_eq!(reader(dir.path()).events(&all()).unwrap(), (expected.clone(), false));
    assert_eq!(expected[1].kind, "out_of_rotation");
    assert_eq!(expected[1].kind(), Some(EventKind::OutOfRotation));
    assert_eq!((expected[1].by.as_deref(), expected[0].service.as_deref()), (Some("ada"), None));
}

#[test]
fn query_gives_the_newest_that_match_or_those_after_a_number_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let events: Vec<_> = (1..=9).map(|n| event(n, if n < 5 { "web-01" } else { "web-02" }, EventKind::Up)).collect();
    journal(dir.path(), Bounds::default()).append(&events, &[]).unwrap();
    let read = |query| read(dir.path(), query);
    assert_eq!(read(EventQuery { limit: 3, ..all() }), (vec![7, 8, 9], true));
    assert_eq!(read(EventQuery { after: Some(3), limit: 3, ..all() }), (vec![4, 5, 6], true));
    assert_eq!(read(EventQuery { after: Some(9), ..all() }), (vec![], false));
    assert_eq!(read(EventQuery { backend: Some("web-01".into()), ..all() }), (vec![1, 2, 3, 4], false));
    assert_eq!(read(EventQuery { service: Some("www".into()), ..all() }), (vec![2, 4, 6, 8], false));
    let window = EventQuery { since_ms: Some(3 * STEP_MS), until_ms: Some(6 * STEP_MS), ..all() };
    assert_eq!(read(window), (vec![3, 4, 5], false));
    assert_eq!(read(EventQuery { limit: usize::MAX, ..all() }).0.len(), 9);
}

#[test]
fn last_before_a_moment_is_of_each_place_and_kind_the_newest() {
    let dir = tempfile::tempdir().unwrap();
    use EventKind::{InRotation, OutOfRotation};
    let events = [
        event(2, "web-01", OutOfRotation),
        event(4, "web-01", InRotation),
        event(6, "web-01", OutOfRotation),
        event(8, "web-02", OutOfRotation),
        event(10, "web-01", InRotation),
    ];
    journal(dir.path(), Bounds::default()).append(&events, &[]).unwrap();
    let stood = reader(dir.path()).last_before(9 * STEP_MS).unwrap();
    assert_eq!(stood.iter().map(|e| e.time.wall_ms / STEP_MS).collect::<Vec<_>>(), [4, 6, 8]);
}

#[test]
fn samples_of_a_window_begin_with_the_last_before_it() {
    let dir = tempfile::tempdir().unwrap();
    let (one, two) = (Some("web-01"), Some("web-02"));
    let five = [sample(1, one, 1), sample(2, one, 2), sample(2, two, 9), sample(3, None, 0), sample(4, one, 5)];
    journal(dir.path(), Bounds::default()).append(&[], &five).unwrap();
    let found = samples(dir.path(), 3 * STEP_MS, 4 * STEP_MS);
    assert_eq!(found, [sample(2, one, 2), sample(2, two, 9), sample(3, None, 0)]);
}

#[test]
fn events_and_samples_beyond_age_and_number_go_the_oldest_first() {
    let dir = tempfile::tempdir().unwrap();
    let bounds = Bounds { age: Duration::from_secs(600), events: 1500, samples: 3 };
    let mut journal = journal(dir.path(), bounds);
    let count = |dir: &Path| reader(dir).events(&EventQuery { limit: 10_000, ..all() }).unwrap().0;
    // Far more than one batch of a deletion.
    let events: Vec<_> = (0..4000).map(|_| event(100, "web-01", EventKind::Up)).collect();
    let five: Vec<_> = (0..5).map(|n| sample(100, Some("web-01"), n)).collect();
    journal.append(&events, &five).unwrap();
    journal.prune(101 * STEP_MS).unwrap();
    let left = count(dir.path());
    assert_eq!((left.len(), left[0].id), (1500, 2501));
    assert_eq!(samples(dir.path(), 0, i64::MAX), five[2..]);
    journal.append(&[event(105, "web-02", EventKind::Up)], &[]).unwrap();
    // Ten minutes are kept.
    journal.prune(111 * STEP_MS).unwrap();
    let left = count(dir.path());
    assert_eq!((left.len(), left[0].id), (1, 4001));
    assert!(samples(dir.path(), 0, i64::MAX).is_empty());
}

#[test]
fn journal_damaged_is_put_aside_and_a_new_one_begun() {
    let dir = tempfile::tempdir().unwrap();
    journal(dir.path(), Bounds::default()).append(&[event(1, "web-01", EventKind::Up)], &[]).unwrap();
    let mut bytes = std::fs::read(path(dir.path())).unwrap();
    let half = bytes.len() / 2;
    bytes[half..].fill(0xff);
    std::fs::write(path(dir.path()), &bytes).unwrap();
    // Of the old file: applied to the new one it would damage that, too.
    std::fs::write(dir.path().join("journal.db-wal"), "left by a crash").unwrap();

    assert!(Journal::open(dir.path(), Bounds::default()).err().unwrap().is_damage());
    let (mut journal, lost) = Journal::open_or_begin(dir.path(), Bounds::default(), 42).unwrap();
    assert!(lost.unwrap().contains("journal.db.damaged-42"));
    assert!(dir.path().join("journal.db.damaged-42").exists());
    journal.append(&[event(2, "web-01", EventKind::Up)], &[]).unwrap();
    assert_eq!(read(dir.path(), all()).0, [2]);
}

#[test]
fn journal_that_is_not_there_is_none_to_read() {
    assert!(Reader::open(tempfile::tempdir().unwrap().path()).unwrap().is_none());
}

#[test]
fn counters_since_a_new_beginning_are_all_they_say() {
    let counted = |opened, dropped| Counted { opened, dropped, ..Counted::default() };
    assert_eq!(counted(7, 3).since(counted(5, 3)), counted(2, 0));
    assert_eq!(counted(9, 1).since(counted(5, 3)), counted(9, 1));
}

#[test]
fn newest_number_is_lower_once_the_journal_was_begun_anew() {
    let dir = tempfile::tempdir().unwrap();
    let newest = || Reader::open(dir.path()).unwrap().unwrap().newest().unwrap();
    let mut journal = Journal::open(dir.path(), Bounds::default()).unwrap();
    assert_eq!(newest(), 0);
    journal.append(&[1, 2].map(|n| event(n, "b", EventKind::Configured)), &[]).unwrap();
    assert_eq!(newest(), 2);
    drop(journal);
    std::fs::remove_file(dir.path().join("journal.db")).unwrap();
    drop(Journal::open(dir.path(), Bounds::default()).unwrap());
    assert_eq!(newest(), 0);
}
