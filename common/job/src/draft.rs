//! A definition as it was read, in which anything may be wrong.

use super::{JobDef, ModelDef, Name, Operator, OutputDef, Settings, SourceDef, StreamDef, TableDef};
use std::collections::HashSet;
use std::time::Duration;

/// A source, stream, table or output that may have mistakes of its own; what is known of it is still checked.
pub(super) struct Draft<T> {
    pub(super) name: Option<Name>,
    /// What it reads.
    pub(super) from: Vec<Name>,
    /// None if something is wrong with it.
    pub(super) def: Option<T>,
}

/// A whole definition.
pub(super) struct Drafts {
    pub(super) name: Option<Name>,
    pub(super) settings: Option<Settings>,
    pub(super) sources: Vec<Draft<SourceDef>>,
    pub(super) models: Vec<Draft<ModelDef>>,
    pub(super) streams: Vec<Draft<StreamDef>>,
    pub(super) outputs: Vec<Draft<OutputDef>>,
    pub(super) tables: Vec<Draft<TableDef>>,
}

impl Drafts {
    /// The job, if nothing of it is missing.
    pub(super) fn whole(self) -> Option<JobDef> {
        Some(JobDef {
            name: self.name?.text,
            settings: self.settings?,
            sources: all(self.sources)?,
            models: all(self.models)?,
            streams: all(self.streams)?,
            outputs: all(self.outputs)?,
            tables: all(self.tables)?,
        })
    }

    /// A job of what is good. None where what is wrong could make good streams look wrong: expressions ask models, and
    /// models may come from files.
    pub(super) fn good_part(self) -> Option<JobDef> {
        let models = all(self.models)?;
        if models.iter().any(|model| model.initial.is_some()) {
            return None;
        }
        let known: HashSet<&str> = models.iter().map(|model| model.name.text.as_str()).collect();
        let mut names: HashSet<String> = HashSet::new();
        let mut streams: Vec<StreamDef> = Vec::new();
        for mut def in self.streams.into_iter().filter_map(|draft| draft.def) {
            let asks_known = match &mut def.operator {
                Operator::Train(train) => known.contains(train.model.text.as_str()),
                Operator::Choose(choose) => {
                    choose.publish.is_none() || choose.losses.iter().all(|loss| known.contains(loss.name.text.as_str()))
                }
                Operator::UpdateStateByKey(update) => {
                    update.initial = None;
                    true
                }
                Operator::MapWithState(map) => {
                    map.initial = None;
                    true
                }
                _ => true,
            };
            if asks_known && names.insert(def.name.text.clone()) {
                streams.push(def);
            }
        }
        Some(JobDef {
            name: self.name.map(|name| name.text).unwrap_or_default(),
            settings: self.settings.unwrap_or_else(|| Settings::with_batch_interval(Duration::from_secs(1))),
            sources: self.sources.into_iter().filter_map(|draft| draft.def).collect(),
            models,
            streams,
            outputs: self.outputs.into_iter().filter_map(|draft| draft.def).collect(),
            tables: Vec::new(),
        })
    }
}

fn all<T>(drafts: Vec<Draft<T>>) -> Option<Vec<T>> {
    drafts.into_iter().map(|draft| draft.def).collect()
}
