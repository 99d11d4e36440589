//! Learning on streams.
//!
//! What a model is ([`ModelSpec`], of one of the [`families`]), what it has learnt so far ([`Model`]), and how it learns from one batch
//! after another. Nothing here
//! reads a clock, a file or a network: a model after a batch is a pure function of the model before it and of the rows of the batch.
//!
//! Two things keep it the same to the bit wherever it runs: sums are made per split and added in the order of the splits, in the fixed
//! order of `kernel.rs`, and `exp`, `ln` and their like come from `libm` instead of the system's library, which rounds differently on
//! different processors.
//!
//! ```
//! use ndarray::array;
//! use tidemill_ml::families::linear::{LinearRegression, LinearSpec};
//! use tidemill_ml::{Model, ModelSpec, Rows};
//!
//! let spec = LinearSpec { step_size: 0.5, ..LinearSpec::default() };
//! let mut model = Model::new(ModelSpec::of::<LinearRegression>(spec))?;
//! let (x, y) = (array![[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]], array![2.0, -1.0, 1.0]);
//! for _batch in 0..10 {
//!     let predicted_before_it_is_learnt = model.predict(x.view())?;
//!     assert_eq!(predicted_before_it_is_learnt.len(), 3);
//!     model.train(&[Rows { x: x.view(), y: Some(y.view()), weight: None }])?;
//! }
//! assert!((model.predict(array![[3.0, 3.0]].view())?[0] - 3.0).abs() < 0.05);
//! assert_eq!(Model::from_bytes(&model.to_bytes())?, model);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod champion;
mod cholesky;
mod classes;
pub mod drift;
mod envelope;
mod erased;
mod error;
mod exact;
pub mod families;
mod family;
#[cfg(any(test, feature = "testkit"))]
#[doc(hidden)]
pub mod fuzz;
mod kernel;
pub mod metrics;
mod model;
mod parameters;
mod partial;
mod prepare;
mod random;
mod replace;
mod report;
mod rows;
mod spec;
pub mod stats;
mod stored;
mod watched;
#[cfg(test)]
mod wild;

pub use error::{DecodeError, ModelError, SpecError};
pub use family::{Answers, Fixed};
pub use model::Model;
pub use ndarray;
pub use partial::Partial;
pub use prepare::{FeatureHasher, polynomial, polynomial_features};
pub use random::hashed;
pub use replace::ReplaceError;
pub use report::{Health, Learned, LearnedKind, Trained};
pub use rows::Rows;
pub use spec::ModelSpec;
pub use watched::{Acted, DriftAction, Watched, WatchedBatch};
