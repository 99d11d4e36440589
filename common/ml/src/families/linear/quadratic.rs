//! The squared loss of a batch as a function of the parameters: its gradient anywhere follows from its gradient at one place and from
//! `X'X`, so all updates of a batch need one pass over its rows.
//!
//! With the parameters `p = (w, b)` at the beginning of the batch, `r = X p - y`, weights `U` and `X` with a column of ones:
//!
//! ```text
//! gradient(p + s) = X'U r + X'U X s        loss(p + s) = r'U r / 2 + s'X'U r + s'X'U X s / 2
//! ```
//!
//! Sums at `p` and not at 0: what is small near the optimum stays exact, nothing large cancels.

use crate::{kernel, partial::Partial, rows::Row};

/// Places of the lists in a [`Partial`]: the gradient (the intercept's part last), the upper triangle of `X'UX` row by row, and the sums
/// of the features. The last two only for several updates.
pub(super) const GRADIENT: usize = 0;
const SQUARES: usize = 1;
const FEATURES: usize = 2;

/// Rows whose products are added at once.
const ROWS: usize = 4;

/// Lengths of the lists.
pub(super) fn lengths(dimension: usize, several_updates: bool) -> Vec<usize> {
    match several_updates {
        true => vec![dimension + 1, dimension * (dimension + 1) / 2, dimension],
        false => vec![dimension + 1],
    }
}

/// Adds `X'UX` and the sums of the features, if there are lists for them.
pub(super) fn add_squares(sums: &mut Partial, rows: &[Row<'_>]) {
    let [_, squares, features] = &mut sums.lists[..] else { return };
    let mut chunks = rows.chunks_exact(ROWS);
    for chunk in &mut chunks {
        if let [a, b, c, d] = chunk {
            let (x, u) = ([a.x, b.x, c.x, d.x], [a.weight, b.weight, c.weight, d.weight]);
            add_block(squares, features, x, u);
        }
    }
    chunks.remainder().iter().for_each(|row| add_block(squares, features, [row.x], [row.weight]));
}

fn add_block<const N: usize>(squares: &mut [f64], features: &mut [f64], x: [&[f64]; N], u: [f64; N]) {
    kernel::add_scaled_rows(features, u, x);
    let mut rest = squares;
    for i in 0..features.len() {
        let (row, later) = rest.split_at_mut(features.len() - i);
        let factors = std::array::from_fn(|n| u[n] * x[n][i]);
        kernel::add_scaled_rows(row, factors, x.map(|x| &x[i..]));
        rest = later;
    }
}

/// The gradient and the loss of a batch where its sums were made.
pub(super) fn unmoved(sums: &Partial) -> (Vec<f64>, f64) {
    (sums.lists[GRADIENT].clone(), sums.loss)
}

/// The same `step` away from there (the intercept's part of the step last), from the sums of a batch of several updates.
pub(super) fn moved(sums: &Partial, step: &[f64]) -> (Vec<f64>, f64) {
    if step.iter().all(|s| *s == 0.0) {
        return unmoved(sums);
    }
    let gradient = &sums.lists[GRADIENT];
    let change = product(sums, step);
    let loss = sums.loss + kernel::dot(step, gradient) + kernel::dot(step, &change) / 2.0;
    let mut moved = gradient.clone();
    kernel::add_scaled(&mut moved, 1.0, &change);
    (moved, loss)
}

/// `X'UX s`
fn product(sums: &Partial, step: &[f64]) -> Vec<f64> {
    let features = &sums.lists[FEATURES];
    let dimension = features.len();
    let (step, constant) = (&step[..dimension], step[dimension]);
    let mut product = vec![0.0; dimension + 1];
    let mut rest = &sums.lists[SQUARES][..];
    for i in 0..dimension {
        let (row, later) = rest.split_at(dimension - i);
        product[i] += kernel::dot(row, &step[i..]);
        kernel::add_scaled(&mut product[i + 1..dimension], step[i], &row[1..]);
        rest = later;
    }
    product[dimension] = kernel::dot(features, step) + sums.weight * constant;
    if constant != 0.0 {
        kernel::add_scaled(&mut product[..dimension], constant, features);
    }
    product
}
