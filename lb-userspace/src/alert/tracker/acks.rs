//! Acknowledging an alert, in two steps, so that the caller can store it before it is in force.

use super::{Change, Saved, Tracker};
use crate::alert::ack::{Ack, AckAsked, AckRefusal};
use crate::core::api::{Event, EventKind, Time};

/// An acknowledgement that may be given: of which alert.
#[derive(Clone, Debug)]
pub struct Acknowledgement {
    key: String,
    ack: Ack,
}

impl Acknowledgement {
    /// The alert's key.
    pub fn key(&self) -> &str {
        &self.key
    }
}

impl Tracker {
    /// Whether an alert may be acknowledged so. Changes nothing.
    pub fn check_ack(&self, asked: AckAsked, now: Time) -> Result<Acknowledgement, AckRefusal> {
        let key = self.find(&asked.alert)?;
        Ok(Acknowledgement { key, ack: Ack::new(asked, now)? })
    }

    /// What is to be stored before [`Tracker::acknowledge`].
    pub fn saved_with(&self, acknowledgement: &Acknowledgement, boot_id: &str) -> Saved {
        let mut saved = self.saved(boot_id);
        if let Some(alert) = saved.alerts.get_mut(&acknowledgement.key) {
            alert.ack = Some(acknowledgement.ack.clone());
        }
        saved
    }

    /// From now on nobody further is called. In place of an earlier one.
    pub fn acknowledge(&mut self, acknowledgement: Acknowledgement, now: Time) -> Option<Change> {
        let Acknowledgement { key, ack } = acknowledgement;
        let alert = self.alerts.get_mut(&key)?;
        let event = alert.event(EventKind::AlertAcknowledged, now);
        let (cause, by) = (format!("{}; {}", event.cause, ack.in_words()), Some(ack.by.in_words()));
        alert.ack = Some(ack);
        Some(Event { cause, by, ..event })
    }

    /// The alert that fires and is called so, or alone begins so.
    fn find(&self, name: &str) -> Result<String, AckRefusal> {
        let firing: Vec<&String> =
            self.alerts.iter().filter(|(_, a)| a.fired.is_some() && a.ended.is_none()).map(|(key, _)| key).collect();
        if firing.iter().any(|key| *key == name) {
            return Ok(name.to_owned());
        }
        let begins = |key: &&&String| key.strip_prefix(name).is_some_and(|rest| rest.starts_with('/'));
        let matching: Vec<&String> = firing.iter().filter(begins).copied().collect();
        let list = |keys: &[&String]| keys.iter().map(|key| key.as_str()).collect::<Vec<_>>().join(", ");
        match matching.as_slice() {
            [one] => Ok((*one).clone()),
            [] if firing.is_empty() => Err(AckRefusal::NotFound(format!("no alert {name} fires, nor any other"))),
            [] => Err(AckRefusal::NotFound(format!("no alert {name} fires; these do: {}", list(&firing)))),
            many => Err(AckRefusal::NotFound(format!("{name} is more than one alert, say which: {}", list(many)))),
        }
    }
}

#[cfg(test)]
mod tests;
