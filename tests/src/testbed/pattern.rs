//! Bytes that everyone can predict, for checking a download byte for byte without storing it twice.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

/// The period: a prime, so that a lost or doubled packet, page or segment shifts the rest visibly.
const PERIOD: usize = 1_048_573;

/// An endless, repeating sequence of pseudo-random bytes.
pub struct Pattern {
    block: Vec<u8>,
}

impl Default for Pattern {
    fn default() -> Self {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let block = (0..PERIOD).map(|_| {
            // xorshift64: any fixed sequence without short repeats does.
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 32) as u8
        });
        Self { block: block.collect() }
    }
}

impl Pattern {
    /// Writes the first `bytes` of it to `path`.
    #[track_caller]
    pub fn write(&self, path: &Path, bytes: u64) {
        let write = || -> std::io::Result<()> {
            let mut file = BufWriter::new(File::create(path)?);
            let mut left = bytes;
            while left > 0 {
                let n = usize::try_from(left).unwrap_or(usize::MAX).min(PERIOD);
                file.write_all(&self.block[..n])?;
                left -= n as u64;
            }
            file.flush()
        };
        write().unwrap_or_else(|e| panic!("cannot write {}: {e}", path.display()));
    }

    /// Whether `data` is what stands at `offset`; else the first offset that differs.
    pub fn check(&self, mut offset: u64, mut data: &[u8]) -> Result<(), u64> {
        while !data.is_empty() {
            let start = (offset % PERIOD as u64) as usize;
            let n = data.len().min(PERIOD - start);
            let expected = &self.block[start..start + n];
            if expected != &data[..n] {
                let at = expected.iter().zip(data).position(|(a, b)| a != b).unwrap_or(0);
                return Err(offset + at as u64);
            }
            offset += n as u64;
            data = &data[n..];
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pattern_across_its_period_matches_itself_and_nothing_shifted() {
        let pattern = Pattern::default();
        let twice = [pattern.block.as_slice(), pattern.block.as_slice()].concat();
        assert_eq!(pattern.check(0, &twice), Ok(()));
        assert_eq!(pattern.check(5, &twice[5..]), Ok(()));
        assert!(pattern.check(1, &twice[..4096]).is_err());
        let mut torn = twice.clone();
        torn[PERIOD + 7] ^= 1;
        assert_eq!(pattern.check(0, &torn), Err(PERIOD as u64 + 7));
    }
}
