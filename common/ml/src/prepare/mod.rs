//! Features made by plain functions, which learn nothing: products, and categories by a hash. What has to learn is a family of models.

mod hashing;
mod polynomial;

pub use hashing::FeatureHasher;
pub use polynomial::{polynomial, polynomial_features};
