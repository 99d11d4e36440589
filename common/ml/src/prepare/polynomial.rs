//! Products of features.

use crate::{error::ModelError, rows::Table};
use ndarray::{Array2, ArrayView2};

/// Products of more features than this are hardly meant.
const MOST_DEGREES: u32 = 6;

/// Wider rows than this are refused: they grow with the power of the degree.
const WIDEST: usize = 1_000_000;

/// The features of every row (rows x features), then the products of up to `degree` of them (1 to 6), in scikit-learn's order;
/// with `interaction_only` of different ones alone.
///
/// # Errors
/// For more than a million products.
pub fn polynomial(x: ArrayView2<'_, f64>, degree: u32, interaction_only: bool) -> Result<Array2<f64>, ModelError> {
    let products = products(x.ncols(), degree, interaction_only)?;
    let mut values = Vec::with_capacity(x.nrows() * products.len());
    for row in Table::of(x).rows() {
        let start = values.len();
        for (shorter, feature) in &products {
            let factor = shorter.map_or(1.0, |place: usize| values[start + place]);
            values.push(factor * row.x[*feature]);
        }
    }
    let shape = (x.nrows(), products.len());
    Array2::from_shape_vec(shape, values).map_err(|_| ModelError::TooWide { limit: WIDEST })
}

/// How many features [`polynomial`] makes of so many.
///
/// # Errors
/// For a degree that is not from 1 to 6, and for more than a million products.
pub fn polynomial_features(features: usize, degree: u32, interaction_only: bool) -> Result<usize, ModelError> {
    match degree {
        1..=MOST_DEGREES => Ok(products(features, degree, interaction_only)?.len()),
        _ => Err(ModelError::Degree { found: degree, most: MOST_DEGREES }),
    }
}

/// Every product as a shorter one (its place) times a feature: by degree, and within it by the features' numbers.
fn products(features: usize, degree: u32, interaction_only: bool) -> Result<Vec<(Option<usize>, usize)>, ModelError> {
    let mut products: Vec<(Option<usize>, usize)> = (0..features).map(|feature| (None, feature)).collect();
    let mut last = 0..products.len();
    for _ in 1..degree {
        for shorter in last.clone() {
            let from = products[shorter].1 + usize::from(interaction_only);
            products.extend((from..features).map(|feature| (Some(shorter), feature)));
            if products.len() > WIDEST {
                return Err(ModelError::TooWide { limit: WIDEST });
            }
        }
        last = last.end..products.len();
    }
    Ok(products)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    #[test]
    fn in_the_order_of_scikit_learn() {
        let x = array![[2.0, 3.0, 5.0]];
        let squares = polynomial(x.view(), 2, false).unwrap();
        assert_eq!(squares, array![[2.0, 3.0, 5.0, 4.0, 6.0, 10.0, 9.0, 15.0, 25.0]]);
        let all = polynomial(x.view(), 3, true).unwrap();
        assert_eq!(all, array![[2.0, 3.0, 5.0, 6.0, 10.0, 15.0, 30.0]]);
        let wide = Array2::zeros((1, 2000));
        assert_eq!(polynomial(wide.view(), 2, false), Err(ModelError::TooWide { limit: WIDEST }));
    }
}
