//! What the expressions of an operator with state see, and the types of its state.
//!
//! Users see the columns of the input, `state.x` and `old.x`, and flags such as `timing_out`. The operator has the key,
//! the old state, records or aggregates over them, the flags, and the new state; here is how one becomes the other.

use super::aggregate::{Aggregates, lift};
use super::assign;
use super::expr::{Allowed, INPUT, cast_to, diagnose, parse_qualified, physical, plain_type};
use super::{Compiler, stays_null};
use crate::decode::arrow_type;
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, Result, TableReference};
use datafusion::logical_expr::{Expr, cast as logical_cast};
use datafusion::physical_expr::PhysicalExpr;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use tidemill_common::diag::Diagnostic;
use tidemill_job::{Name, Sql, StateColumn};
use tidemill_rows::type_name;

/// How users qualify the state: as it is before the change in updates, as it is after it elsewhere.
const STATE: &str = "state";
/// How users qualify the state before the change.
const OLD: &str = "old";
/// Types settle after at most this many rounds, or have to be declared.
const ROUNDS: usize = 5;

/// What the expressions of one operator are made over.
pub(super) struct Scope<'a> {
    pub(super) input: SchemaRef,
    pub(super) keys: &'a [Name],
    pub(super) columns: &'a [StateColumn],
    /// Expressions see one record, and not aggregates over all records of a key.
    pub(super) per_record: bool,
    /// Booleans that users see beside the columns.
    pub(super) flags: &'a [&'a str],
    /// The state of every key begins as null.
    pub(super) begins_null: bool,
}

/// An expression that is not an update: it sees the new state.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seer<'a> {
    pub(super) sql: &'a Sql,
    /// The key of a condition, which has to be true or false.
    pub(super) condition: Option<&'static str>,
}

/// The expressions for given types of the state.
pub(super) struct Analysed {
    pub(super) aggregates: Aggregates,
    /// Columns of the input that expressions over single records see.
    pub(super) records: Vec<usize>,
    /// Keys, old state, records or aggregates, flags, new state.
    pub(super) schema: DFSchema,
    /// One per state column, of its type.
    pub(super) updates: Vec<Arc<dyn PhysicalExpr>>,
    pub(super) seers: Vec<Arc<dyn PhysicalExpr>>,
    /// State that never gets a value.
    pub(super) stay_null: Vec<Diagnostic>,
}

/// What an expression has to give.
enum Fit<'a> {
    Update(&'a StateColumn, &'a DataType),
    Condition(&'static str),
    Value,
}

