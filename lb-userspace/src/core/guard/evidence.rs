//! What the guard's answer rests on, as data and in words.

use std::fmt;

use super::peak::Carried;
use crate::config::model::BackendName;

/// The answer, with the evidence of each member whose load would grow, the worst first.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// Each of them can carry what it would get.
    Fits(Vec<Evidence>),
    /// At least one cannot, or nobody is left.
    DoesNotFit(Vec<Evidence>),
    /// Of at least one it is not known.
    CannotTell(Vec<Evidence>),
}

impl Answer {
    /// The bare verdict.
    pub fn verdict(&self) -> Verdict {
        match self {
            Self::Fits(_) => Verdict::Fits,
            Self::CannotTell(_) => Verdict::CannotTell,
            Self::DoesNotFit(_) => Verdict::DoesNotFit,
        }
    }

    /// What it rests on.
    pub fn evidence(&self) -> &[Evidence] {
        let (Self::Fits(evidence) | Self::CannotTell(evidence) | Self::DoesNotFit(evidence)) = self;
        evidence
    }
}

/// The three answers, from the best to the worst.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// It fits.
    Fits,
    /// Nobody can tell.
    CannotTell,
    /// It does not fit.
    DoesNotFit,
}

impl Verdict {
    /// The name that CLI and metrics print.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Fits => "fits",
            Self::CannotTell => "cannot_tell",
            Self::DoesNotFit => "does_not_fit",
        }
    }
}

/// What is known of one member. Its `Display` is a sentence without its end.
#[derive(Clone, Debug, PartialEq)]
pub struct Evidence {
    /// Who.
    pub backend: BackendName,
    /// Its active flows, over all its services.
    pub flows: Option<u64>,
    /// What it would have.
    pub expected: Option<u64>,
    /// Whether it carries that.
    pub verdict: Verdict,
    /// Why.
    pub basis: Basis,
}

/// What a verdict on a member rests on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Basis {
    /// Its memory is tight or exhausted now.
    Short {
        /// Headroom, 0 to 1.
        headroom: Option<f64>,
    },
    /// Its configured limit.
    Limit {
        /// Of active flows.
        max_flows: u64,
    },
    /// It has as many now.
    NoMore,
    /// It carried as much.
    Carried(Carried),
    /// It carried something, but less.
    Beyond(Carried),
    /// How its memory follows its flows.
    Predicted {
        /// Headroom by the upper end of the slope, 0 to 1, below 0 if there would be none.
        low: f64,
        /// Headroom by the lower end.
        high: f64,
    },
    /// It is not known how many flows there are.
    FlowsUnknown,
    /// There is nothing to go by.
    Nothing,
}

impl fmt::Display for Evidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.backend)?;
        if let (Some(flows), Some(expected)) = (self.flows, self.expected) {
            write!(f, " would have {expected} active flows instead of {flows}")?;
        }
        match self.basis {
            Basis::Short { headroom } => {
                write!(f, ": its memory is short already")?;
                headroom.map_or(Ok(()), |h| write!(f, " ({:.1} % headroom)", h * 100.0))
            }
            Basis::Limit { max_flows } => write!(f, ": its max_flows is {max_flows}"),
            Basis::NoMore => write!(f, ": it has as many now"),
            Basis::Carried(carried) => write!(f, ": it carried {carried}"),
            Basis::Beyond(carried) => write!(f, ": the most it is known to have carried is {carried}"),
            Basis::Predicted { low, high } => {
                let (low, high) = (low.max(0.0) * 100.0, high.max(0.0) * 100.0);
                write!(f, ": as its memory follows its flows, {low:.0} to {high:.0} % of it would be left")
            }
            Basis::FlowsUnknown => write!(f, ": how many flows there are is not known yet"),
            Basis::Nothing => {
                write!(f, ": it has no max_flows, and no load of the last 14 days with memory to spare shows it")
            }
        }
    }
}

/// What is true of a change however much the others can carry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// Nobody is left in rotation.
    LeavesNone,
    /// One is left: its failure would be the service's.
    LeavesSingle {
        /// Which.
        backend: BackendName,
    },
    /// Fewer are left than must be.
    BelowMinimum {
        /// In rotation afterwards.
        left: usize,
        /// The service's rule.
        min_in_rotation: usize,
    },
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LeavesNone => write!(f, "nobody is left in rotation"),
            Self::LeavesSingle { backend } => {
                write!(f, "{backend} alone is left in rotation: if it fails, so does the service")
            }
            Self::BelowMinimum { left, min_in_rotation } => {
                write!(f, "{left} left in rotation, and min_in_rotation is {min_in_rotation}")
            }
        }
    }
}
