//! The shapes of simulated jobs.

use crate::compute::{Op, Shape, Stage, Target};
use crate::models::{self, When};
use crate::tables;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tidemill_common::ids::{ExchangeId, OutputIdx, SourceIdx};
use tidemill_connect::sinks::files::{FileFormat, FilePlace, FileSink, Json};
use tidemill_connect::sinks::http::{Http, HttpConfig};
use tidemill_connect::{Delivery, Sink};
use tidemill_driver::core::topology::{OutputKind, OutputShape, SinkOutput, SourceShape, StageShape, Topology};
use tidemill_plan::arrow::datatypes::Schema;
use tidemill_plan::{Placement, Rhythm};

/// Shapes there are.
pub(crate) const SHAPES: u32 = 10;

/// What differs between jobs of one shape.
#[derive(Debug)]
pub(crate) struct Sizes {
    pub(crate) key_groups: u32,
    pub(crate) receivers: u32,
    /// Rows that an output shows.
    pub(crate) limit: u32,
    /// How often a stage fires that does not do so in every batch.
    pub(crate) slide_ms: i64,
}

impl Shape {
    /// One of [`SHAPES`] shapes.
    pub(crate) fn new(number: u32, sizes: &Sizes) -> Self {
        use Op::{Running, Sum, Total};
        use Placement::{KeyGroups, Single};
        use Target::{Gather, Hash, Output};
        use models::When::{After, Before};
        let rows = |limit| OutputKind::Rows { limit, shown: limit };
        let sink =
            |sink| OutputKind::Sink(SinkOutput { sink, schema: Arc::new(Schema::empty()), base_dir: PathBuf::new() });
        let files = || {
            let (place, format) = (FilePlace::Directory("out".into()), FileFormat::Json);
            sink(Sink::new(Json, FileSink { place, format, compression: None, roll: None }))
        };
        let http = || {
            let (url, timeout) = ("http://127.0.0.1/".to_string(), Duration::from_secs(1));
            sink(Sink::new(Http, HttpConfig { url, timeout, retries: 0, headers: Vec::new() }))
        };
        let slide = Rhythm::Every { slide_ms: sizes.slide_ms };
        let mut build = Builder { stages: Vec::new(), shapes: Vec::new(), own_rhythm: BTreeMap::new() };
        let outputs =
            match number {
                // Rows and files straight from the splits.
                0 => {
                    build.source(0, vec![Output(0), Output(1)]);
                    vec![rows(Some(sizes.limit)), files()]
                }
                // A sum per key and batch.
                1 => {
                    build.source(0, vec![Hash(0, 100)]).stage(KeyGroups, &[0], Sum, vec![Output(0)]);
                    vec![rows(None)]
                }
                // Running sums, and their sum.
                2 => {
                    build
                        .source(0, vec![Hash(0, 100)])
                        .stage(KeyGroups, &[0], Running, vec![Output(0), Gather(1)])
                        .stage(Single, &[1], Total, vec![Output(1)]);
                    vec![rows(Some(sizes.limit)), rows(None)]
                }
                // Two stages with state, by different keys.
                3 => {
                    build
                        .source(0, vec![Hash(0, 100)])
                        .stage(KeyGroups, &[0], Running, vec![Output(0), Hash(1, 5)])
                        .stage(KeyGroups, &[1], Running, vec![Output(1)]);
                    vec![files(), rows(None)]
                }
                // A count.
                4 => {
                    build.source(0, vec![Gather(0)]).stage(Single, &[0], Total, vec![Output(0)]);
                    vec![rows(None)]
                }
                // Two sources, two states beside each other, joined by a third stage.
                5 => {
                    build
                        .source(0, vec![Hash(0, 100)])
                        .source(1, vec![Hash(1, 100), Hash(4, 7)])
                        .stage(KeyGroups, &[0, 4], Running, vec![Hash(2, 100)])
                        .stage(KeyGroups, &[1], Running, vec![Hash(3, 100), Output(0)])
                        .stage(KeyGroups, &[2, 3], Sum, vec![Output(1)]);
                    vec![files(), rows(None)]
                }
                // A chain of stateless exchanges with state at the end.
                6 => {
                    build
                        .source(0, vec![Hash(0, 100)])
                        .stage(KeyGroups, &[0], Sum, vec![Hash(1, 6)])
                        .stage(KeyGroups, &[1], Sum, vec![Hash(2, 4), Output(0)])
                        .stage(KeyGroups, &[2], Running, vec![Output(1)]);
                    vec![files(), files()]
                }
                // State that looks out in some batches only, and what follows on it: without state, with state, as one.
                7 => {
                    build
                        .source(0, vec![Hash(0, 100)])
                        .stage(KeyGroups, &[0], Running, vec![Output(0), Hash(1, 5), Hash(2, 100), Gather(3)])
                        .firing(slide)
                        .stage(KeyGroups, &[1], Sum, vec![Output(1)])
                        .stage(KeyGroups, &[2], Running, vec![Output(2)])
                        .stage(Single, &[3], Total, vec![Output(3)]);
                    vec![files(), rows(Some(sizes.limit)), http(), rows(None)]
                }
                // Outputs of several lanes: of splits, of key groups, of a single unit.
                8 => {
                    build
                        .source(0, vec![Hash(0, 9), Output(0), Output(1)])
                        .source(1, vec![Hash(1, 100), Output(0)])
                        .stage(KeyGroups, &[0, 1], Sum, vec![Output(0), Output(1), Hash(2, 5)])
                        .stage(KeyGroups, &[2], Running, vec![Output(1), Output(2), Gather(3)])
                        .stage(Single, &[3], Total, vec![Output(0), Output(2)]);
                    vec![rows(None), files(), http()]
                }
                // A model that is asked before it is trained and after, by stages with and without state.
                _ => {
                    build
                        .source(0, vec![Hash(0, 100)])
                        .asking(Before)
                        .stage(KeyGroups, &[0], Running, vec![Hash(1, 6), Hash(2, 100)])
                        .stage(KeyGroups, &[1], Sum, vec![Output(0)])
                        .asking(After)
                        .stage(KeyGroups, &[2], Running, vec![Output(1)])
                        .asking(Before)
                        .asking(After);
                    vec![rows(None), files()]
                }
            };
        build.finish(sizes, outputs)
    }
}