impl Compiler<'_> {
    /// Finds the types of state columns that are not declared: from null on, until nothing changes.
    pub(super) fn settle(&mut self, scope: &Scope<'_>, seers: &[Seer<'_>]) -> Option<(Analysed, Vec<DataType>)> {
        self.report(scope.taken_flags(&self.place));
        let declared = |column: &StateColumn| column.data_type.map(arrow_type);
        let mut types: Vec<_> = scope.columns.iter().map(|c| declared(c).unwrap_or(DataType::Null)).collect();
        let mut changed = Vec::new();
        for _ in 0..ROUNDS {
            let analysed = self.analyse(scope, &types, &[])?;
            changed.clear();
            for (i, update) in analysed.updates.iter().enumerate() {
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
        let mut analysed = self.analyse(scope, &types, seers)?;
        std::mem::take(&mut analysed.stay_null).into_iter().for_each(|warning| self.warnings.push(warning));
        Some((analysed, types))
    }

    /// Reads all expressions for these types of the state; each update gives its column's type, as far as known.
    fn analyse(&mut self, scope: &Scope<'_>, types: &[DataType], seers: &[Seer<'_>]) -> Option<Analysed> {
        let seen = self.checked(scope.seen(types))?;
        let input = self.df_schema(&scope.input)?;
        let mut aggregates = Aggregates::default();
        let updates = scope.columns.iter().zip(types).map(|(c, data_type)| (&c.update, Fit::Update(c, data_type)));
        let seers = seers.iter().map(|seer| (seer.sql, seer.condition.map_or(Fit::Value, Fit::Condition)));
        let all: Vec<_> = updates.chain(seers).collect();
        let allowed = if scope.per_record { Allowed::PerRow } else { Allowed::Aggregates };
        let mut exprs = Vec::new();
        for (sql, fit) in &all {
            let expr = parse_qualified(&self.session, sql, &seen, allowed, |name| scope.qualifier(name))
                .and_then(|expr| scope.place(expr, sql, matches!(fit, Fit::Update(..))))
                .and_then(|expr| lift(&mut aggregates, expr, &input, sql));
            exprs.extend(self.reported(expr));
        }
        if exprs.len() < all.len() {
            return None;
        }
        let stay_null = match scope.begins_null {
            true => stays_null::warnings(scope.columns, &exprs[..scope.columns.len()]),
            false => Vec::new(),
        };
        let records = scope.records(&exprs);
        let mut fields: Vec<_> = records.iter().map(|&i| renamed(scope.input.field(i), record_name)).collect();
        fields.extend(self.checked(aggregates.fields(&input))?);
        let schema = self.df_schema(&Arc::new(scope.placed(types, fields)))?;
        let mut prepared = Vec::with_capacity(exprs.len());
        for ((sql, fit), expr) in all.iter().zip(exprs) {
            let planned = physical(&self.session, sql, expr.clone(), &schema);
            let planned = planned.and_then(|planned| self.fitting(planned, expr, sql, &schema, fit));
            prepared.extend(self.reported(planned));
        }
        if prepared.len() < all.len() {
            return None;
        }
        let seers = prepared.split_off(scope.columns.len());
        Some(Analysed { aggregates, records, schema, updates: prepared, seers, stay_null })
    }

    /// An update of its column's type; a condition that is one; a value of a plain type.
    fn fitting(
        &self,
        planned: Arc<dyn PhysicalExpr>,
        expr: Expr,
        sql: &Sql,
        schema: &DFSchema,
        fit: &Fit<'_>,
    ) -> Result<Arc<dyn PhysicalExpr>, Diagnostic> {
        let arrow = schema.as_arrow();
        let found = plain_type(&planned.data_type(arrow).map_err(|error| diagnose(&error, sql))?);
        match fit {
            Fit::Update(_, DataType::Null) => Ok(planned),
            Fit::Update(_, data_type) if found == **data_type => cast_to(planned, sql, arrow, data_type),
            // Not yet settled: the next round is made over what was found.
            Fit::Update(column, _) if column.data_type.is_none() => Ok(planned),
            Fit::Update(_, data_type) => match assign::refused(&found, data_type) {
                Some(wrong) => Err(Diagnostic::new(wrong).at(sql.span.clone()).help(assign::mend(&found, data_type))),
                None => physical(&self.session, sql, logical_cast(expr, (*data_type).clone()), schema),
            },
            Fit::Condition(_) if found == DataType::Boolean => Ok(planned),
            Fit::Condition(key) => {
                let wrong = format!("`{key}` is true or false, not a {}", type_name(&found));
                Err(Diagnostic::new(wrong).at(sql.span.clone()).label("expected a boolean"))
            }
            Fit::Value => cast_to(planned, sql, arrow, &found),
        }
    }
}

