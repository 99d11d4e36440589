//! SQL expressions: read, checked, and what is wrong with them said where it is wrong.

use super::bounds::{check_expr, check_text};
use super::tried::try_expr;
use crate::clock;
use crate::conditions::lazily;
use crate::guarded::huge_constant;
use crate::numbers::{Numbers, keep_digits, mixed};
use crate::plan::KEY_COLUMN;
use crate::registry::Uses;
use crate::rules::in_micros;
use crate::words::said;
use datafusion::arrow::datatypes::{DataType, Schema};
use datafusion::common::tree_node::{TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, DataFusionError, SchemaError};
use datafusion::execution::context::SessionState;
use datafusion::logical_expr::Expr;
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::optimizer::simplify_expressions::ExprSimplifier;
use datafusion::physical_expr::expressions::cast;
use datafusion::physical_expr::{PhysicalExpr, create_physical_expr};
use datafusion::sql::sqlparser::ast::{self, visit_expressions_mut};
use datafusion::sql::sqlparser::tokenizer;
use std::collections::HashSet;
use std::ops::ControlFlow;
use std::sync::Arc;
use tidemill_common::diag::Diagnostic;
use tidemill_job::limits::MAX_KEY_BYTES;
use tidemill_job::{Name, Span, Sql};

/// Qualifies the columns of the input where there are others, too.
pub(super) const INPUT: &str = "__input";

/// What may stand in an expression.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Allowed {
    /// Only what looks at one row.
    PerRow,
    /// Aggregates, too.
    Aggregates,
}

/// Reads an expression over these columns; the session notes the registered functions in it.
pub(super) fn parse(
    session: &SessionState,
    sql: &Sql,
    schema: &DFSchema,
    allowed: Allowed,
) -> Result<Expr, Diagnostic> {
    parse_qualified(session, sql, schema, allowed, |_| None)
}

/// [`parse`], with a qualifier for names that have none in the text.
pub(super) fn parse_qualified(
    session: &SessionState,
    sql: &Sql,
    schema: &DFSchema,
    allowed: Allowed,
    qualifier: impl Fn(&str) -> Option<&'static str>,
) -> Result<Expr, Diagnostic> {
    check_text(sql)?;
    let dialect = session.config_options().sql_parser.dialect;
    let expr = session
        .sql_to_expr_with_alias(&sql.text, &dialect)
        .and_then(|mut expr| {
            let _ = visit_expressions_mut(&mut expr, |node| {
                if let ast::Expr::Identifier(name) = node
                    && let Some(qualifier) = qualifier(&name.value)
                {
                    let qualifier = ast::Ident { value: qualifier.to_string(), ..name.clone() };
                    *node = ast::Expr::CompoundIdentifier(vec![qualifier, name.clone()]);
                }
                ControlFlow::<()>::Continue(())
            });
            keep_digits(&mut expr);
            session.create_logical_expr_from_sql_expr(expr, schema)
        })
        .and_then(|expr| mixed(expr, schema).data())
        .and_then(|expr| in_micros(expr, schema).data())
        .map_err(|error| diagnose(&error, sql))?
        .unalias();
    check_expr(&expr, sql)?;
    let uses = session.config().get_extension::<Uses>();
    // The walk itself cannot fail.
    let _ = expr.apply(|node| {
        uses.iter().for_each(|uses| uses.note(node));
        Ok(TreeNodeRecursion::Continue)
    });
    match refused(&expr, allowed) {
        Some((what, help)) => Err(Diagnostic::new(what).at(sql.span.clone()).help(help)),
        None => Ok(expr),
    }
}

