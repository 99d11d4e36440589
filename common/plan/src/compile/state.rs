//! `update_state_by_key`: a head that aggregates the batch per key, and the state operator behind it.

use super::Compiler;
use super::aggregate::plan_physical;
use super::aggregate::{Aggregates, lift, scan};
use super::expr::{Allowed, INPUT, cast_to, check_names, diagnose, parse, physical, plain_type, type_name};
use super::stages::Rows;
use crate::clock;
use crate::decode::arrow_type;
use crate::fragment;
use crate::session::Shape;
use crate::state::{StateOp, Steps};
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema, SchemaRef};
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::common::{Column, DFSchema, Result, ScalarValue, TableReference};
use datafusion::logical_expr::Expr;
use datafusion::physical_expr::PhysicalExpr;
use futures::executor::block_on;
use std::collections::HashMap;
use std::sync::Arc;
use tidemill_common::diag::Diagnostic;
use tidemill_common::job::{Name, Sql, StateColumn, UpdateStateByKey};

/// How users qualify state columns.
const STATE: &str = "state";
/// Types settle after at most this many rounds, or have to be declared.
const ROUNDS: usize = 5;

/// What the expressions of one operator are made over.
struct Scope<'a> {
    input: SchemaRef,
    keys: &'a [Name],
    columns: &'a [StateColumn],
}

/// The expressions for given types of the state.
struct Analysed {
    aggregates: Aggregates,
    /// Key, state, aggregates.
    schema: DFSchema,
    updates: Vec<Arc<dyn PhysicalExpr>>,
    drop_when: Option<Arc<dyn PhysicalExpr>>,
}

impl Compiler<'_> {
    /// `update_state_by_key`
    pub(super) fn update_state_by_key(&mut self, input: Rows, update: &UpdateStateByKey, name: &Name) -> Option<Rows> {
        let schema = input.schema();
        let names = update.key.iter().chain(update.state.iter().map(|column| &column.name));
        self.report(check_names(names.map(|n| (n.text.as_str(), &n.span))));
        let keys = self.keys(&schema, &update.key);
        let scope = Scope { input: schema.clone(), keys: &update.key, columns: &update.state };
        let (analysed, types) = self.settle(&scope, update.drop_when.as_ref())?;
        let keys = keys?;
        let key_fields: Fields = keys.iter().map(|&i| nullable(schema.field(i))).collect();
        let state_fields: Fields = update
            .state
            .iter()
            .zip(types)
            .map(|(column, data_type)| Field::new(&column.name.text, data_type, true))
            .collect();
        let head = self.keyed_aggregate(input, &keys, &analysed.aggregates, name)?;
        let defaults = defaults(self, &schema, &analysed.aggregates);
        let defaults = self.checked(defaults)?;
        let initial = match &update.initial {
            None => None,
            Some(path) => Some(self.initial(path, &key_fields, &state_fields)?),
        };
        let Analysed { schema, updates, drop_when, .. } = analysed;
        let steps = Steps { schema: schema.inner().clone(), updates, drop_when, defaults };
        let state = StateOp { key_fields, state_fields, update: update.update, emit: update.emit, initial, steps };
        Some(self.stages.seal_with_state(head, state))
    }

    /// Finds the types of state columns that are not declared: from null on, until nothing changes.
    fn settle(&mut self, scope: &Scope<'_>, drop_when: Option<&Sql>) -> Option<(Analysed, Vec<DataType>)> {
        let declared = |column: &StateColumn| column.data_type.map(arrow_type);
        let mut types: Vec<_> = scope.columns.iter().map(|c| declared(c).unwrap_or(DataType::Null)).collect();
        let mut changed = Vec::new();
        for _ in 0..ROUNDS {
            let mut analysed = self.analyse(scope, &types, None)?;
            changed.clear();
            for (i, update) in analysed.updates.iter_mut().enumerate() {
                let column = &scope.columns[i];
                let schema = analysed.schema.as_arrow();
                if declared(column).is_some() {
                    continue;
                }
                let found = plain_type(&self.checked(update.data_type(schema))?);
                if found != types[i] {
                    types[i] = found;
                    changed.push(column);
                }
            }
            if changed.is_empty() {
                changed.extend(scope.columns.iter().zip(&types).filter(|(_, t)| t.is_null()).map(|(c, _)| c));
                break;
            }
        }
        for column in &changed {
            let unclear = format!("the type of `state.{}` does not follow from its update", column.name.text);
            let help = format!("declare it: `{} = {{ type = \"..\", update = \"..\" }}`", column.name.text);
            self.report([Diagnostic::new(unclear).at(column.update.span.clone()).help(help)]);
        }
        if !changed.is_empty() {
            return None;
        }
        let analysed = self.analyse(scope, &types, drop_when)?;
        Some((analysed, types))
    }

    /// Reads all expressions for these types of the state; each update gives its column's type, as far as known.
    fn analyse(&mut self, scope: &Scope<'_>, types: &[DataType], drop_when: Option<&Sql>) -> Option<Analysed> {
        let seen = self.checked(scope.seen(types))?;
        let input = self.df_schema(&scope.input)?;
        let mut aggregates = Aggregates::default();
        let sqls = scope.columns.iter().map(|column| &column.update).chain(drop_when);
        let mut exprs = Vec::new();
        for sql in sqls {
            let expr = parse(&self.session, sql, &seen, Allowed::Aggregates)
                .and_then(|expr| scope.resolve(expr, sql))
                .and_then(|expr| lift(&mut aggregates, expr, &input, sql))
                .and_then(|expr| scope.place(expr, sql));
            exprs.extend(self.reported(expr).map(|expr| (sql, expr)));
        }
        if exprs.len() < scope.columns.len() + usize::from(drop_when.is_some()) {
            return None;
        }
        let fields = self.checked(aggregates.fields(&input))?;
        let schema = self.df_schema(&Arc::new(scope.placed(types, fields)))?;
        let mut prepared = Vec::with_capacity(exprs.len());
        for (i, (sql, expr)) in exprs.into_iter().enumerate() {
            let data_type = types.get(i).unwrap_or(&DataType::Boolean);
            let expr = physical(&self.session, sql, expr, &schema).and_then(|expr| match data_type {
                DataType::Null => Ok(expr),
                data_type => self.fitting(expr, sql, &schema, data_type, &scope.columns.get(i)),
            });
            prepared.extend(self.reported(expr));
        }
        if prepared.len() < scope.columns.len() + usize::from(drop_when.is_some()) {
            return None;
        }
        let drop_when = drop_when.and_then(|_| prepared.pop());
        Some(Analysed { aggregates, schema, updates: prepared, drop_when })
    }

    /// An update of its column's type; a condition that is one.
    fn fitting(
        &self,
        expr: Arc<dyn PhysicalExpr>,
        sql: &Sql,
        schema: &DFSchema,
        data_type: &DataType,
        column: &Option<&StateColumn>,
    ) -> Result<Arc<dyn PhysicalExpr>, Diagnostic> {
        let found = expr.data_type(schema.as_arrow()).map_err(|error| diagnose(&error, sql))?;
        match column {
            // Not yet settled: the next round is made over what was found.
            Some(column) if column.data_type.is_none() && plain_type(&found) != *data_type => Ok(expr),
            None if found != DataType::Boolean => {
                let wrong = format!("`drop_when` is true or false, not a {}", type_name(&found));
                Err(Diagnostic::new(wrong).at(sql.span.clone()).label("expected a boolean"))
            }
            _ => cast_to(expr, sql, schema.as_arrow(), data_type),
        }
    }
}