impl Scope<'_> {
    /// What users see: the input's columns and flags, and the state's with their qualifiers.
    fn seen(&self, types: &[DataType]) -> Result<DFSchema> {
        let relation = |name: &str| Some(TableReference::bare(name.to_string()));
        let input = self.input.fields().iter().cloned();
        let flags = self.flags.iter().map(|flag| Arc::new(Field::new(*flag, DataType::Boolean, false)));
        let mut all: Vec<(_, FieldRef)> = input.chain(flags).map(|field| (relation(INPUT), field)).collect();
        for qualifier in [STATE, OLD] {
            all.extend(self.columns.iter().zip(types).map(|(column, data_type)| {
                let field = Field::new(&column.name.text, data_type.clone(), true);
                (relation(qualifier), Arc::new(field) as FieldRef)
            }));
        }
        DFSchema::new_with_metadata(all, HashMap::new())
    }

    /// What a name without a qualifier belongs to.
    fn qualifier(&self, name: &str) -> Option<&'static str> {
        if self.input.index_of(name).is_ok() || self.flags.contains(&name) {
            return Some(INPUT);
        }
        self.has_state(name).then_some(STATE)
    }

    fn has_state(&self, name: &str) -> bool {
        self.columns.iter().any(|column| column.name.text == name)
    }

    /// Columns of the input that have the name of a flag.
    fn taken_flags(&self, place: &std::ops::Range<usize>) -> Vec<Diagnostic> {
        let taken = self.flags.iter().filter(|flag| self.input.index_of(flag).is_ok());
        let mistake = |flag: &&str| {
            let taken =
                Diagnostic::new(format!("a column of the input is called `{flag}`, which says something else here"));
            taken.at(place.clone()).help("give the column another name with `select`")
        };
        taken.map(mistake).collect()
    }

    /// From the columns users see to those the operator has. Within aggregates stand columns of the input alone.
    fn place(&self, expr: Expr, sql: &Sql, update: bool) -> Result<Expr, Diagnostic> {
        let mut wrong = None;
        let placed = expr.transform_down(|node| match node {
            Expr::AggregateFunction(ref call) => {
                let of_input =
                    |column: &&Column| relation(column) == INPUT && !self.flags.contains(&column.name.as_str());
                if !node.column_refs().iter().all(of_input) {
                    let message = format!("`{}` goes over records, which do not have the state", call.func.name());
                    wrong = Some(Diagnostic::new(message).at(sql.span.clone()));
                }
                let node = node.transform_down(|node| {
                    Ok(match node {
                        Expr::Column(column) => Transformed::yes(Expr::Column(Column::new_unqualified(column.name))),
                        node => Transformed::no(node),
                    })
                });
                Ok(Transformed::new(node.data()?, true, TreeNodeRecursion::Jump))
            }
            Expr::Column(column) => {
                let name = self.name(&column, update).unwrap_or_else(|| {
                    wrong = Some(many_values(&column.name, sql));
                    column.name.clone()
                });
                Ok(Transformed::yes(Expr::Column(Column::new_unqualified(name))))
            }
            node => Ok(Transformed::no(node)),
        });
        let placed = placed.data().map_err(|error| diagnose(&error, sql))?;
        wrong.map_or(Ok(placed), Err)
    }

    /// The operator's name of a column, if that has one value here.
    fn name(&self, column: &Column, update: bool) -> Option<String> {
        let name = column.name.as_str();
        let state = || if update { old_name(name) } else { state_name(name) };
        match relation(column) {
            STATE => Some(state()),
            OLD => Some(old_name(name)),
            _ if self.keys.iter().any(|key| key.text == name) => Some(key_name(name)),
            _ if self.flags.contains(&name) => Some(flag_name(name)),
            _ if self.per_record => Some(record_name(name)),
            _ => self.has_state(name).then(state),
        }
    }

    /// Columns of the input that these expressions see of a record.
    fn records(&self, exprs: &[Expr]) -> Vec<usize> {
        let seen: BTreeSet<_> = exprs.iter().flat_map(Expr::column_refs).map(|column| column.name.as_str()).collect();
        let fields = self.input.fields().iter().enumerate();
        fields.filter(|(_, field)| seen.contains(record_name(field.name()).as_str())).map(|(i, _)| i).collect()
    }

    fn placed(&self, types: &[DataType], rows: Vec<Field>) -> Schema {
        let keys = self.keys.iter().map(|key| {
            let field = self.input.field_with_name(&key.text);
            let data_type = field.map_or(DataType::Null, |field| field.data_type().clone());
            Field::new(key_name(&key.text), data_type, true)
        });
        let state = |name: fn(&str) -> String| {
            let columns = self.columns.iter().zip(types);
            columns.map(move |(column, data_type)| Field::new(name(&column.name.text), data_type.clone(), true))
        };
        let flags = self.flags.iter().map(|flag| Field::new(flag_name(flag), DataType::Boolean, false));
        let before = keys.chain(state(old_name)).chain(rows).chain(flags);
        Schema::new(before.chain(state(state_name)).collect::<Vec<_>>())
    }
}

fn relation(column: &Column) -> &str {
    column.relation.as_ref().map_or(INPUT, |relation| relation.table())
}

fn many_values(name: &str, sql: &Sql) -> Diagnostic {
    Diagnostic::new(format!("`{name}` has many values here, not one"))
        .at(sql.span.clone())
        .label("expected state, a key or an aggregate")
        .help(format!("say which one is meant, for example `max({name})`"))
}

/// The same column, nullable, under the operator's name.
fn renamed(field: &Field, name: fn(&str) -> String) -> Field {
    Field::new(name(field.name()), field.data_type().clone(), true)
}

fn key_name(name: &str) -> String {
    format!("key.{name}")
}

pub(super) fn old_name(name: &str) -> String {
    format!("old.{name}")
}

fn state_name(name: &str) -> String {
    format!("state.{name}")
}

fn record_name(name: &str) -> String {
    format!("record.{name}")
}

fn flag_name(name: &str) -> String {
    format!("flag.{name}")
}
