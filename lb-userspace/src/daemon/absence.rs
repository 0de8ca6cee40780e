//! The alert that no daemon answers, raised by `rollcall watch` by the routes that are configured: told once, in steps,
//! repeated, resolved and acknowledged like the daemon's own, although each run is another process.
//!
//! What was told is kept in `watch.json` in the state directory; the daemon and its record know nothing of it. Who looks and
//! who acknowledges exclude each other by a lock on `watch.lock`. Where there is no state directory no daemon ever ran, and
//! nothing is made.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::future::join_all;
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::unistd::geteuid;
use tokio::time::{Instant, sleep};

use super::{alerts, clock, who};
use crate::alert::{AckAsked, Board, Condition, Firing, Outcome, Saved, Tracker};
use crate::config::model::AlertRoute;
use crate::config::{self, PathKey};
use crate::control::daemon::{Actor, AlertAck, ControlError, ErrorCode};
use crate::io::notify;
use crate::io::state::State;

/// What was told.
const FILE: &str = "watch.json";
const LOCK: &str = "watch.lock";
/// How long another run may take: its deliveries are bounded.
const PATIENCE: Duration = Duration::from_secs(15);
const STEP: Duration = Duration::from_millis(100);

/// What a look came to.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// Routes that took a message.
    pub taken: Vec<String>,
    /// What stands in the way of telling, in words; a failed route among them.
    pub failed: Vec<String>,
}

/// Tells who is due that no daemon answers (`down`, in words), or, with `None`, that it is over.
pub async fn look(config: &Path, down: Option<&str>) -> Told {
    let place = Place::of(config);
    if down.is_none() && !place.file().exists() {
        return Told::default();
    }
    let refused = |why: String| Told { failed: vec![why], ..Told::default() };
    if !place.state_dir.is_dir() {
        return refused(format!("{} is not there, so no daemon ever ran here", place.state_dir.display()));
    }
    match Absence::open(place).await {
        Ok(mut absence) => absence.look(down).await,
        Err(why) => refused(why),
    }
}

/// What `watch` told that still stands. What cannot be read is not there.
pub fn board(config: &Path) -> Board {
    let place = Place::of(config);
    place.tracker().map_or_else(|_| Board::default(), |tracker| tracker.board(&place.routes, clock::now()))
}

/// Acknowledges what `watch` told, for whoever runs this. `NotFound`: it told of no such thing.
pub async fn acknowledge(config: &Path, ack: AlertAck) -> Result<Firing, ControlError> {
    let loginuid = fs::read_to_string("/proc/self/loginuid").ok().and_then(|t| t.trim().parse().ok());
    let actor = Actor { uid: geteuid().as_raw(), loginuid: loginuid.filter(|uid| *uid != u32::MAX) };
    let by = who::owner(&actor, ack.owner.as_deref())?;
    let place = Place::of(config);
    if !place.file().exists() {
        return Err(ControlError::new(ErrorCode::NotFound, format!("no alert {} fires", ack.alert)));
    }
    let mut absence = Absence::open(place).await.map_err(|why| ControlError::new(ErrorCode::System, why))?;
    let asked = AckAsked { alert: ack.alert, by, length: Duration::from_millis(ack.for_ms), note: ack.note };
    let now = clock::now();
    let granted = absence.tracker.check_ack(asked, now).map_err(alerts::refused)?;
    let key = granted.key().to_owned();
    absence.tracker.acknowledge(granted, now);
    absence.save().map_err(|why| ControlError::new(ErrorCode::System, format!("{why}; it is not acknowledged")))?;
    let firing = absence.tracker.board(&[], now).firing.into_iter().find(|f| f.condition.key() == key);
    firing.ok_or_else(|| ControlError::new(ErrorCode::NotFound, format!("the alert {key} is over")))
}

/// Whom to tell, and where what was told is kept.
struct Place {
    routes: Vec<AlertRoute>,
    state_dir: PathBuf,
}

impl Place {
    /// By the configuration file; if that is wrong, by the revision that ran last.
    fn of(config: &Path) -> Self {
        let path = std::path::absolute(config).unwrap_or_else(|_| config.to_owned());
        if let Ok(loaded) = config::load(&path) {
            return Self { routes: loaded.config.alert_routes, state_dir: loaded.config.control.state_dir };
        }
        let state_dir = config::path_in(&config::text_of(&path).unwrap_or_default(), PathKey::StateDir);
        let last = State::open_readonly(&state_dir).and_then(|state| state.last_revision(&path)).ok().flatten();
        let ran = last.and_then(|revision| config::parse(&revision.recorded.text, &path).ok());
        Self { routes: ran.map(|config| config.alert_routes).unwrap_or_default(), state_dir }
    }

