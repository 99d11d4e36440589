//! What the core needs to know of a compiled job: its shape, without expressions or Arrow.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tidemill_common::ids::{ExchangeId, OutputIdx, SourceIdx};
use tidemill_common::location::Location;
use tidemill_connect::{Delivery, Sink};
use tidemill_job::{DEFAULT_KEEP, MaxBadRecords, ModelDef, TableDef, Target};
use tidemill_ml::{Model, ModelSpec};
use tidemill_plan::arrow::datatypes::SchemaRef;
use tidemill_plan::{AskedModel, BranchTarget, JobPlan, ModelPlan, Placement, Rhythm, StageInput};

/// The shape of a job.
#[derive(Debug, Clone, PartialEq)]
pub struct Topology {
    /// Stages in topological order; the position is the [`StageId`](tidemill_common::ids::StageId).
    pub stages: Vec<StageShape>,
    /// Producing stage of each exchange.
    pub exchange_from: Vec<usize>,
    /// Shares of the key space.
    pub key_groups: u32,
    /// Sources.
    pub sources: Vec<SourceShape>,
    /// Outputs.
    pub outputs: Vec<OutputShape>,
    /// Models.
    pub models: Vec<ModelShape>,
    /// Tables.
    pub tables: Vec<TableShape>,
}

/// The shape of a stage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StageShape {
    /// What its units are.
    pub placement: Placement,
    /// Source it reads, if it reads one.
    pub source: Option<SourceIdx>,
    /// Exchanges it reads.
    pub inputs: Vec<ExchangeId>,
    /// Whether it keeps keyed state.
    pub stateful: bool,
    /// When its input fires.
    pub input: Rhythm,
    /// When its rows are there.
    pub rhythm: Rhythm,
    /// Stages that read its exchanges.
    pub consumers: Vec<usize>,
    /// Outputs that its branches end in.
    pub outputs: Vec<OutputIdx>,
    /// Models that its expressions ask.
    pub models: Vec<AskedShape>,
}

/// A model of the job.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelShape {
    /// Its name.
    pub name: String,
    /// What it is.
    pub spec: ModelSpec,
    /// As it is before the first batch.
    pub initial: Arc<Model>,
    /// Features of the rows that it learns from; none if any number will do.
    pub features: Option<usize>,
    /// The stage that trains it, and the key group it lives in; none for a model that nothing trains.
    pub home: Option<(usize, usize)>,
    /// The models (by position) whose champion answers under this name; empty for a model of its own.
    pub candidates: Vec<usize>,
    /// Versions to keep for those who ask the driver.
    pub keep: usize,
    /// Where it is saved, and whenever it has learnt how many batches more.
    pub save: Option<(Location, u64)>,
}

/// A model that a stage asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AskedShape {
    /// Its position among the models of the job.
    pub model: usize,
    /// Whether the stage waits for the batch's own training.
    pub after_training: bool,
}

/// A table of the job.
#[derive(Debug, Clone, PartialEq)]
pub struct TableShape {
    /// How it is read.
    pub def: Arc<TableDef>,
    /// The file it follows and how often that is looked at; none for a table that stays as it was submitted.
    pub watched: Option<(Location, Duration)>,
}

/// The shape of a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceShape {
    /// Its name.
    pub name: String,
    /// Number of receivers.
    pub receivers: u32,
    /// A batch takes one block of it.
    pub one_block_per_batch: bool,
    /// How often a record of it arrives.
    pub delivery: Delivery,
    /// Most records per second that each of its receivers reads.
    pub max_rate: Option<u64>,
    /// How many of its records may be bad.
    pub max_bad_records: Option<MaxBadRecords>,
}

/// The shape of an output.
#[derive(Debug, Clone, PartialEq)]
pub struct OutputShape {
    /// Its name.
    pub name: String,
    /// What happens to its rows.
    pub kind: OutputKind,
    /// When it has rows.
    pub rhythm: Rhythm,
}

/// What happens to the rows of an output.
#[derive(Debug, Clone, PartialEq)]
pub enum OutputKind {
    /// The first rows of a batch go to watchers; all of them without a limit.
    Rows {
        /// How many.
        limit: Option<u32>,
        /// How many of them `print` shows.
        shown: Option<u32>,
    },
    /// A sink takes them.
    Sink(SinkOutput),
    /// A function on the worker has seen them.
    Seen,
}

/// A sink and what it has to know of its output.
#[derive(Debug, Clone, PartialEq)]
pub struct SinkOutput {
    /// The sink.
    pub sink: Sink,
    /// Columns of the rows.
    pub schema: SchemaRef,
    /// What relative paths are relative to.
    pub base_dir: PathBuf,
}

