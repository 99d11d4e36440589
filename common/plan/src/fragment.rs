//! Prepared pieces of a job, and what runs them.

use crate::blame;
use crate::clock;
use crate::error::PlanError;
use crate::exec::{LeafExec, OfStream, TaskInputs};
use crate::learn::AskedModel;
use crate::learn::predict;
use crate::plan::{BatchContext, JobPlan};
use crate::session::{self, Shape};
use crate::tables::Tables;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::common::Result;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::execution::TaskContext;
use datafusion::execution::memory_pool::GreedyMemoryPool;
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::physical_plan::execution_plan::reset_plan_states;
use datafusion::physical_plan::{ExecutionPlan, displayable};
use datafusion::prelude::SessionConfig;
use futures::TryStreamExt;
use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use tidemill_common::ids::BatchId;

/// A prepared physical plan over inputs that a task fills. Opaque.
#[derive(Clone)]
pub struct Fragment {
    plan: Arc<dyn ExecutionPlan>,
    leaves: usize,
}

impl Fragment {
    /// Of a plan over so many inputs, each read by as many leaves as it likes, that computes a stream.
    pub(crate) fn new(plan: Arc<dyn ExecutionPlan>, leaves: usize, stream: &str) -> Self {
        Self { plan: OfStream::mark(plan, stream), leaves }
    }

    /// How many inputs a run takes.
    pub fn leaves(&self) -> usize {
        self.leaves
    }

    /// The columns of what comes out.
    pub fn schema(&self) -> SchemaRef {
        self.plan.schema()
    }

    /// How often it reads its inputs.
    pub(crate) fn reads(&self) -> usize {
        leaves_of(&self.plan)
    }

    /// Whether it is a copy of this one.
    pub(crate) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.plan, &other.plan)
    }

    /// The same over what another one gives, in place of its input: both in one.
    pub(crate) fn over(&self, input: &Self) -> Result<Self> {
        let input_of = |node: Arc<dyn ExecutionPlan>| match node.is::<LeafExec>() {
            true => Ok(Transformed::yes(input.plan.clone())),
            false => Ok(Transformed::no(node)),
        };
        Ok(Self { plan: self.plan.clone().transform_up(input_of).data()?, leaves: input.leaves })
    }

    /// Notes the models that its expressions ask.
    pub(crate) fn asked(&self, found: &mut BTreeSet<AskedModel>) {
        predict::asked_by_plan(&self.plan, found);
    }

    /// The plan, for people and for the fingerprint.
    pub(crate) fn display(&self) -> String {
        displayable(self.plan.as_ref()).indent(false).to_string()
    }
}

impl fmt::Debug for Fragment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.display())
    }
}

/// Runs the fragments of a job; one per process and job, shared by its tasks.
pub struct Runner {
    plan: Arc<JobPlan>,
    config: SessionConfig,
    runtime: RuntimeEnv,
    memory_per_task: usize,
    tables: Tables,
}

impl fmt::Debug for Runner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Runner").field("memory_per_task", &self.memory_per_task).finish()
    }
}

impl Runner {
    /// `memory_per_task` in bytes bounds what one run may hold beyond its input. It has to be the same everywhere:
    /// it decides when a run spills.
    pub fn new(plan: Arc<JobPlan>, memory_per_task: usize) -> Self {
        let (config, runtime) = (session::config(Shape::Distributed), RuntimeEnv::default());
        Self { tables: Tables::new(plan.def.clone()), plan, config, runtime, memory_per_task }
    }

    /// What the job's tables have got since it was submitted: a run sees what they have in its batch.
    pub fn tables(&self) -> &Tables {
        &self.tables
    }

    /// The job it runs.
    pub fn plan(&self) -> &Arc<JobPlan> {
        &self.plan
    }

    /// Runs a fragment; `inputs[i]` is what leaves read as input *i*. Runs may overlap, as often as one likes.
    ///
    /// # Errors
    /// When an expression fails on the data, when memory does not suffice, and for inputs that do not fit.
    pub async fn run(
        &self,
        fragment: &Fragment,
        inputs: Vec<Vec<RecordBatch>>,
        ctx: &BatchContext,
    ) -> Result<Vec<RecordBatch>, PlanError> {
        if inputs.len() != fragment.leaves {
            let (expected, got) = (fragment.leaves, inputs.len());
            return Err(PlanError::Internal(format!("{got} inputs in place of {expected}")));
        }
        let work = async {
            let context = self.context(inputs, ctx.batch);
            match run(&fragment.plan, context.clone()).await {
                Err(error) => Err(blame::explain(&fragment.plan, &context, &self.plan.def, error).await),
                rows => Ok(rows?),
            }
        };
        clock::at(ctx.time_ms, work).await
    }

    /// Every run has its own memory: with a shared pool, when a run spills would depend on its neighbours.
    fn context(&self, inputs: Vec<Vec<RecordBatch>>, batch: BatchId) -> Arc<TaskContext> {
        let memory_pool = Arc::new(GreedyMemoryPool::new(self.memory_per_task));
        let runtime = RuntimeEnv { memory_pool, ..self.runtime.clone() };
        let config = self.config.clone().with_extension(Arc::new(self.tables.at(batch)));
        task_context(config, inputs, runtime)
    }
}

/// Functions are part of prepared plans: a task has to know none by name.
fn task_context(config: SessionConfig, inputs: Vec<Vec<RecordBatch>>, runtime: RuntimeEnv) -> Arc<TaskContext> {
    let config = config.with_extension(Arc::new(TaskInputs(inputs)));
    let (scalar, higher, aggregate, window) = Default::default();
    let runtime = Arc::new(runtime);
    Arc::new(TaskContext::new(None, String::new(), config, scalar, higher, aggregate, window, runtime))
}

fn leaves_of(plan: &Arc<dyn ExecutionPlan>) -> usize {
    let below: usize = plan.children().into_iter().map(leaves_of).sum();
    below + usize::from(plan.is::<LeafExec>())
}

/// Runs a plan while compiling, over no rows.
pub(crate) async fn run_on_nothing(plan: &Arc<dyn ExecutionPlan>) -> Result<Vec<RecordBatch>> {
    let context = task_context(session::config(Shape::Single), vec![vec![]], RuntimeEnv::default());
    plan.execute(0, context)?.try_collect().await
}

async fn run(plan: &Arc<dyn ExecutionPlan>, context: Arc<TaskContext>) -> Result<Vec<RecordBatch>> {
    let plan = reset_plan_states(plan.clone())?;
    let batches: Vec<_> = plan.execute(0, context)?.try_collect().await?;
    Ok(batches.into_iter().filter(|batch| batch.num_rows() > 0).collect())
}
