//! How many flows each member has, as the daemon counts them now and then.

use std::collections::BTreeMap;

use super::Core;
use super::api::{Load, MemberName};

impl Core {
    /// Takes a count. Who is not in it keeps nothing from the last one: an old figure would be taken for a new one.
    pub(super) fn take_load(&mut self, mut loads: BTreeMap<MemberName, Load>) {
        loads.retain(|name, _| self.members.contains_key(name));
        self.follow_trails(&loads);
        self.judge_distribution(&loads);
        self.loads = loads;
        if let Some(config) = self.config.clone() {
            self.follow_limits(&config);
        }
    }
}