struct Builder {
    stages: Vec<Stage>,
    shapes: Vec<StageShape>,
    /// Of the stages that do not just fire with what they read.
    own_rhythm: BTreeMap<usize, Rhythm>,
}

impl Builder {
    fn source(&mut self, source: u32, targets: Vec<Target>) -> &mut Self {
        self.push(Placement::Splits, Some(SourceIdx(source)), &[], Op::Sum, targets)
    }

    fn stage(&mut self, placement: Placement, inputs: &[u32], op: Op, targets: Vec<Target>) -> &mut Self {
        self.push(placement, None, inputs, op, targets)
    }

    /// The last stage fires in some batches only.
    fn firing(&mut self, rhythm: Rhythm) -> &mut Self {
        self.own_rhythm.insert(self.shapes.len() - 1, rhythm);
        self
    }

    /// The last stage asks the model that the first stage with state trains.
    fn asking(&mut self, when: When) -> &mut Self {
        if let Some(stage) = self.shapes.last_mut() {
            stage.models.push(models::asking_trained(when));
        }
        self
    }

    fn push(
        &mut self,
        placement: Placement,
        source: Option<SourceIdx>,
        inputs: &[u32],
        op: Op,
        targets: Vec<Target>,
    ) -> &mut Self {
        let output = |target: &Target| match target {
            Target::Output(output) => Some(OutputIdx(*output)),
            _ => None,
        };
        self.shapes.push(StageShape {
            placement,
            source,
            inputs: inputs.iter().map(|exchange| ExchangeId(*exchange)).collect(),
            stateful: op == Op::Running,
            input: Rhythm::EveryBatch,
            rhythm: Rhythm::EveryBatch,
            consumers: Vec::new(),
            outputs: targets.iter().filter_map(output).collect(),
            models: if self.shapes.is_empty() { models::asked() } else { Vec::new() },
        });
        self.stages.push(Stage { op, targets });
        self
    }

    fn finish(mut self, sizes: &Sizes, outputs: Vec<OutputKind>) -> Shape {
        let exchange = |target: &Target| match target {
            Target::Hash(exchange, _) | Target::Gather(exchange) => Some(*exchange as usize),
            Target::Output(_) => None,
        };
        let mut exchange_from = BTreeMap::new();
        for (number, stage) in self.stages.iter().enumerate() {
            for exchange in stage.targets.iter().filter_map(exchange) {
                exchange_from.insert(exchange, number);
            }
        }
        for consumer in 0..self.shapes.len() {
            for exchange in self.shapes[consumer].inputs.clone() {
                let producer = exchange_from[&(exchange.0 as usize)];
                self.shapes[consumer].input = self.shapes[producer].rhythm;
                let consumers = &mut self.shapes[producer].consumers;
                if !consumers.contains(&consumer) {
                    consumers.push(consumer);
                }
            }
            let shape = &mut self.shapes[consumer];
            shape.rhythm = self.own_rhythm.get(&consumer).copied().unwrap_or(shape.input);
        }
        let source = |source| SourceShape {
            name: format!("s{source}"),
            receivers: sizes.receivers,
            one_block_per_batch: false,
            delivery: Delivery::ExactlyOnce,
            max_rate: None,
            max_bad_records: None,
        };
        let rhythm = |number: usize| {
            let feeds = |stage: &&StageShape| stage.outputs.contains(&OutputIdx(number as u32));
            self.shapes.iter().find(feeds).map_or(Rhythm::EveryBatch, |stage| stage.rhythm)
        };
        let output = |(number, kind)| OutputShape { name: format!("o{number}"), kind, rhythm: rhythm(number) };
        let topology = Topology {
            tables: tables::shapes(),
            models: models::shapes(models::home(self.stages.iter().map(|stage| stage.op))),
            exchange_from: exchange_from.into_values().collect(),
            key_groups: sizes.key_groups,
            sources: self.shapes.iter().filter_map(|stage| stage.source).map(source).collect(),
            outputs: outputs.into_iter().enumerate().map(output).collect(),
            stages: self.shapes,
        };
        Shape { topology: Arc::new(topology), stages: self.stages }
    }
}
