//! Learning on streams.
//!
//! What a model is ([`ModelSpec`]), what it has learnt so far ([`Model`]), and how it learns from one batch after another. Nothing here
//! reads a clock, a file or a network: a model after a batch is a pure function of the model before it and of the rows of the batch.
//!
//! Two things keep it the same to the bit wherever it runs: sums are made per split and added in the order of the splits, in the fixed
//! order of `kernel.rs`, and `exp`, `ln` and their like come from `libm` instead of the system's library, which rounds differently on
//! different processors.
//!
//! ```
//! use ndarray::array;
//! use tidemill_ml::{LinearSpec, Model, ModelSpec, Rows};
//!
//! let mut model = Model::new(ModelSpec::LinearRegression(LinearSpec { step_size: 0.5, ..LinearSpec::default() }))?;
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

mod bandit;
mod bayes;
pub mod champion;
mod cholesky;
mod codec;
pub mod drift;
mod error;
mod exact;
mod family;
#[cfg(any(test, feature = "testkit"))]
#[doc(hidden)]
pub mod fuzz;
mod kernel;
mod kmeans;
mod linear;
pub mod metrics;
mod model;
mod partial;
mod passive;
mod prepare;
mod random;
mod replace;
mod rls;
mod rows;
mod softmax;
mod spec;
pub mod stats;
mod tree;
mod watched;

pub use bandit::{EpsilonGreedySpec, LinUcbSpec, Rewards, ThompsonSamplingSpec, Ucb1Spec};
pub use bayes::{GaussianNaiveBayesSpec, MultinomialNaiveBayesSpec};
pub use error::{DecodeError, ModelError, SpecError};
pub use kmeans::{KMeansSpec, TimeUnit};
pub use linear::{LinearSpec, Mode, Optimizer, Regularization, Schedule};
pub use model::{Health, Learned, LearnedKind, Model, Trained};
pub use ndarray;
pub use partial::Partial;
pub use passive::{PassiveAggressiveSpec, Variant};
pub use prepare::{
    FeatureHasher, ImputerSpec, MinMaxScalerSpec, OneHotSpec, StandardScalerSpec, polynomial, polynomial_features,
};
pub use random::hashed;
pub use replace::ReplaceError;
pub use rls::RlsSpec;
pub use rows::Rows;
pub use softmax::SoftmaxSpec;
pub use spec::ModelSpec;
pub use tree::{HoeffdingTreeSpec, LeafPrediction};
pub use watched::{Acted, DriftAction, Watched, WatchedBatch};
