//! What a compiled job looks like: sources, stages, exchanges, outputs.
//!
//! See `docs/architecture.md` for units and placement. Everything here is data; it is made by
//! [`compile`](crate::compile()) and the same on every process that compiles the same definition with the
//! same program, which [`JobPlan::fingerprint`] checks.

use crate::decode::SourcePlan;
use crate::fragment::Fragment;
use crate::learn::{AskedModel, ModelPlan};
use crate::registry::FunctionRef;
use crate::rhythm::Rhythm;
use crate::state::StageState;
use datafusion::arrow::datatypes::SchemaRef;
use std::sync::Arc;
use tidemill_common::diag::Diagnostics;
use tidemill_common::ids::{BatchId, ExchangeId, OutputIdx, SourceIdx, StageId};
use tidemill_job::{JobDef, Target};

/// The hidden last column of the rows of a stage with placement [`Placement::KeyGroups`]: the encoded key (binary).
/// Users neither see nor name it.
pub const KEY_COLUMN: &str = "__key";

/// A compiled job.
#[derive(Debug)]
pub struct JobPlan {
    /// What was compiled.
    pub def: Arc<JobDef>,
    /// How to read each source; by [`SourceIdx`].
    pub sources: Vec<SourcePlan>,
    /// By [`StageId`]; a stage only reads from earlier ones.
    pub stages: Vec<Stage>,
    /// By [`ExchangeId`].
    pub exchanges: Vec<Exchange>,
    /// In the order of the definition.
    pub models: Vec<ModelPlan>,
    /// By [`OutputIdx`].
    pub outputs: Vec<OutputPlan>,
    /// The functions in Rust that it uses, in order.
    pub functions: Vec<FunctionRef>,
    /// What is said in vain.
    pub warnings: Diagnostics,
    /// Two processes may share a job only when theirs are equal.
    pub fingerprint: u64,
}

impl JobPlan {
    /// When a stage's inputs fire, which they do together.
    pub fn input_rhythm(&self, stage: &Stage) -> Rhythm {
        match &stage.input {
            StageInput::Source(_) | StageInput::BadRecords(_) => Rhythm::EveryBatch,
            StageInput::Exchanges(exchanges) => {
                let from = exchanges.first().and_then(|exchange| self.exchanges.get(exchange.0 as usize));
                let from = from.and_then(|exchange| self.stages.get(exchange.from.0 as usize));
                from.map_or(Rhythm::EveryBatch, |stage| stage.rhythm)
            }
        }
    }
}

/// A step between exchanges. Its *rows* are: the input, through `head`, through `state`. Branches read them, or what
/// `shared` makes of them.
#[derive(Debug)]
pub struct Stage {
    /// Its position in [`JobPlan::stages`].
    pub id: StageId,
    /// For people: the stream it computes.
    pub name: String,
    /// Where its input comes from.
    pub input: StageInput,
    /// What a unit of it is.
    pub placement: Placement,
    /// Makes the rows from the input; without it the input is the rows. Leaf *i* reads the *i*-th exchange, or
    /// the decoded records.
    pub head: Option<Fragment>,
    /// What the head gives, or without one what comes in.
    pub(crate) given: SchemaRef,
    /// Applied to what the head gives; the rows are then what it gives.
    pub state: Option<StageState>,
    /// Placement `KeyGroups`: where in what the head gives the key columns stand. The executor sorts the rows of each
    /// key group by [`encode_keys`](crate::encode_keys) of them and appends that as [`KEY_COLUMN`]; empty for other
    /// placements.
    pub row_keys: Vec<usize>,
    /// The rows as branches see them, [`KEY_COLUMN`] included.
    pub schema: SchemaRef,
    /// When it has rows. A stage that does not fire gives nothing to any branch.
    pub rhythm: Rhythm,
    /// Models that its expressions ask.
    pub models: Vec<AskedModel>,
    /// What several branches read, in the order in which it is made: once per unit.
    pub shared: Vec<Shared>,
    /// What happens with the rows; none where the stage is there for what it learns. In a `KeyGroups` stage they run per key group.
    pub branches: Vec<Branch>,
}

