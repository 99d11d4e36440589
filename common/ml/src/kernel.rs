//! Sums over slices in an order that is always the same.
//!
//! A product adds eight lanes and then the lanes, whatever the layout, the compiler's options or the processor: no fused multiply-add,
//! no blocking by cache size. Eight lanes let the compiler use vector instructions.

const LANES: usize = 8;

/// Scalar product of two slices of the same length.
pub(crate) fn dot(a: &[f64], b: &[f64]) -> f64 {
    lanes(a, b, |x, y| x * y)
}

/// Squared Euclidean distance between two points of the same dimension.
pub(crate) fn squared_distance(a: &[f64], b: &[f64]) -> f64 {
    lanes(a, b, |x, y| (x - y) * (x - y))
}

/// Adds `factor * x` to `sum`.
pub(crate) fn add_scaled(sum: &mut [f64], factor: f64, x: &[f64]) {
    for (sum, x) in sum.iter_mut().zip(x) {
        *sum += factor * x;
    }
}

/// Adds `factor * x` of several rows to `sum`: the same as one [`add_scaled`] after the other, with `sum` read and written less often.
/// Rows may be longer than `sum`.
pub(crate) fn add_scaled_rows<const N: usize>(sum: &mut [f64], factors: [f64; N], rows: [&[f64]; N]) {
    let rows = rows.map(|row| &row[..sum.len()]);
    for (j, sum) in sum.iter_mut().enumerate() {
        let mut total = *sum;
        for n in 0..N {
            total += factors[n] * rows[n][j];
        }
        *sum = total;
    }
}

/// Whether all are finite.
pub(crate) fn all_finite(values: &[f64]) -> bool {
    values.iter().all(|value| value.is_finite())
}

#[inline]
fn lanes(a: &[f64], b: &[f64], term: impl Fn(f64, f64) -> f64) -> f64 {
    let (a_head, a_tail) = a.as_chunks::<LANES>();
    let (b_head, b_tail) = b.as_chunks::<LANES>();
    let mut sums = [0.0; LANES];
    for (a, b) in a_head.iter().zip(b_head) {
        for lane in 0..LANES {
            sums[lane] += term(a[lane], b[lane]);
        }
    }
    let tail = a_tail.iter().zip(b_tail).fold(0.0, |sum, (&a, &b)| sum + term(a, b));
    sums.iter().fold(0.0, |sum, lane| sum + lane) + tail
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_rows_at_once_are_one_after_the_other() {
        let rows: Vec<Vec<f64>> = (0..4).map(|n| (0..11).map(|j| f64::from(n * 7 + j) / 3.0).collect()).collect();
        let factors = [0.1, -2.0, 1e9, 1.0 / 3.0];
        let (mut together, mut each) = (vec![0.7; 9], vec![0.7; 9]);
        add_scaled_rows(&mut together, factors, [&rows[0], &rows[1], &rows[2], &rows[3]]);
        factors.iter().zip(&rows).for_each(|(factor, row)| add_scaled(&mut each, *factor, row));
        assert_eq!(together, each);
    }

    #[test]
    fn products_and_distances_of_any_length() {
        for n in 0..40 {
            let a: Vec<f64> = (0..n).map(f64::from).collect();
            let b: Vec<f64> = a.iter().map(|x| x + 2.0).collect();
            let expected: f64 = a.iter().zip(&b).map(|(a, b)| a * b).sum();
            assert_eq!(dot(&a, &b), expected);
            assert_eq!(squared_distance(&a, &b), 4.0 * f64::from(n));
        }
    }
}
