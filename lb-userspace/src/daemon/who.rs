//! Names for people: who asked for something.

use nix::unistd::{Uid, User};

use crate::control::daemon::{Actor, ControlError, ErrorCode};
use crate::core::api::DAEMON;
use crate::core::lease::Owner;

/// Bytes of a name.
const LONGEST: usize = 255;

/// Who answers for a lease: the name that the caller claims, else what the kernel knows of them. The login uid survives
/// sudo; without one, root is nobody in particular and must say who it is.
pub fn owner(actor: &Actor, claimed: Option<&str>) -> Result<Owner, ControlError> {
    let (name, claimed) = match (claimed, actor.loginuid) {
        (Some(name), _) => (checked(name)?, true),
        (None, Some(login)) => (user(login), false),
        (None, None) if actor.uid != 0 => (user(actor.uid), false),
        (None, None) => {
            return Err(ControlError::new(ErrorCode::Usage, "root without a login session must say who asks")
                .with_hint("add --owner NAME: who is to be reminded when it ends"));
        }
    };
    Ok(Owner { name, claimed, uid: actor.uid, loginuid: actor.loginuid })
}

/// The best name of who asked that needs no claim.
pub fn name(actor: Option<&Actor>) -> String {
    match actor {
        None => DAEMON.to_owned(),
        Some(actor) => user(actor.loginuid.unwrap_or(actor.uid)),
    }
}

fn checked(name: &str) -> Result<String, ControlError> {
    let name = name.trim();
    if name.is_empty() || name.len() > LONGEST || name.chars().any(char::is_control) {
        let rule = format!("an owner is 1 to {LONGEST} bytes without control characters");
        return Err(ControlError::new(ErrorCode::Usage, rule));
    }
    Ok(name.to_owned())
}

fn user(uid: u32) -> String {
    let user = User::from_uid(Uid::from_raw(uid)).ok().flatten();
    user.map_or_else(|| format!("uid {uid}"), |user| user.name)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case(0, Some(0), None, "root", false)]
    #[case(0, Some(4_000_000), None, "uid 4000000", false)]
    #[case(4_000_001, None, None, "uid 4000001", false)]
    #[case(0, None, Some(" ada "), "ada", true)]
    #[case(0, Some(0), Some("ada"), "ada", true)]
    fn owner_is_the_claim_else_the_login_else_the_user(
        #[case] uid: u32,
        #[case] loginuid: Option<u32>,
        #[case] claim: Option<&str>,
        #[case] name: &str,
        #[case] claimed: bool,
    ) {
        let owner = owner(&Actor { uid, loginuid }, claim).unwrap();
        assert_eq!((owner.name.as_str(), owner.claimed, owner.uid, owner.loginuid), (name, claimed, uid, loginuid));
    }

    #[rstest]
    #[case(None)]
    #[case(Some("  "))]
    #[case(Some("a\u{1b}[2J"))]
    fn owner_of_bare_root_or_a_bad_claim_is_refused(#[case] claim: Option<&str>) {
        assert_eq!(owner(&Actor { uid: 0, loginuid: None }, claim).unwrap_err().code, ErrorCode::Usage);
    }
}