impl Stage {
    /// Whether it trains a model or chooses one: it is needed even if nothing reads its rows.
    pub(crate) fn trains(&self) -> bool {
        matches!(&self.state, Some(StageState::Fold(op)) if op.model.is_some() || op.choice().is_some())
    }

    /// The columns of what the head gives, or of the input where there is none.
    pub fn head_schema(&self) -> SchemaRef {
        self.given.clone()
    }

    /// Whether anything reads [`Reads::Snapshots`].
    pub fn has_snapshots(&self) -> bool {
        let shared = self.shared.iter().map(|shared| shared.reads);
        shared.chain(self.branches.iter().map(|branch| branch.reads)).any(|reads| reads == Reads::Snapshots)
    }
}

/// Where a stage's input comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StageInput {
    /// Blocks of a source: their records.
    Source(SourceIdx),
    /// Blocks of a source: those of their records that do not parse, as rows.
    BadRecords(SourceIdx),
    /// What other stages gave to these exchanges; without a head, one after the other.
    Exchanges(Vec<ExchangeId>),
}

impl StageInput {
    /// The source whose blocks are read, if it is one.
    pub fn source(&self) -> Option<SourceIdx> {
        match self {
            Self::Source(source) | Self::BadRecords(source) => Some(*source),
            Self::Exchanges(_) => None,
        }
    }
}

/// What a unit of a stage is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Placement {
    /// One block.
    Splits,
    /// One key group.
    KeyGroups,
    /// Everything there is.
    Single,
}

/// Rows that are read more than once.
#[derive(Debug, Clone)]
pub struct Shared {
    /// What they are made of: of shared rows, only those before these.
    pub reads: Reads,
    /// What makes them (one leaf).
    pub fragment: Fragment,
}

/// One use of a stage's rows.
#[derive(Debug)]
pub struct Branch {
    /// Which rows.
    pub reads: Reads,
    /// What is done with them (one leaf); nothing, if absent.
    pub fragment: Option<Fragment>,
    /// Where that goes. To an output of a `KeyGroups` stage it goes with [`KEY_COLUMN`] as its last column.
    pub target: BranchTarget,
}

/// Which rows of a stage are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reads {
    /// Those that the stage makes of its input.
    Rows,
    /// All keys of the stage's state after the batch: the columns of [`StageState::snapshot_fields`], [`KEY_COLUMN`].
    Snapshots,
    /// What [`Stage::shared`] makes at this place.
    Shared(usize),
}

/// Where a branch ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BranchTarget {
    /// In an exchange.
    Exchange(ExchangeId),
    /// In an output, as one of its lanes.
    Output {
        /// The output.
        output: OutputIdx,
        /// Rows of an output come lane by lane, from 0; within a lane by key if it has one, else in order of unit.
        lane: u32,
    },
}

/// Rows on their way from one stage to another.
#[derive(Debug)]
pub struct Exchange {
    /// Its position in [`JobPlan::exchanges`].
    pub id: ExchangeId,
    /// The stage that fills it.
    pub from: StageId,
    /// The stage that reads it.
    pub to: StageId,
    /// Who gets which row.
    pub kind: ExchangeKind,
    /// The columns of its rows.
    pub schema: SchemaRef,
}

/// Who gets which row of an exchange.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExchangeKind {
    /// The key group of the encoded key.
    Hash {
        /// The key columns, as positions in the exchange's schema; see [`encode_rows`](crate::encode_rows).
        keys: Vec<usize>,
    },
    /// All rows go to the one unit of the reading stage.
    Gather,
}

/// A result of the job.
#[derive(Debug)]
pub struct OutputPlan {
    /// Its name.
    pub name: String,
    /// How it leaves.
    pub target: Target,
    /// What users see, without [`KEY_COLUMN`].
    pub schema: SchemaRef,
    /// When it has rows.
    pub rhythm: Rhythm,
}

/// What a run may know about its batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchContext {
    /// Which batch.
    pub batch: BatchId,
    /// Its time, milliseconds since 1970 UTC: what `now()` is.
    pub time_ms: i64,
    /// The time of the batch before it; of the first batch, one batch interval less than its own.
    pub previous_ms: i64,
}
