//! The pinned DataFusion session: what is planned must not depend on cores, defaults or the clock.

use crate::clock;
use crate::conditions::{KeepInPlace, Planner};
use crate::decode::BATCH_ROWS;
use crate::guarded::{guarded, huge_constant};
use crate::in_order::in_order;
use crate::learn::predict::{self, Declared};
use crate::learn::prepare;
use crate::numbers::{self, Numbers};
use crate::planning::in_time;
use crate::registry::{Functions, Uses};
use crate::{rules, times};
use datafusion::common::Result;
use datafusion::common::tree_node::{Transformed, TreeNodeRecursion};
use datafusion::config::{ConfigOptions, Dialect};
use datafusion::execution::context::SessionState;
use datafusion::execution::session_state::SessionStateBuilder;
use datafusion::logical_expr::LogicalPlan;
use datafusion::optimizer::single_distinct_to_groupby::SingleDistinctToGroupBy;
use datafusion::optimizer::{OptimizerConfig, OptimizerRule};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::prelude::SessionConfig;
use std::sync::Arc;

/// How many partitions plans are made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    /// To be cut into stages: two, so that the planner puts exchanges where data has to meet.
    Distributed,
    /// To run as one piece.
    Single,
}

impl Shape {
    pub(crate) fn partitions(self) -> usize {
        match self {
            Self::Distributed => 2,
            Self::Single => 1,
        }
    }
}

/// The settings that change plans or results; nothing is left to the number of cores.
pub(crate) fn config(shape: Shape) -> SessionConfig {
    let mut config = SessionConfig::new()
        .with_target_partitions(shape.partitions())
        .with_batch_size(BATCH_ROWS)
        .with_information_schema(false);
    let options = config.options_mut();
    // Names are what they are in the definition.
    options.sql_parser.enable_ident_normalization = false;
    options.sql_parser.map_string_types_to_utf8view = false;
    // The generic dialect reads a column named `user` as a function.
    options.sql_parser.dialect = Dialect::DuckDB;
    options.sql_parser.collect_spans = true;
    options.execution.collect_statistics = false;
    options.execution.planning_concurrency = 1;
    options.execution.enable_recursive_ctes = false;
    // Whether a partial aggregation gives up early would depend on how many keys it has seen.
    options.execution.skip_partial_aggregation_probe_ratio_threshold = 1.0;
    options.execution.skip_partial_aggregation_probe_rows_threshold = usize::MAX;
    let optimizer = &mut options.optimizer;
    optimizer.enable_round_robin_repartition = false;
    optimizer.enable_dynamic_filter_pushdown = false;
    optimizer.enable_topk_dynamic_filter_pushdown = false;
    optimizer.enable_join_dynamic_filter_pushdown = false;
    optimizer.enable_aggregate_dynamic_filter_pushdown = false;
    optimizer.enable_topk_aggregation = false;
    optimizer.enable_topk_repartition = false;
    optimizer.enable_distinct_aggregation_soft_limit = false;
    optimizer.enable_physical_uncorrelated_scalar_subquery = false;
    optimizer.enable_sort_pushdown = false;
    optimizer.prefer_existing_union = true;
    optimizer.hash_join_single_partition_threshold = 0;
    optimizer.hash_join_single_partition_threshold_rows = 0;
    config
}

/// A session whose partial aggregates can be merged in any number of steps. Distinct values are not split off into an
/// aggregation of their own, which is done when a batch is.
pub(crate) fn mergeable(state: SessionState) -> SessionState {
    let split_off = SingleDistinctToGroupBy::new();
    let rules = state.optimizers().iter().filter(|rule| rule.name() != split_off.name()).cloned().collect();
    SessionStateBuilder::new_from_existing(state).with_optimizer_rules(rules).build()
}

/// Between the rules of the optimiser: ends planning that nobody waits for any more.
#[derive(Debug)]
struct InTime;

impl OptimizerRule for InTime {
    fn name(&self) -> &'static str {
        "in_time"
    }

    fn rewrite(&self, plan: LogicalPlan, _: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        in_time().map(|()| Transformed::no(plan))
    }
}

impl PhysicalOptimizerRule for InTime {
    fn name(&self) -> &'static str {
        "in_time"
    }

    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        in_time().map(|()| plan)
    }

    fn schema_check(&self) -> bool {
        true
    }
}

/// After all rules: refuses calls of constants that were not folded because they would make too much.
#[derive(Debug)]
struct NoHugeConstants;

impl OptimizerRule for NoHugeConstants {
    fn name(&self) -> &'static str {
        "no_huge_constants"
    }

    fn rewrite(&self, plan: LogicalPlan, _: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        plan.apply_with_subqueries(|node| {
            node.apply_expressions(|expr| huge_constant(expr).map(|()| TreeNodeRecursion::Continue))
        })?;
        Ok(Transformed::no(plan))
    }
}

/// The session with [`InTime`] after every rule, and [`NoHugeConstants`] after all.
fn with_a_watch(state: SessionState) -> SessionState {
    type Logical = Arc<dyn OptimizerRule + Send + Sync>;
    type Physical = Arc<dyn PhysicalOptimizerRule + Send + Sync>;
    let logical = state.optimizers().iter().flat_map(|rule| [rule.clone(), Arc::new(InTime) as Logical]);
    let logical = logical.chain([Arc::new(NoHugeConstants) as Logical]).collect();
    // It would ask the conditions of two filters at once.
    let physical = state.physical_optimizers().iter().filter(|rule| !rule.name().starts_with("FilterPushdown"));
    let physical = physical.flat_map(|rule| [rule.clone(), Arc::new(InTime) as Physical]).collect();
    let builder = SessionStateBuilder::new_from_existing(state);
    builder.with_optimizer_rules(logical).with_physical_optimizer_rules(physical).build()
}

/// A session with DataFusion's functions, ours for numbers and the time, and the users'. Which of those are used is noted in `uses`.
pub(crate) fn state(shape: Shape, users: &Functions, uses: &Uses, models: &Declared) -> SessionState {
    let mut functions = SessionStateBuilder::new().with_default_features();
    if let Some(scalar) = functions.scalar_functions() {
        scalar.iter_mut().for_each(|function| *function = guarded(function.clone()));
        scalar.extend(clock::functions());
        scalar.extend(times::functions());
        scalar.extend(numbers::functions());
        scalar.extend(predict::functions(models));
        scalar.extend(prepare::functions());
        scalar.extend(users.scalars().cloned());
    }
    if let Some(aggregate) = functions.aggregate_functions() {
        aggregate.extend(numbers::aggregates());
        aggregate.extend(users.aggregates().cloned());
        aggregate.iter_mut().for_each(|function| *function = in_order(function.clone()));
    }
    let mut rules = rules::analyzer_rules();
    // Arithmetic is checked as it is when types are settled.
    rules.push(Arc::new(Numbers::default()));
    rules.push(Arc::new(KeepInPlace));
    let config = config(shape).with_extension(Arc::new(uses.clone()));
    let session = functions.with_analyzer_rules(rules).with_query_planner(Arc::new(Planner)).with_config(config);
    with_a_watch(session.build())
}
