//! What the programs find in their own maps that cannot be while nobody else writes to them.

/// How many kinds of findings there are.
pub const FINDINGS: usize = 5;

/// A finding, counted in [`super::Clock::findings`]. The collector logs it; the program puts right what it can.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Finding {
    /// A key in the record queue whose flow has no reverse entry. The key is given up.
    RecordWithoutFlow = 0,
    /// An active record whose client's side is missing or another flow's. The flow is ended.
    HalfFlow = 1,
    /// A half-open flow whose reverse entry was missing when its slot was freed.
    SlotWithoutFlow = 2,
    /// The record queue had no room for a key taken from it. The flow is ended before its time.
    QueueFull = 3,
    /// More records were given up than were kept. The count stays at zero.
    BelowZero = 4,
}