impl Scope<'_> {
    /// What users see: the input's columns, and the state's with their qualifier.
    fn seen(&self, types: &[DataType]) -> Result<DFSchema> {
        let relation = |name: &str| Some(TableReference::bare(name.to_string()));
        let input = self.input.fields().iter().map(|field| (relation(INPUT), field.clone()));
        let state = self.columns.iter().zip(types).map(|(column, data_type)| {
            let field = Field::new(&column.name.text, data_type.clone(), true);
            (relation(STATE), Arc::new(field) as FieldRef)
        });
        DFSchema::new_with_metadata(input.chain(state).collect(), HashMap::new())
    }

    /// Columns of the input lose their qualifier; an aggregate must not look at the state.
    fn resolve(&self, expr: Expr, sql: &Sql) -> Result<Expr, Diagnostic> {
        let mut wrong = None;
        let resolved = expr.transform_down(|node| {
            if let Expr::AggregateFunction(call) = &node {
                let state = node.column_refs().iter().any(|column| is_state(column, &self.input));
                if state {
                    wrong = Some(format!("`{}` goes over records, which do not have the state", call.func.name()));
                }
            }
            Ok(match node {
                Expr::Column(column) if !is_state(&column, &self.input) => {
                    Transformed::yes(Expr::Column(Column::new_unqualified(column.name)))
                }
                node => Transformed::no(node),
            })
        });
        let resolved = resolved.data().map_err(|error| diagnose(&error, sql))?;
        match wrong {
            None => Ok(resolved),
            Some(wrong) => Err(Diagnostic::new(wrong).at(sql.span.clone())),
        }
    }

    /// From the columns users see to those the operator has.
    fn place(&self, expr: Expr, sql: &Sql) -> Result<Expr, Diagnostic> {
        let mut wrong = None;
        let placed = expr.transform_up(|node| {
            let Expr::Column(column) = node else {
                return Ok(Transformed::no(node));
            };
            let name = if column.relation.is_some() {
                state_name(&column.name)
            } else if self.keys.iter().any(|key| key.text == column.name) {
                key_name(&column.name)
            } else {
                if !column.name.starts_with("__aggregate_") {
                    wrong = Some(column.name.clone());
                }
                column.name
            };
            Ok(Transformed::yes(Expr::Column(Column::new_unqualified(name))))
        });
        let placed = placed.data().map_err(|error| diagnose(&error, sql))?;
        match wrong {
            None => Ok(placed),
            Some(name) => Err(Diagnostic::new(format!("`{name}` has many values here, not one"))
                .at(sql.span.clone())
                .label("expected state, a key or an aggregate")
                .help(format!("say which one is meant, for example `max({name})`"))),
        }
    }

    fn placed(&self, types: &[DataType], aggregates: Vec<Field>) -> Schema {
        let keys = self.keys.iter().map(|key| {
            let field = self.input.field_with_name(&key.text);
            let data_type = field.map_or(DataType::Null, |field| field.data_type().clone());
            Field::new(key_name(&key.text), data_type, true)
        });
        let state = self
            .columns
            .iter()
            .zip(types)
            .map(|(column, data_type)| Field::new(state_name(&column.name.text), data_type.clone(), true));
        Schema::new(keys.chain(state).chain(aggregates).collect::<Vec<_>>())
    }
}

/// A column of the state: qualified, or of a name that the input does not have.
fn is_state(column: &Column, input: &Schema) -> bool {
    match &column.relation {
        Some(relation) => relation.table() == STATE,
        None => !column.name.starts_with("__aggregate_") && input.index_of(&column.name).is_err(),
    }
}

fn key_name(name: &str) -> String {
    format!("key.{name}")
}

fn state_name(name: &str) -> String {
    format!("state.{name}")
}

fn nullable(field: &Field) -> Field {
    Field::new(field.name(), field.data_type().clone(), true)
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
