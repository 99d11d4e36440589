//! Random numbers that are a function of a key and a place, the same in every version and on every machine.
//!
//! The generators of `rand` and the tables of `rand_distr` may change with their versions, and a stored model has to go on as it began;
//! so these few are our own. The source is SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014): number
//! `i` of a stream is a mix of `key + i * GOLDEN`, so any place is reached at once.

use serde::{Deserialize, Serialize};
use std::f64::consts::TAU;

const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A mix of a key and a place, every bit of which depends on every bit of both.
pub(crate) fn keyed(key: u64, place: u64) -> u64 {
    mix(mix(key.wrapping_add(GOLDEN)) ^ place.wrapping_mul(GOLDEN).wrapping_add(GOLDEN))
}

/// A mix of a key and bytes, the same in every version and on every machine.
pub fn hashed(key: u64, bytes: &[u8]) -> u64 {
    bytes.chunks(8).fold(keyed(key, bytes.len() as u64), |hash, chunk| {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        keyed(hash, u64::from_le_bytes(word))
    })
}

/// Uniform in `[0, 1)` from 64 random bits: the upper 53 of them.
pub(crate) fn unit(bits: u64) -> f64 {
    (bits >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
}

/// Numbers drawn one after another; what is left to draw is a function of `key` and `drawn`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stream {
    key: u64,
    drawn: u64,
}

impl Stream {
    /// The stream of a key.
    pub(crate) fn new(key: u64) -> Stream {
        Stream { key: mix(key.wrapping_add(GOLDEN)), drawn: 0 }
    }

    /// The next 64 bits.
    pub(crate) fn bits(&mut self) -> u64 {
        self.drawn = self.drawn.wrapping_add(1);
        mix(self.key.wrapping_add(self.drawn.wrapping_mul(GOLDEN)))
    }

    /// Uniform in `[0, 1)`.
    pub(crate) fn unit(&mut self) -> f64 {
        unit(self.bits())
    }

    /// Standard normal (Box and Muller 1958, one of the pair).
    pub(crate) fn normal(&mut self) -> f64 {
        let radius = libm::sqrt(-2.0 * libm::log(1.0 - self.unit()));
        radius * libm::cos(TAU * self.unit())
    }

    /// Gamma of a shape above 0 and scale 1 (Marsaglia and Tsang, A simple method for generating gamma variables, 2000).
    ///
    /// A shape that is not finite has no distribution and comes back as it is: nothing would ever be accepted. One that is not
    /// above 0 gives no number.
    pub(crate) fn gamma(&mut self, shape: f64) -> f64 {
        if !shape.is_finite() {
            return shape;
        }
        if shape <= 0.0 {
            return f64::NAN;
        }
        if shape < 1.0 {
            // Their note for small shapes: one more, times a power of a uniform number.
            let boost = libm::pow(1.0 - self.unit(), 1.0 / shape);
            return boost * self.gamma(shape + 1.0);
        }
        let d = shape - 1.0 / 3.0;
        let c = 1.0 / libm::sqrt(9.0 * d);
        loop {
            let x = self.normal();
            let v = 1.0 + c * x;
            let cube = v * v * v;
            // A share of about 0.95 and more is accepted, whatever the shape.
            if v > 0.0 && libm::log(1.0 - self.unit()) < 0.5 * x * x + d - d * cube + d * libm::log(cube) {
                return d * cube;
            }
        }
    }

    /// Beta of two shapes above 0.
    pub(crate) fn beta(&mut self, a: f64, b: f64) -> f64 {
        let x = self.gamma(a);
        x / (x + self.gamma(b))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_that_have_no_distribution() {
        for shape in [0.0, -0.5, -7.0, f64::MIN, f64::NAN] {
            assert!(Stream::new(1).gamma(shape).is_nan(), "{shape}");
        }
        assert_eq!(Stream::new(1).gamma(f64::INFINITY), f64::INFINITY);
    }

    #[test]
    fn the_numbers_of_a_key_never_change() {
        // The published test value of SplitMix64.
        assert_eq!(mix(1_234_567 + GOLDEN), 6_457_827_717_110_365_317);
        let mut stream = Stream::new(42);
        assert_eq!([stream.bits(), stream.bits()], [0x57e1_faba_6510_7204, 0xf4ab_d143_feb2_4055]);
        assert_eq!(keyed(42, 0), 0xe372_41c0_9304_f97f);
    }

    #[test]
    fn moments_of_the_distributions() {
        let mut stream = Stream::new(7);
        let n = 20_000;
        let moments = |draw: &mut dyn FnMut() -> f64| {
            let values: Vec<f64> = (0..n).map(|_| draw()).collect();
            let mean = values.iter().sum::<f64>() / f64::from(n);
            (mean, values.iter().map(|v| (v - mean) * (v - mean)).sum::<f64>() / f64::from(n))
        };
        let close = |(mean, variance): (f64, f64), expected: (f64, f64)| {
            assert!((mean - expected.0).abs() < 0.03, "mean {mean}, expected {}", expected.0);
            assert!((variance - expected.1).abs() < 0.06, "variance {variance}, expected {}", expected.1);
        };
        close(moments(&mut || stream.unit()), (0.5, 1.0 / 12.0));
        close(moments(&mut || stream.normal()), (0.0, 1.0));
        close(moments(&mut || stream.gamma(2.5)), (2.5, 2.5));
        close(moments(&mut || stream.gamma(0.5)), (0.5, 0.5));
        close(moments(&mut || stream.beta(2.0, 3.0)), (0.4, 0.04));
        let mut place = 0;
        close(
            moments(&mut || {
                place += 1;
                unit(keyed(3, place))
            }),
            (0.5, 1.0 / 12.0),
        );
    }
}
