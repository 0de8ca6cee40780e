//! The kernel floor, checked without a kernel: what the eBPF object asks for, against the release that first had it.
//!
//! [`helpers`] and [`tables`] know the releases, [`insn`] the instructions, [`object`] takes the object apart; this
//! module compares. It cannot see what only a verifier sees (complexity, types, which program type may call which helper): booting real
//! kernels is for that, see `cargo xtask vm`.

pub mod helpers;
pub mod insn;
pub mod object;
pub mod tables;

use std::collections::BTreeSet;
use std::fmt;

/// A kernel release, major and minor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Kernel(pub u8, pub u8);

impl fmt::Display for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}.{}", self.0, self.1))
    }
}

/// The oldest kernel that Rollcall promises to run on (Ubuntu 22.04's).
pub const FLOOR: Kernel = Kernel(5, 15);

/// Entry points meant for newer kernels only, each with the release that suffices for it; the loader must not load them
/// below it.
pub const NEWER_ENTRY_POINTS: &[(&str, Kernel)] = &[];

/// Who asks for a feature.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum User {
    /// The object as a whole: its maps and types exist whichever program is loaded.
    Object,
    /// An entry point, or a function that it reaches.
    Program(String),
}

/// One thing the object asks of the kernel.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Use {
    /// `helper`, `map type`, `map flag`, `section`, `instruction`, `btf kind`.
    pub class: &'static str,
    /// Its name, or what is wrong with it.
    pub name: String,
    /// Who asks.
    pub user: User,
    /// What it takes.
    pub verdict: Verdict,
}

/// What a use takes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// This release or a newer one.
    Since(Kernel),
    /// As [`Verdict::Since`], but the loader rewrites it for older kernels: listed, never refused.
    Rewritten(Kernel),
    /// Unknown to the tables, or never allowed; the text says which.
    Refused(String),
}

/// The release that `user` may ask for.
fn allowed(user: &User, floor: Kernel, newer: &[(&str, Kernel)]) -> Kernel {
    match user {
        User::Object => floor,
        User::Program(program) => newer.iter().find(|(name, _)| name == program).map_or(floor, |(_, since)| *since),
    }
}

/// Everything in `uses` that `floor`, or an entry point's own floor in `newer`, does not offer: one line each.
pub fn violations(uses: &BTreeSet<Use>, floor: Kernel, newer: &[(&str, Kernel)]) -> Vec<String> {
    uses.iter()
        .filter_map(|used| {
            let allowed = allowed(&used.user, floor, newer);
            let complaint = match &used.verdict {
                Verdict::Since(since) if *since > allowed => format!("needs {since}, allowed is {allowed}"),
                Verdict::Refused(why) => why.clone(),
                _ => return None,
            };
            Some(format!("{}: {} `{}`: {complaint}", used.user, used.class, used.name))
        })
        .collect()
}

/// The newest release that each user asks for, what the loader rewrites left out.
pub fn newest(uses: &BTreeSet<Use>) -> Vec<(User, Kernel)> {
    let users: BTreeSet<&User> = uses.iter().map(|used| &used.user).collect();
    users
        .into_iter()
        .filter_map(|user| {
            let of_user = uses.iter().filter(|used| used.user == *user);
            let newest = of_user.filter_map(|used| match used.verdict {
                Verdict::Since(since) => Some(since),
                _ => None,
            });
            Some((user.clone(), newest.max()?))
        })
        .collect()
}

impl fmt::Display for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Object => f.pad("object"),
            Self::Program(name) => f.pad(name),
        }
    }
}

impl fmt::Display for Use {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { class, name, user, verdict } = self;
        write!(f, "{user:<10} {class:<12} {name:<40} ")?;
        match verdict {
            Verdict::Since(since) => write!(f, "{since}"),
            Verdict::Rewritten(since) => write!(f, "{since}, rewritten by the loader below"),
            Verdict::Refused(why) => write!(f, "refused: {why}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uses(user: User, since: Kernel) -> BTreeSet<Use> {
        BTreeSet::from([Use { class: "helper", name: "x".into(), user, verdict: Verdict::Since(since) }])
    }

    #[test]
    fn violations_of_a_newer_entry_point_are_held_to_its_own_floor() {
        let newer = [("lb_frags", Kernel(5, 18))];
        let frags = User::Program("lb_frags".into());
        assert!(violations(&uses(frags.clone(), Kernel(5, 18)), FLOOR, &newer).is_empty());
        assert_eq!(violations(&uses(frags, Kernel(5, 19)), FLOOR, &newer).len(), 1);
        assert_eq!(violations(&uses(User::Program("lb".into()), Kernel(5, 18)), FLOOR, &newer).len(), 1);
        assert_eq!(violations(&uses(User::Object, Kernel(5, 18)), FLOOR, &newer).len(), 1);
    }

    #[test]
    fn kernel_order_is_numeric() {
        assert!(Kernel(5, 9) < Kernel(5, 15));
        assert!(Kernel(6, 1) > FLOOR);
    }
}
