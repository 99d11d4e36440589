//! Whether two machines compute alike: a hash of functions whose last bit may differ between processors.

/// Equal on workers whose results are equal to the last bit, as far as a few hundred samples tell.
pub(crate) fn hash() -> u64 {
    let mut bytes = Vec::new();
    let mut sum = 0.0;
    for step in 1..200 {
        let x = f64::from(step) * 0.37;
        for value in [(-x).exp(), x.ln(), x.sin(), x.powf(0.3), x.tanh(), x.ln_1p()] {
            bytes.extend(value.to_bits().to_le_bytes());
            sum += value * x;
        }
    }
    bytes.extend(sum.to_bits().to_le_bytes());
    twox_hash::XxHash3_64::oneshot(&bytes)
}