    fn file(&self) -> PathBuf {
        self.state_dir.join(FILE)
    }

    /// Goes on with what earlier runs told; what is damaged counts as nothing, and is told again.
    fn tracker(&self) -> Result<Tracker, String> {
        let mut tracker = Tracker::new(alerts::instance());
        let text = match fs::read(self.file()) {
            Ok(text) => text,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(tracker),
            Err(e) => return Err(format!("{}: {e}", self.file().display())),
        };
        if let Ok(saved) = serde_json::from_slice::<Saved>(&text) {
            let boot_id = clock::boot_id().map_err(|e| e.to_string())?;
            tracker.resume(saved, &boot_id, clock::now(), Duration::ZERO);
        }
        Ok(tracker)
    }
}

/// The record, while nobody else changes it.
struct Absence {
    place: Place,
    tracker: Tracker,
    _lock: Flock<File>,
}

impl Absence {
    async fn open(place: Place) -> Result<Self, String> {
        let lock = lock(&place.state_dir.join(LOCK)).await?;
        Ok(Self { tracker: place.tracker()?, place, _lock: lock })
    }

    async fn look(&mut self, down: Option<&str>) -> Told {
        let (now, routes) = (clock::now(), &self.place.routes);
        let mut told = Told::default();
        if down.is_some() && routes.is_empty() {
            told.failed.push("no alert_route is configured, so nobody else is told".to_owned());
        }
        self.tracker.observe(down.map(Condition::daemon_down).into_iter().collect(), routes, now);
        let due = self.tracker.due(routes, now).into_iter().filter_map(|delivery| {
            let route = routes.iter().find(|route| route.name == delivery.route)?;
            Some(async move {
                let result = notify::send(route, &delivery.message).await;
                Outcome { delivery, result }
            })
        });
        // All at once: one that hangs delays no other, and each has its deadline.
        for outcome in join_all(due).await {
            match &outcome.result {
                Ok(()) => told.taken.push(outcome.delivery.route.to_string()),
                Err(why) => told.failed.push(format!("{} did not take it: {why}", outcome.delivery.route)),
            }
            self.tracker.settle(outcome, clock::now());
        }
        if let Err(why) = self.save() {
            told.failed.push(format!("{why}; it will be told again"));
        }
        told
    }

    /// Keeps what was told; when there is nothing left to remember, no file either.
    fn save(&self) -> Result<(), String> {
        let file = self.place.file();
        let failed = |e: io::Error| format!("{}: {e}", file.display());
        if self.tracker.is_idle() {
            return match fs::remove_file(&file) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => Err(failed(e)),
                _ => Ok(()),
            };
        }
        let boot_id = clock::boot_id().map_err(|e| e.to_string())?;
        alerts::save(&file, &self.tracker.saved(&boot_id)).map_err(failed)
    }
}

async fn lock(path: &Path) -> Result<Flock<File>, String> {
    let failed = |e: &dyn std::fmt::Display| format!("{}: {e}", path.display());
    let mut file = OpenOptions::new().create(true).append(true).mode(0o640).open(path).map_err(|e| failed(&e))?;
    let end = Instant::now() + PATIENCE;
    loop {
        file = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => return Ok(lock),
            Err((file, Errno::EWOULDBLOCK)) if Instant::now() < end => file,
            Err((_, Errno::EWOULDBLOCK)) => return Err(failed(&"another run holds it for too long")),
            Err((_, e)) => return Err(failed(&e)),
        };
        sleep(STEP).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn host_without_a_state_gets_none_and_says_so() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("rollcall.toml");
        fs::write(&file, format!("[control]\nstate_dir = {:?}\n", dir.path().join("state"))).unwrap();
        assert_eq!(look(&file, None).await, Told::default());
        let told = look(&file, Some("gone")).await;
        assert!(told.taken.is_empty() && told.failed[0].contains("no daemon ever ran here"), "{told:?}");
        assert!(!dir.path().join("state").exists());
        assert!(board(&file).firing.is_empty());
    }
}
