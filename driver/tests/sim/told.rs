//! What a worker was told of models and tables: numbers here, each from some batch on.

use crate::compute::{Shape, State};
use crate::models::{self, ASKED, TRAINED};
use crate::tables;
use std::collections::BTreeMap;
use tidemill_proto::control as pb;

/// Numbers, by what they are of and the batch they take effect with.
#[derive(Debug, Default)]
struct Since(BTreeMap<(u32, u64), f64>);

impl Since {
    fn get(&self, of: u32, batch: u64) -> f64 {
        let told = self.0.get(&(of, batch));
        *told.unwrap_or_else(|| panic!("nobody has told of number {of} of batch {batch}"))
    }

    /// The batch since which it is what a batch sees.
    fn newest(&self, of: u32, batch: u64) -> Option<u64> {
        self.0.range((of, 0)..=(of, batch)).next_back().map(|((_, since), _)| *since)
    }

    /// Batches up to this one never run again.
    fn settle(&mut self, through: u64) {
        let settled: BTreeMap<u32, u64> = self.0.keys().filter(|(_, batch)| *batch <= through).copied().collect();
        self.0.retain(|(of, batch), _| settled.get(of).is_none_or(|last| batch >= last));
    }
}

/// Imported models and new contents of tables.
#[derive(Debug, Default)]
pub(crate) struct Told {
    models: Since,
    tables: Since,
}

impl Told {
    pub(crate) fn imported(&mut self, message: &pb::ImportedModel) {
        self.models.0.insert((message.model, message.batch), models::value(&message.bytes));
    }

    pub(crate) fn reloaded(&mut self, message: &pb::ReloadedTable) {
        self.tables.0.insert((message.table, message.batch), tables::value(&message.bytes));
    }

    /// Batches up to this one never run again.
    pub(crate) fn settle(&mut self, through: u64) {
        self.models.settle(through);
        self.tables.settle(through);
    }

    /// What is added to every value of a task: what models say, and what is in tables. `read` holds what owners of models have said,
    /// in order.
    pub(crate) fn added(&self, shape: &Shape, task: &pb::Task, read: &[f64]) -> Option<f64> {
        assert!(task.models.iter().all(|at| at.answers == at.model), "no champion is published here");
        let mut read = read.iter().copied();
        let models = task.models.iter().filter_map(|at| match (at.model, at.owner, at.version) {
            (ASKED, 0, 0) => None,
            (ASKED, 0, version) => Some(self.models.get(ASKED, version)),
            (TRAINED, 0, version) => {
                assert_eq!((version, at.after_training), (task.batch, false), "an import is asked in its batch");
                Some(models::of_import(shape, self.models.get(TRAINED, version)))
            }
            (TRAINED, ..) => Some(read.next().expect("the owner was asked")),
            (model, owner, _) => panic!("model {model} of worker {owner}"),
        });
        let tables = task.tables.iter().map(|at| {
            assert_eq!(
                self.tables.newest(at.table, task.batch),
                Some(at.since),
                "the worker has it as of another batch"
            );
            self.tables.get(at.table, at.since)
        });
        models::together(models.chain(tables))
    }

    /// What a unit of a task begins anew with.
    pub(crate) fn begins(&self, shape: &Shape, task: &pb::Task, group: u32) -> Option<State> {
        let home = shape.topology.models[TRAINED as usize].home == Some((task.stage as usize, group as usize));
        let imported = home && task.imported_models.contains(&TRAINED);
        imported.then(|| models::state(shape, self.models.get(TRAINED, task.batch)))
    }
}
