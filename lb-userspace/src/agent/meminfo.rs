//! The system's memory, as /proc/meminfo has it.

/// Memory by one limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Memory {
    /// The limit, bytes.
    pub(super) total_bytes: u64,
    /// What can still be used of it, bytes.
    pub(super) available_bytes: u64,
}

impl Memory {
    /// Whether this limit leaves a smaller share than another.
    pub(super) fn is_tighter_than(self, other: Self) -> bool {
        let share = |m: Self, of: Self| u128::from(m.available_bytes) * u128::from(of.total_bytes);
        share(self, other) < share(other, self)
    }
}

/// Reads the file's text: `MemTotal`, and `MemAvailable`, the kernel's own estimate of what can be used without swapping
/// (Linux 3.14).
pub(super) fn parse(text: &str) -> Result<Memory, String> {
    let field = |name: &str| {
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        let value = value.ok_or_else(|| format!("has no {name}"))?.trim();
        let kib: u64 = value
            .strip_suffix("kB")
            .and_then(|n| n.trim().parse().ok())
            .ok_or_else(|| format!("has {name}: {value}"))?;
        kib.checked_mul(1024).ok_or_else(|| format!("has {name}: {value}"))
    };
    let (total_bytes, available) = (field("MemTotal")?, field("MemAvailable")?);
    Ok(Memory { total_bytes, available_bytes: available.min(total_bytes) })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "MemTotal:       24683760 kB\nMemFree:          227120 kB\nMemAvailable:   24079548 kB\n\
                        HugePages_Total:       0\n";

    #[test]
    fn parse_of_a_real_file_is_in_bytes() {
        let memory = Memory { total_bytes: 24_683_760 << 10, available_bytes: 24_079_548 << 10 };
        assert_eq!(parse(TEXT), Ok(memory));
    }

    #[test]
    fn parse_of_a_file_without_a_number_says_which() {
        let missing = TEXT.replace("MemAvailable", "MemAbsent");
        assert_eq!(parse(&missing), Err("has no MemAvailable".to_owned()));
        assert_eq!(parse(&TEXT.replace("24683760", "many")), Err("has MemTotal: many kB".to_owned()));
        assert_eq!(
            parse(&TEXT.replace("24683760", "18446744073709551615")).unwrap_err(),
            "has MemTotal: 18446744073709551615 kB"
        );
    }

    #[test]
    fn tighter_is_the_smaller_share_not_the_smaller_number() {
        let memory = |total_bytes, available_bytes| Memory { total_bytes, available_bytes };
        assert!(memory(64, 8).is_tighter_than(memory(8, 7)));
        assert!(!memory(8, 7).is_tighter_than(memory(64, 8)));
        assert!(!memory(8, 4).is_tighter_than(memory(16, 8)), "equal shares");
        assert!(memory(u64::MAX, 1).is_tighter_than(memory(u64::MAX, 2)));
    }
}
