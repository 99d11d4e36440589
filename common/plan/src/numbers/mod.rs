//! What numbers do: one place for arithmetic that does not wrap, one order of floats, and aggregates that keep to both.
//!
//! - Integers and decimals never wrap: [`rule`] puts [`checked`] operations in the place of `+`, `-`, `*`, negation and
//!   `abs`; [`sum`] and [`mean`] add up in wider numbers, so that only a result that does not fit fails.
//! - Every column of floats holds one zero and one NaN ([`floats`]): what is read is brought into that form, and so is
//!   what expressions make. Then the order of the bits (NaN is the greatest) is the order of the values, and every
//!   comparison, key, join and sort agrees with every other without doing anything for it.
//! - Beside a double a decimal is one, too, and a number that is written beside a decimal keeps its digits ([`mixed`]).
//! - [`moments`] are updated and merged with compensated means, however rows are split.

mod approx;
mod checked;
mod convert;
mod digits;
mod exact;
mod extreme;
mod floats;
mod frame;
mod mean;
mod median;
mod mixed;
mod moments;
mod one;
mod percentile;
mod quotient;
mod rule;
mod shown;
mod sum;

pub(crate) use digits::{functions, keep_digits};
pub(crate) use mixed::{Mixed, mixed};
pub(crate) use rule::Numbers;
pub(crate) use shown::plainly;

use datafusion::common::plan_err;
use datafusion::logical_expr::AggregateUDF;
use datafusion::logical_expr::expr::ScalarFunction;
use std::sync::Arc;

/// The aggregates that stand in the place of DataFusion's of the same names.
pub(crate) fn aggregates() -> Vec<Arc<AggregateUDF>> {
    let own = [
        AggregateUDF::from(sum::Sum::default()),
        AggregateUDF::from(mean::Mean::default()),
        AggregateUDF::from(median::Median::default()),
        AggregateUDF::from(percentile::Percentile::default()),
    ];
    let extremes = [extreme::Extreme::least(), extreme::Extreme::greatest()].map(AggregateUDF::from);
    let moments = moments::Moments::all().map(AggregateUDF::from);
    let approx = approx::Approx::all().map(AggregateUDF::from);
    own.into_iter().chain(extremes).chain(moments).chain(approx).map(Arc::new).collect()
}

/// Whether a call brings a float into its one form.
pub(crate) fn is_canonical(call: &ScalarFunction) -> bool {
    call.func.inner().is::<floats::Canonical>()
}

/// Refuses `distinct` where it says nothing.
fn no_distinct<T>(name: &str) -> datafusion::common::Result<T> {
    plan_err!("`{name}` cannot take distinct values")
}
