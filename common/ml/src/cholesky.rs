//! Symmetric positive definite systems.

use crate::kernel;

/// The lower triangle `L` of `A = L L'`, row after row.
pub(crate) struct Cholesky {
    rows: Vec<Vec<f64>>,
}

impl Cholesky {
    /// Of a square matrix given by its rows. What is not positive definite (or not finite) gives numbers that are not finite.
    pub(crate) fn of(a: &[Vec<f64>]) -> Cholesky {
        let mut rows: Vec<Vec<f64>> = Vec::with_capacity(a.len());
        for (i, a) in a.iter().enumerate() {
            let mut row = Vec::with_capacity(i + 1);
            for (j, above) in rows.iter().enumerate() {
                row.push((a[j] - kernel::dot(&row[..j], &above[..j])) / above[j]);
            }
            row.push(libm::sqrt(a[i] - kernel::dot(&row, &row)));
            rows.push(row);
        }
        Cholesky { rows }
    }

    /// `z` of `L z = x`; `x' A^-1 x` is `z . z`.
    pub(crate) fn half_solve(&self, x: &[f64]) -> Vec<f64> {
        let mut z: Vec<f64> = Vec::with_capacity(x.len());
        for (i, row) in self.rows.iter().enumerate() {
            z.push((x[i] - kernel::dot(&row[..i], &z)) / row[i]);
        }
        z
    }

    /// `y` of `A y = x`.
    pub(crate) fn solve(&self, x: &[f64]) -> Vec<f64> {
        let mut y = self.half_solve(x);
        for i in (0..y.len()).rev() {
            y[i] /= self.rows[i][i];
            let (above, value) = (&self.rows[i][..i], y[i]);
            kernel::add_scaled(&mut y[..i], -value, above);
        }
        y
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn solves() {
        let a = vec![vec![4.0, 2.0, 0.6], vec![2.0, 5.0, 1.0], vec![0.6, 1.0, 3.0]];
        let x = [1.0, -2.0, 0.5];
        let product: Vec<f64> = a.iter().map(|row| kernel::dot(row, &x)).collect();
        let factor = Cholesky::of(&a);
        for (found, expected) in factor.solve(&product).iter().zip(x) {
            assert!((found - expected).abs() < 1e-14);
        }
        let z = factor.half_solve(&product);
        assert!((kernel::dot(&z, &z) - kernel::dot(&product, &x)).abs() < 1e-13);
        assert!(Cholesky::of(&[vec![-1.0]]).half_solve(&[1.0])[0].is_nan());
    }
}
