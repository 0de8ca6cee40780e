//! Models of a server's memory, for tests: seeded, and the time is told.

use lb_common::hash::mix;

use super::sample::Sample;

/// Memory of all the models, bytes.
pub const TOTAL: f64 = 64.0 * 1024.0 * 1024.0 * 1024.0;

/// A seeded source of noise.
pub struct Noise(u64);

impl Noise {
    pub fn new(seed: u64) -> Self {
        Self(mix(seed))
    }

    /// Evenly from 0 to 1.
    pub fn even(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        (mix(self.0) >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Evenly between the two.
    pub fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.even()
    }

    /// Between the two, evenly by the logarithm.
    pub fn scale(&mut self, low: f64, high: f64) -> f64 {
        self.between(low.ln(), high.ln()).exp()
    }

    /// Normal, with mean 0 and deviation 1 (Box and Muller, 1958).
    pub fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.even()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.even()).cos()
    }
}

/// A sample with this share of memory used, within what is possible.
pub fn sample(used: f64) -> Sample {
    let available = (1.0 - used.clamp(0.0, 1.0)) * TOTAL;
    Sample { total_bytes: TOTAL as u64, available_bytes: available as u64, pressure: None }
}
