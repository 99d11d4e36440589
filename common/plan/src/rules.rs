//! Where plans of DataFusion's would give wrong results, they are written otherwise before anything else is done with
//! them. Which of its issues each of these waits for is in the decision 026.

mod copies;
mod membership;
mod micros;
mod totals;

pub(crate) use micros::{in_micros, micros_type};

use copies::CountCopies;
use datafusion::optimizer::analyzer::AnalyzerRule;
use datafusion::optimizer::analyzer::resolve_grouping_function::ResolveGroupingFunction;
use datafusion::optimizer::analyzer::type_coercion::TypeCoercion;
use membership::ThreeValued;
use micros::Microseconds;
use std::sync::Arc;
use totals::GrandTotals;

/// All rules that every plan goes through first, in order.
pub(crate) fn analyzer_rules() -> Vec<Arc<dyn AnalyzerRule + Send + Sync>> {
    vec![
        Arc::new(CountCopies),
        Arc::new(ThreeValued),
        Arc::new(ResolveGroupingFunction::new()),
        Arc::new(GrandTotals),
        // What is written, what coercion adds, and what it makes of that.
        Arc::new(Microseconds),
        Arc::new(TypeCoercion::new()),
        Arc::new(Microseconds),
        Arc::new(TypeCoercion::new()),
    ]
}
