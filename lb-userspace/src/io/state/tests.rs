//! What was written is there after a reopening, and what cannot be read is refused.

use super::*;

const FILE: &str = "/etc/rollcall/rollcall.toml";

fn last(state: &State) -> Option<Revision> {
    state.last_revision(Path::new(FILE)).unwrap()
}

fn new(n: i64) -> NewRevision {
    let by = (n % 2 == 0).then_some(Actor { uid: 1000, loginuid: Some(4_294_967_294) });
    let (sha256, text) = (format!("sha{n}"), format!("text {n}"));
    NewRevision { path: FILE.into(), sha256, text, applied_wall_ms: n, by, cause: "test".into() }
}

fn intent() -> Intent {
    Intent {
        path: FILE.into(),
        old_sha256: "old".into(),
        new_sha256: "new".into(),
        text: "edited".into(),
        by: Some(Actor { uid: 0, loginuid: None }),
        cause: "backend add web-4".into(),
    }
}

#[test]
fn state_reopened_returns_what_was_written() {
    let dir = tempfile::tempdir().unwrap();
    let mut state = State::open(dir.path()).unwrap();
    assert_eq!((last(&state), state.intent().unwrap()), (None, None));
    let id = state.commit(&new(4), false).unwrap();
    state.begin(&intent()).unwrap();
    let own = vec![
        Placement::new("192.0.2.1".parse().unwrap(), "eth0"),
        Placement::new("2001:db8::1".parse().unwrap(), "eth0"),
    ];
    state.set_addresses(&own).unwrap();
    drop(state);

    let state = State::open(dir.path()).unwrap();
    assert_eq!(last(&state), Some(Revision { id, recorded: new(4) }));
    assert_eq!(state.intent().unwrap(), Some(intent()));
    assert_eq!(state.addresses().unwrap(), own);
    assert_eq!(state.last_revision(Path::new("/etc/other.toml")).unwrap(), None);
}

#[test]
fn commit_ends_the_intent_and_keeps_fifty_revisions() {
    let dir = tempfile::tempdir().unwrap();
    let mut state = State::open(dir.path()).unwrap();
    state.begin(&intent()).unwrap();
    for n in 1..=60 {
        state.commit(&new(n), false).unwrap();
    }
    assert_eq!(state.intent().unwrap(), None);
    assert_eq!(last(&state).unwrap().recorded, new(60));
    let kept: i64 = state.db.query_row("SELECT count(*) FROM revision", [], |row| row.get(0)).unwrap();
    assert_eq!(kept, KEEP_REVISIONS);
}

#[test]
fn state_of_a_newer_schema_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let state = State::open(dir.path()).unwrap();
    state.db.execute("UPDATE meta SET schema_version = 99", []).unwrap();
    drop(state);
    let refused = State::open(dir.path()).err().unwrap();
    assert!(matches!(refused, StateError::Newer { found: 99, .. }), "{refused}");
}

#[test]
fn state_opened_on_garbage_is_an_error_with_the_path() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("state.db"), "this is no database, though long enough to look at".repeat(20))
        .unwrap();
    let refused = State::open(dir.path()).err().unwrap();
    assert!(refused.to_string().contains("state.db"), "{refused}");
}

#[test]
fn state_damaged_is_put_aside_and_a_new_one_begun() {
    let garbage = |text: &mut Vec<u8>| text.fill(b'x');
    // The schema's page stays readable; what it refers to does not.
    let inside = |text: &mut Vec<u8>| {
        let first = text.len() / 2;
        text[first..].fill(0xff);
    };
    for damage in [&garbage as &dyn Fn(&mut Vec<u8>), &inside] {
        let dir = tempfile::tempdir().unwrap();
        State::open(dir.path()).unwrap().commit(&new(1), false).unwrap();
        let path = dir.path().join("state.db");
        let mut bytes = std::fs::read(&path).unwrap();
        damage(&mut bytes);
        std::fs::write(&path, &bytes).unwrap();
        std::fs::write(dir.path().join("state.db-journal"), "of the old one").unwrap();

        let refused = State::open(dir.path()).err().unwrap();
        assert!(refused.is_damage(), "{refused}");
        let (mut state, lost) = State::open_or_begin(dir.path(), 42).unwrap();
        let lost = lost.unwrap();
        assert!(lost.contains("state.db.damaged-42"), "{lost}");
        assert_eq!(std::fs::read(dir.path().join("state.db.damaged-42")).unwrap(), bytes);
        assert_eq!(last(&state), None);
        state.commit(&new(2), false).unwrap();
        drop(state);
        let (state, lost) = State::open_or_begin(dir.path(), 43).unwrap();
        assert_eq!((last(&state).unwrap().recorded, lost), (new(2), None));
    }
}

#[test]
fn state_of_a_newer_program_or_an_unreadable_folder_is_not_put_aside() {
    let dir = tempfile::tempdir().unwrap();
    let state = State::open(dir.path()).unwrap();
    state.db.execute("UPDATE meta SET schema_version = 99", []).unwrap();
    drop(state);
    assert!(matches!(State::open_or_begin(dir.path(), 1), Err(StateError::Newer { found: 99, .. })));
    let absent = State::open_or_begin(&dir.path().join("absent"), 1).err().unwrap();
    assert!(!absent.is_damage(), "{absent}");
}

#[test]
fn commit_notes_what_is_accounted_for_in_the_same_step_and_only_where_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let mut state = State::open(dir.path()).unwrap();
    state.commit(&new(1), true).unwrap();
    let accounted = |state: &State| state.accounted().unwrap().map(|(_, text)| text);
    assert_eq!(accounted(&state), Some(new(1).text));
    state.commit(&new(2), false).unwrap();
    assert_eq!(accounted(&state), Some(new(1).text), "an edit that a crash interrupted");
    // Neither is there without the other.
    state
        .db
        .execute_batch("CREATE TRIGGER full BEFORE INSERT ON accounted BEGIN SELECT RAISE(ABORT, 'full'); END")
        .unwrap();
    state.commit(&new(3), true).unwrap_err();
    assert_eq!(accounted(&state), Some(new(1).text));
    assert_eq!(state.last_revision(&new(3).path).unwrap().unwrap().recorded.text, new(2).text);
}

#[test]
fn risks_and_peaks_reopened_are_what_was_written_and_old_peaks_are_forgotten() {
    use crate::core::guard::peak::Peak;
    let dir = tempfile::tempdir().unwrap();
    let mut state = State::open(dir.path()).unwrap();
    let risk = crate::control::testing::risk();
    let all = crate::core::risk::Risk { service: None, ..risk.clone() };
    state.put_risk(&risk).unwrap();
    state.put_risk(&all).unwrap();
    let peak = |ended_ms: i64| -> Peak {
        let days = serde_json::json!({ "days": [{ "flows": 500, "headroom": 0.5, "ended_ms": ended_ms }] });
        serde_json::from_value(days).unwrap()
    };
    let name = |text| crate::config::model::BackendName::new(text).unwrap();
    state.put_peaks(&[(name("old"), peak(1000)), (name("new"), peak(2000))], 0).unwrap();
    drop(state);

    let mut state = State::open(dir.path()).unwrap();
    assert_eq!(state.risks().unwrap(), (vec![all, risk.clone()], vec![]));
    assert_eq!(state.peaks().unwrap(), [(name("new"), peak(2000)), (name("old"), peak(1000))]);
    state.drop_risk(&None).unwrap();
    assert_eq!(state.risks().unwrap().0, [risk]);
    state.put_peaks(&[], 1500).unwrap();
    assert_eq!(state.peaks().unwrap(), [(name("new"), peak(2000))]);
}
