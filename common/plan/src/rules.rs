//! Where plans of DataFusion's would give wrong results, they are written otherwise before anything else is done with
//! them. Which of its issues each of these waits for is in the decision 026.

mod copies;
mod intervals;
mod marks;
mod membership;
mod micros;
mod one_row;
mod similar;
mod totals;

pub(crate) use micros::{in_micros, micros_type};
pub(crate) use similar::similar_pattern;

use crate::numbers::Mixed;
use copies::CountCopies;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Result, plan_err};
use datafusion::logical_expr::LogicalPlan;
use datafusion::optimizer::analyzer::AnalyzerRule;
use datafusion::optimizer::analyzer::resolve_grouping_function::ResolveGroupingFunction;
use datafusion::optimizer::analyzer::type_coercion::TypeCoercion;
use intervals::NoKeys;
use membership::ThreeValued;
use micros::Microseconds;
use one_row::OneRow;
use std::sync::Arc;
use tidemill_job::limits::MAX_RELATIONS;
use totals::GrandTotals;

/// All rules that every plan goes through first, in order.
pub(crate) fn analyzer_rules() -> Vec<Arc<dyn AnalyzerRule + Send + Sync>> {
    vec![
        Arc::new(CountCopies),
        Arc::new(ThreeValued),
        Arc::new(OneRow),
        Arc::new(ResolveGroupingFunction::new()),
        Arc::new(GrandTotals),
        Arc::new(Mixed),
        // What is written, what coercion adds, and what it makes of that.
        Arc::new(Microseconds),
        Arc::new(TypeCoercion::new()),
        Arc::new(Microseconds),
        Arc::new(TypeCoercion::new()),
        Arc::new(NoKeys),
    ]
}

/// Refuses a plan that reads more than so many relations, after a rule has copied some of them.
fn bounded(plan: &LogicalPlan) -> Result<()> {
    let mut relations = 0;
    plan.apply_with_subqueries(|node| {
        relations += usize::from(matches!(node, LogicalPlan::TableScan(_) | LogicalPlan::SubqueryAlias(_)));
        Ok(if relations > MAX_RELATIONS { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    })?;
    match relations > MAX_RELATIONS {
        true => plan_err!(
            "the query reads more than {MAX_RELATIONS} tables and subqueries: each `in (select ..)` that stands within \
             another, as a value or beneath `not`, reads its own three times"
        ),
        false => Ok(()),
    }
}