impl Topology {
    /// The shape of a compiled job, with paths relative to `base_dir` resolved. With `capture`, every output is
    /// a row output without a limit. Watchers get `watched_rows` rows of a batch, or as many as `print` shows.
    pub fn new(plan: &JobPlan, capture: bool, watched_rows: u32, base_dir: &Path) -> Self {
        let saves = (!capture).then_some(base_dir);
        let models = plan.models.iter().enumerate();
        let mut stages: Vec<StageShape> = plan.stages.iter().map(|stage| StageShape::new(stage, plan)).collect();
        for exchange in &plan.exchanges {
            let consumers = &mut stages[exchange.from.0 as usize].consumers;
            let consumer = exchange.to.0 as usize;
            if !consumers.contains(&consumer) {
                consumers.push(consumer);
            }
        }
        let sources = plan.def.sources.iter().map(|source| SourceShape {
            name: source.name.text.clone(),
            receivers: source.connector.receivers(),
            one_block_per_batch: source.connector.is_block_per_batch() && !capture,
            delivery: source.connector.delivery(),
            max_rate: source.max_rate.filter(|_| !capture),
            max_bad_records: source.on_bad_record.at_most(),
        });
        let outputs = plan.outputs.iter().map(|output| OutputShape {
            name: output.name.clone(),
            rhythm: output.rhythm,
            kind: match &output.target {
                _ if capture => OutputKind::Rows { limit: None, shown: None },
                Target::Print { rows } => OutputKind::Rows { limit: Some(watched_rows.max(*rows)), shown: Some(*rows) },
                Target::Sink(sink) => {
                    let (schema, base_dir) = (output.schema.clone(), base_dir.to_path_buf());
                    OutputKind::Sink(SinkOutput { sink: sink.clone(), schema, base_dir })
                }
                Target::ForEachBatch(_) => OutputKind::Seen,
            },
        });
        let tables = plan.def.tables.iter().map(|table| TableShape::new(table, saves));
        Self {
            exchange_from: plan.exchanges.iter().map(|e| e.from.0 as usize).collect(),
            key_groups: plan.def.settings.key_groups,
            sources: if capture {
                sources.map(|s| SourceShape { receivers: 1, ..s }).collect()
            } else {
                sources.collect()
            },
            outputs: outputs.collect(),
            models: models.map(|(number, model)| ModelShape::new(model, plan.def.models.get(number), saves)).collect(),
            tables: tables.collect(),
            stages,
        }
    }

    /// Directories that no other job may write to.
    pub fn directories(&self) -> impl Iterator<Item = Location> {
        let outputs = self.outputs.iter().filter_map(|output| match &output.kind {
            OutputKind::Sink(to) => Some(Location::resolve(&to.base_dir, to.sink.place()?)),
            _ => None,
        });
        outputs.chain(self.models.iter().filter_map(|model| Some(model.save.as_ref()?.0.clone())))
    }

    /// Whether any stage keeps state.
    pub fn stateful(&self) -> bool {
        self.stages.iter().any(|stage| stage.stateful)
    }
}

impl StageShape {
    fn new(stage: &tidemill_plan::Stage, plan: &JobPlan) -> Self {
        let inputs = match &stage.input {
            StageInput::Source(_) | StageInput::BadRecords(_) => Vec::new(),
            StageInput::Exchanges(exchanges) => exchanges.clone(),
        };
        let outputs = stage.branches.iter().filter_map(|branch| match branch.target {
            BranchTarget::Output { output, .. } => Some(output),
            BranchTarget::Exchange(_) => None,
        });
        let mut outputs: Vec<OutputIdx> = outputs.collect();
        outputs.sort_unstable();
        outputs.dedup();
        Self {
            placement: stage.placement,
            source: stage.input.source(),
            inputs,
            stateful: stage.state.is_some(),
            input: plan.input_rhythm(stage),
            rhythm: stage.rhythm,
            consumers: Vec::new(),
            outputs,
            models: stage.models.iter().map(AskedShape::new).collect(),
        }
    }
}

impl ModelShape {
    /// A choice has no definition of its own.
    fn new(model: &ModelPlan, def: Option<&ModelDef>, base_dir: Option<&Path>) -> Self {
        let save = def.and_then(|def| def.save.as_ref()).zip(base_dir);
        Self {
            name: model.name.clone(),
            spec: model.spec.clone(),
            initial: model.initial.clone(),
            features: model.features,
            home: model.home.map(|(stage, group)| (stage.0 as usize, group as usize)),
            candidates: model.candidates.clone(),
            keep: def.map_or(DEFAULT_KEEP, |def| def.keep) as usize,
            save: save.map(|(save, base_dir)| (save.root(base_dir), save.every)),
        }
    }
}

impl TableShape {
    /// Without a folder, files are not looked at.
    fn new(table: &TableDef, base_dir: Option<&Path>) -> Self {
        let reload = table.reload.as_ref().zip(base_dir);
        let watched = reload.map(|(reload, base_dir)| (Location::resolve(base_dir, &reload.path), reload.interval));
        Self { def: Arc::new(table.clone()), watched }
    }
}

impl AskedShape {
    fn new(asked: &AskedModel) -> Self {
        Self { model: asked.model, after_training: asked.after_training }
    }
}
