//! `map_with_state` and `state_snapshots`: the state operator behind the records, or behind aggregates per key.

use super::expr::check_names;
use super::scope::{Analysed, Scope, Seer};
use super::stages::{Lane, Part, Rows, project};
use super::state::{defaults, key_fields, state_fields, written};
use super::{Compiler, Failure};
use crate::blame::Written;
use crate::map_state::{MapOp, MapSteps, Timeout};
use crate::state::StageState;
use crate::visit::UPDATED_COLUMN;
use datafusion::arrow::array::{RecordBatch, new_null_array};
use datafusion::arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef};
use datafusion::common::{Result, ScalarValue};
use datafusion::physical_expr::PhysicalExpr;
use std::sync::Arc;
use std::time::Duration;
use tidemill_common::diag::Diagnostic;
use tidemill_job::{MapWithState, Name, NamedSql, Operator, Per, Sql, StreamDef};

/// Whether the key had state before, and whether it is visited because it times out.
const FLAGS: [&str; 2] = ["state_exists", "timing_out"];

impl Compiler<'_> {
    /// `map_with_state`
    pub(super) fn map_with_state(&mut self, input: Rows, map: &MapWithState, name: &Name) -> Option<Rows> {
        let schema = input.schema();
        let names = map.key.iter().chain(map.state.iter().map(|column| &column.name));
        self.report(check_names(names.map(|n| (n.text.as_str(), &n.span))));
        let emit = map.emit.clone().unwrap_or_else(|| key_and_state(map));
        self.report(check_names(emit.iter().map(|column| (column.name.text.as_str(), &column.name.span))));
        let keys = self.keys(&schema, &map.key);
        let per_record = map.per == Per::Record;
        let scope = Scope {
            input: schema.clone(),
            keys: &map.key,
            columns: &map.state,
            per_record,
            flags: &FLAGS,
            begins_null: map.initial.is_none(),
        };
        let condition = |sql, name| Seer { sql, condition: Some(name) };
        let mut seers: Vec<_> = emit.iter().map(|column| Seer { sql: &column.sql, condition: None }).collect();
        seers.extend(map.emit_when.as_ref().map(|sql| condition(sql, "emit_when")));
        seers.extend(map.remove_when.as_ref().map(|sql| condition(sql, "remove_when")));
        let (analysed, types) = self.settle(&scope, &seers)?;
        let keys = keys?;
        let absent = self.absent(&schema, &analysed)?;
        let head = match map.per {
            Per::Record => self.by_key(input, &keys, &analysed.records, name)?,
            Per::Key => self.keyed_aggregate(input, &keys, &analysed.aggregates, name)?,
        };
        let key_fields = key_fields(&schema, &keys);
        let state_fields = state_fields(&map.state, types);
        let stored_fields = stored_fields(&state_fields, map.timeout);
        let initial = match &map.initial {
            None => None,
            Some(path) => {
                let rows = self.initial(path, &key_fields, &state_fields)?;
                Some(self.checked(undated(rows, &key_fields, &stored_fields))?)
            }
        };
        let timeout = map.timeout.map(|timeout| Timeout {
            after_ms: millis(timeout),
            initial_age_ms: millis(self.def.settings.batch_interval),
        });
        let Analysed { schema, updates, mut seers, .. } = analysed;
        let mut condition = |sql: &Option<Sql>, column| {
            let sql = sql.as_ref()?;
            Some(Written::new(seers.pop()?, name, column, sql))
        };
        let remove_when = condition(&map.remove_when, "remove_when");
        let emit_when = condition(&map.emit_when, "emit_when");
        let emitted = Arc::new(self.emitted(&emit, &seers, schema.as_arrow())?);
        let updates = written(updates, &map.state, name);
        let columns = seers.into_iter().zip(&emit);
        let emit = columns.map(|(expr, column)| Written::new(expr, name, &column.name.text, &column.sql)).collect();
        let steps = MapSteps { schema: schema.inner().clone(), updates, emit, emit_when, remove_when, absent };
        let rows = emitted.clone();
        let state = MapOp { key_fields, state_fields, stored_fields, emitted, timeout, initial, steps };
        Some(self.stages.seal_with_state(head, StageState::Map(state), &rows))
    }

    /// `state_snapshots`
    pub(super) fn state_snapshots(&mut self, inputs: &[Rows], from: &[Name]) -> Option<Rows> {
        let ([input], [from]) = (inputs, from) else {
            return None;
        };
        let stateful =
            |stream: &StreamDef| matches!(stream.operator, Operator::UpdateStateByKey(_) | Operator::MapWithState(_));
        match self.stages.snapshots(input).filter(|_| self.def.stream(&from.text).is_some_and(stateful)) {
            Some(rows) => Some(rows),
            None => {
                let wrong = Diagnostic::new(format!("`{}` keeps no state", from.text)).at(from.span.clone());
                let help = "`state_snapshots` reads a stream made by `map_with_state` or `update_state_by_key`";
                self.report([wrong.label("expected a stream with state").help(help)]);
                None
            }
        }
    }

    /// Key columns, then what expressions see of a record, at the key groups of the keys.
    fn by_key(&mut self, input: Rows, keys: &[usize], records: &[usize], name: &Name) -> Option<Lane> {
        let columns: Vec<_> = keys.iter().chain(records).copied().collect();
        let rows = input.each(|lane| {
            let plan = project(&lane.visible()?, &columns)?;
            Ok::<_, Failure>(Lane { plan, part: Part::Branch { keyed: false }, ..lane })
        });
        let rows = self.checked(rows)?;
        let hashed = self.stages.hash(rows, (0..keys.len()).collect(), &name.text);
        self.checked(hashed)
    }

    /// What expressions see in place of records, for a key without: nulls, or the aggregates over no rows.
    fn absent(&mut self, input: &SchemaRef, analysed: &Analysed) -> Option<Vec<ScalarValue>> {
        let nulls = analysed.records.iter().map(|&i| ScalarValue::try_from(input.field(i).data_type()));
        let mut absent = self.checked(nulls.collect::<Result<Vec<_>>>())?;
        let defaults = defaults(self, input, &analysed.aggregates);
        absent.extend(self.checked(defaults)?);
        Some(absent)
    }

    fn emitted(&mut self, columns: &[NamedSql], exprs: &[Arc<dyn PhysicalExpr>], schema: &Schema) -> Option<Schema> {
        let types = exprs.iter().map(|expr| expr.data_type(schema)).collect::<Result<Vec<_>>>();
        let types = self.checked(types)?;
        let fields = columns.iter().zip(types).map(|(column, t)| Field::new(&column.name.text, t, true));
        Some(Schema::new(fields.collect::<Vec<_>>()))
    }
}

/// What comes out if nothing is said.
fn key_and_state(map: &MapWithState) -> Vec<NamedSql> {
    let quoted = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
    let column =
        |name: &Name, text: String| NamedSql { name: name.clone(), sql: Sql { text, span: name.span.clone() } };
    let keys = map.key.iter().map(|key| column(key, quoted(&key.text)));
    let state = map.state.iter().map(|c| column(&c.name, format!("state.{}", quoted(&c.name.text))));
    keys.chain(state).collect()
}

fn stored_fields(state: &Fields, timeout: Option<Duration>) -> Fields {
    let updated = timeout.map(|_| Arc::new(Field::new(UPDATED_COLUMN, DataType::Int64, true)));
    state.iter().cloned().chain(updated).collect()
}

/// Initial state in the form of a partition: the first batch dates it.
fn undated(rows: RecordBatch, keys: &Fields, stored: &Fields) -> Result<RecordBatch> {
    let fields: Vec<_> = keys.iter().chain(stored).cloned().collect();
    let mut columns = rows.columns().to_vec();
    columns.extend(fields[columns.len()..].iter().map(|field| new_null_array(field.data_type(), rows.num_rows())));
    Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?)
}

pub(super) fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
