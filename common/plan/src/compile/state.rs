//! `update_state_by_key`: a head that aggregates the batch per key, and the state operator behind it.

use super::Compiler;
use super::aggregate::{Aggregates, plan_physical, scan};
use super::expr::check_names;
use super::scope::{Analysed, Scope, Seer};
use super::stages::Rows;
use crate::blame::Written;
use crate::clock;
use crate::fragment;
use crate::session::Shape;
use crate::state::{StageState, StateOp, Steps};
use datafusion::arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef};
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::Expr;
use datafusion::physical_expr::PhysicalExpr;
use futures::executor::block_on;
use std::sync::Arc;
use tidemill_job::{Name, StateColumn, UpdateStateByKey};

impl Compiler<'_> {
    /// `update_state_by_key`
    pub(super) fn update_state_by_key(&mut self, input: Rows, update: &UpdateStateByKey, name: &Name) -> Option<Rows> {
        let schema = input.schema();
        let names = update.key.iter().chain(update.state.iter().map(|column| &column.name));
        self.report(check_names(names.map(|n| (n.text.as_str(), &n.span))));
        let keys = self.keys(&schema, &update.key);
        let scope = Scope {
            input: schema.clone(),
            keys: &update.key,
            columns: &update.state,
            per_record: false,
            flags: &[],
            begins_null: update.initial.is_none(),
        };
        let drop_when = update.drop_when.as_ref().map(|sql| Seer { sql, condition: Some("drop_when") });
        let (analysed, types) = self.settle(&scope, drop_when.as_slice())?;
        let keys = keys?;
        let key_fields = key_fields(&schema, &keys);
        let state_fields = state_fields(&update.state, types);
        let head = self.keyed_aggregate(input, &keys, &analysed.aggregates, name)?;
        let defaults = defaults(self, &schema, &analysed.aggregates);
        let defaults = self.checked(defaults)?;
        let initial = match &update.initial {
            None => None,
            Some(path) => Some(self.initial(path, &key_fields, &state_fields)?),
        };
        let Analysed { schema, updates, mut seers, .. } = analysed;
        let updates = written(updates, &update.state, name);
        let drop_when = seers.pop().zip(update.drop_when.as_ref());
        let drop_when = drop_when.map(|(expr, sql)| Written::new(expr, name, "drop_when", sql));
        let steps = Steps { schema: schema.inner().clone(), updates, drop_when, defaults };
        let rows: Vec<_> = key_fields.iter().chain(&state_fields).cloned().collect();
        let state = StateOp { key_fields, state_fields, update: update.update, emit: update.emit, initial, steps };
        Some(self.stages.seal_with_state(head, StageState::ByKey(state), &Schema::new(rows)))
    }
}

/// The updates of state columns of a stream.
pub(super) fn written(updates: Vec<Arc<dyn PhysicalExpr>>, columns: &[StateColumn], stream: &Name) -> Vec<Written> {
    let written = |(expr, column): (_, &StateColumn)| Written::new(expr, stream, &column.name.text, &column.update);
    updates.into_iter().zip(columns).map(written).collect()
}

/// Key columns of an operator with state.
pub(super) fn key_fields(input: &Schema, keys: &[usize]) -> Fields {
    let nullable = |field: &Field| Field::new(field.name(), field.data_type().clone(), true);
    keys.iter().map(|&i| nullable(input.field(i))).collect()
}

/// State columns with the types that were found.
pub(super) fn state_fields(columns: &[StateColumn], types: Vec<DataType>) -> Fields {
    columns.iter().zip(types).map(|(column, data_type)| Field::new(&column.name.text, data_type, true)).collect()
}

/// The aggregates over no rows, by really running them.
pub(super) fn defaults(
    compiler: &Compiler<'_>,
    schema: &SchemaRef,
    aggregates: &Aggregates,
) -> Result<Vec<ScalarValue>> {
    if aggregates.calls.is_empty() {
        return Ok(Vec::new());
    }
    let no_keys: [Expr; 0] = [];
    let plan = scan(schema, Shape::Single)?.aggregate(no_keys, aggregates.named())?.build()?;
    let plan = plan_physical(&compiler.single_session, &plan)?;
    let rows = block_on(clock::at(0, fragment::run_on_nothing(&plan)))?;
    let columns = rows.iter().flat_map(|batch| batch.columns());
    columns.map(|column| ScalarValue::try_from_array(column, 0)).collect()
}