/// What has no place in the expression, and what to do about it.
fn refused(expr: &Expr, allowed: Allowed) -> Option<(String, String)> {
    let mut found = None;
    // The walk itself cannot fail.
    let _ = expr.apply(|node| {
        found = match node {
            Expr::AggregateFunction(call) if allowed == Allowed::PerRow => Some((
                format!("`{}` goes over many rows, this expression over one", call.func.name()),
                "aggregate with `reduce_by_key`, `reduce` or `sql`".to_string(),
            )),
            Expr::WindowFunction(_) => Some((
                "a window function goes over many rows, this expression over one".to_string(),
                "window functions stand in `sql`".to_string(),
            )),
            Expr::ScalarSubquery(_) | Expr::Exists(_) | Expr::InSubquery(_) | Expr::SetComparison(_) => {
                Some(("there is nothing to query here".to_string(), "queries stand in `sql`".to_string()))
            }
            node => unrepeatable(node),
        };
        Ok(if found.is_some() { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    });
    found
}

/// A function whose value is not the same when a batch is computed again.
pub(super) fn unrepeatable(expr: &Expr) -> Option<(String, String)> {
    let name = clock::unrepeatable(expr)?;
    Some((
        format!("`{name}` would not give the same when a batch is computed again"),
        "the batch's time is `now()`, its day `current_date()`".to_string(),
    ))
}

/// Prepares an expression over columns of this schema.
pub(super) fn physical(
    session: &SessionState,
    sql: &Sql,
    expr: Expr,
    schema: &DFSchema,
) -> Result<Arc<dyn PhysicalExpr>, Diagnostic> {
    let context = SimplifyContext::builder()
        .with_schema(Arc::new(schema.clone()))
        .with_config_options(session.config_options().clone())
        .build();
    let simplifier = ExprSimplifier::new(context);
    let numbers = Numbers::written(&sql.text);
    // Some functions, `coalesce` for one, are there to be simplified away.
    let checked = simplifier
        .coerce(expr, schema)
        .and_then(|expr| in_micros(expr, schema))
        // To coerce a long chain once more takes long, and most have no times.
        .and_then(|micros| if micros.transformed { simplifier.coerce(micros.data, schema) } else { Ok(micros.data) })
        .and_then(|expr| numbers.expr(expr, schema).data())
        .and_then(|expr| simplifier.simplify(expr))
        .and_then(|expr| huge_constant(&expr).map(|()| expr))
        .and_then(|expr| planned(session, expr, schema))
        .and_then(|expr| {
            // Some mistakes show only when the type is asked for.
            expr.data_type(schema.as_arrow())?;
            try_expr(&expr, schema.as_arrow())?;
            Ok(expr)
        });
    checked.map_err(|error| diagnose(&error, sql))
}

/// What `SessionState::create_physical_expr` does with an expression whose types have been coerced: to do that again takes
/// time with the third power of the length of a chain of calls, which checked sums are.
fn planned(
    session: &SessionState,
    mut expr: Expr,
    schema: &DFSchema,
) -> Result<Arc<dyn PhysicalExpr>, DataFusionError> {
    for rule in session.analyzer().function_rewrites() {
        expr = expr.transform_up(|expr| rule.rewrite(expr, schema, session.config_options()))?.data;
    }
    let expr = lazily(expr, schema, session.execution_props()).data()?;
    create_physical_expr(&expr, schema, session.execution_props(), &PhysicalPlanningContext::default())
}

/// Makes it give this type.
pub(super) fn cast_to(
    expr: Arc<dyn PhysicalExpr>,
    sql: &Sql,
    schema: &Schema,
    data_type: &DataType,
) -> Result<Arc<dyn PhysicalExpr>, Diagnostic> {
    cast(expr, schema, data_type.clone()).map_err(|error| diagnose(&error, sql))
}

/// The type that a column of this type gets: one kind of text, one of bytes.
pub(super) fn plain_type(data_type: &DataType) -> DataType {
    match data_type {
        DataType::Utf8View | DataType::LargeUtf8 => DataType::Utf8,
        DataType::BinaryView | DataType::LargeBinary => DataType::Binary,
        other => other.clone(),
    }
}

/// The position of a column of this name.
pub(super) fn find(schema: &Schema, name: &Name) -> Result<usize, Diagnostic> {
    schema.fields().iter().position(|field| *field.name() == name.text).ok_or_else(|| {
        Diagnostic::new(format!("there is no column `{}`", name.text))
            .at(name.span.clone())
            .label("unknown column")
            .did_you_mean(&name.text, schema.fields().iter().map(|field| field.name().as_str()))
    })
}

/// Two columns of one name, or a name that is ours.
pub(super) fn check_names<'a>(names: impl IntoIterator<Item = (&'a str, &'a Span)>) -> Vec<Diagnostic> {
    let mut seen = HashSet::new();
    let mut wrong = Vec::new();
    for (name, span) in names {
        if !seen.insert(name) {
            let twice = Diagnostic::new(format!("there are two columns called `{name}`"));
            wrong.push(twice.at(span.clone()).label("second time"));
        }
        if name == KEY_COLUMN {
            let ours = Diagnostic::new(format!("a column cannot be called `{KEY_COLUMN}`"));
            wrong.push(ours.at(span.clone()));
        }
        if name.len() > MAX_KEY_BYTES {
            let long = format!("the name of a column has {} bytes; it can have {MAX_KEY_BYTES}", name.len());
            wrong.push(Diagnostic::new(long).at(span.clone()).label("too long"));
        }
    }
    wrong
}

/// What DataFusion says, in our words, with its place.
pub(super) fn diagnose(error: &DataFusionError, sql: &Sql) -> Diagnostic {
    let place = error.diagnostic().and_then(|diagnostic| diagnostic.span);
    let at = place.and_then(|place| locate(sql, place)).unwrap_or_else(|| sql.span.clone());
    match error.find_root() {
        DataFusionError::SchemaError(schema_error, _) => match schema_error.as_ref() {
            SchemaError::FieldNotFound { field, valid_fields } => {
                let shown = |relation: Option<&str>, name: &str| match relation {
                    Some(relation) if relation != INPUT => format!("{relation}.{name}"),
                    _ => name.to_string(),
                };
                let name = shown(field.relation.as_ref().map(|r| r.table()), &field.name);
                let valid: Vec<_> =
                    valid_fields.iter().map(|c| shown(c.relation.as_ref().map(|r| r.table()), &c.name)).collect();
                Diagnostic::new(format!("there is no column `{name}`"))
                    .at(at)
                    .label("unknown column")
                    .did_you_mean(&name, valid.iter().map(String::as_str))
            }
            other => Diagnostic::new(said(&other.to_string())).at(at),
        },
        DataFusionError::SQL(parser, _) => Diagnostic::new(said(&parser.to_string())).at(at),
        DataFusionError::Plan(text) | DataFusionError::NotImplemented(text) | DataFusionError::Execution(text) => {
            let wrong = Diagnostic::new(said(text)).at(at);
            match text.lines().nth(1).filter(|line| line.starts_with("Did you mean")) {
                Some(help) => wrong.help(help.to_lowercase()),
                None => wrong,
            }
        }
        other => Diagnostic::new(said(&other.strip_backtrace())).at(at),
    }
}

/// Where a place of the SQL is in the definition, if it was written there character by character.
pub(super) fn locate(sql: &Sql, place: impl Into<Place>) -> Option<Span> {
    let Place { start, end } = place.into();
    if sql.text.len() != sql.span.len() {
        return None;
    }
    let offset = |(line, column): (u64, u64)| {
        let line_start: usize =
            sql.text.split_inclusive('\n').take((line as usize).checked_sub(1)?).map(str::len).sum();
        let column = (column as usize).checked_sub(1)?;
        let rest = sql.text.get(line_start..)?;
        Some(line_start + rest.chars().take(column).map(char::len_utf8).sum::<usize>())
    };
    let (start, end) = (offset(start)?, offset(end)?);
    (start < end && end <= sql.text.len()).then(|| sql.span.start + start..sql.span.start + end)
}

/// Line and column, from 1, of where something begins and ends.
pub(super) struct Place {
    start: (u64, u64),
    end: (u64, u64),
}

impl From<datafusion::common::Span> for Place {
    fn from(span: datafusion::common::Span) -> Self {
        Self { start: (span.start.line, span.start.column), end: (span.end.line, span.end.column) }
    }
}

impl From<tokenizer::Span> for Place {
    fn from(span: tokenizer::Span) -> Self {
        Self { start: (span.start.line, span.start.column), end: (span.end.line, span.end.column) }
    }
}
