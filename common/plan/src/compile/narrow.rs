//! Operators that look at one row at a time: they become part of the branches of the stage that makes their input.

use super::Compiler;
use super::expr::{Allowed, cast_to, check_names, find, parse, physical, plain_type};
use super::stages::{Lane, column};
use crate::functions;
use datafusion::arrow::datatypes::{DataType, Field, Schema};
use datafusion::common::{DFSchema, NullHandling, UnnestOptions};
use datafusion::logical_expr::{Expr, cast};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::projection::ProjectionExpr;
use datafusion::physical_plan::unnest::{ListUnnest, UnnestExec};
use std::sync::Arc;
use tidemill_common::diag::Diagnostic;
use tidemill_job::{FlatMapEach, Name, NamedSql, Sql};
use tidemill_rows::type_name;

impl Compiler<'_> {
    /// `select`
    pub(super) fn select(&mut self, input: Lane, columns: &[NamedSql]) -> Option<Lane> {
        let schema = self.df_schema(&input.schema())?;
        self.report(check_names(columns.iter().map(|c| (c.name.text.as_str(), &c.name.span))));
        let mut exprs = Vec::with_capacity(columns.len());
        for column in columns {
            let expr = self.per_row(&column.sql, &schema, |expr| expr);
            exprs.extend(expr.map(|expr| ProjectionExpr { expr, alias: column.name.text.clone() }));
        }
        if exprs.len() < columns.len() {
            return None;
        }
        self.checked(input.projected(exprs))
    }

    /// `filter`
    pub(super) fn filter(&mut self, input: Lane, condition: &Sql) -> Option<Lane> {
        let schema = self.df_schema(&input.schema())?;
        let predicate = self.per_row(condition, &schema, |expr| expr)?;
        let data_type = self.checked(predicate.data_type(schema.as_arrow()))?;
        if data_type != DataType::Boolean {
            let wrong = format!("a filter is true or false, not a {}", type_name(&data_type));
            self.report([Diagnostic::new(wrong).at(condition.span.clone()).label("expected a boolean")]);
            return None;
        }
        let filter = self.checked(FilterExec::try_new(predicate, input.plan.clone()))?;
        Some(input.with(Arc::new(filter)))
    }

    /// `flat_map`
    pub(super) fn flat_map(&mut self, input: Lane, each: &FlatMapEach, name: &Name, keep: &[Name]) -> Option<Lane> {
        let schema = self.df_schema(&input.schema())?;
        let list = self.list(each, &schema);
        let kept: Vec<_> = keep.iter().map(|name| find(schema.as_arrow(), name)).collect();
        self.report(kept.iter().filter_map(|found| found.clone().err()));
        self.report(check_names(keep.iter().chain([name]).map(|n| (n.text.as_str(), &n.span))));
        let kept: Vec<_> = kept.into_iter().collect::<Result<_, _>>().ok()?;
        let (list, element) = list?;
        let mut exprs: Vec<_> = kept.iter().map(|&i| column(schema.as_arrow(), i)).collect();
        exprs.push(ProjectionExpr { expr: list, alias: name.text.clone() });
        let rows = self.checked(input.projected(exprs))?;
        let mut fields = rows.plan.schema().fields().to_vec();
        fields[kept.len()] = Arc::new(Field::new(&name.text, element, true));
        let options = UnnestOptions { null_handling: NullHandling::Drop, recursions: Vec::new() };
        let lists = vec![ListUnnest { index_in_input_schema: kept.len(), depth: 1 }];
        let schema = Arc::new(Schema::new(fields));
        let unnest = UnnestExec::new(rows.plan.clone(), lists, Vec::new(), schema, options);
        let unnest = self.checked(unnest)?;
        Some(rows.with(Arc::new(unnest)))
    }

    /// The list to go over, and the type of its elements.
    fn list(&mut self, each: &FlatMapEach, schema: &DFSchema) -> Option<(Arc<dyn PhysicalExpr>, DataType)> {
        let sql = match each {
            FlatMapEach::Split { text, by } => {
                let list = |text| functions::split(cast(text, DataType::Utf8), by);
                let text_type = self.per_row(text, schema, |expr| expr)?;
                let text_type = self.checked(text_type.data_type(schema.as_arrow()))?;
                if plain_type(&text_type) != DataType::Utf8 {
                    let wrong = format!("only text can be split, not a {}", type_name(&text_type));
                    self.report([Diagnostic::new(wrong).at(text.span.clone()).label("expected a string")]);
                    return None;
                }
                return Some((self.per_row(text, schema, list)?, DataType::Utf8));
            }
            FlatMapEach::Unnest(sql) => sql,
        };
        let list = self.per_row(sql, schema, |expr| expr)?;
        match self.checked(list.data_type(schema.as_arrow()))? {
            DataType::List(field) | DataType::LargeList(field) | DataType::FixedSizeList(field, _) => {
                Some((list, field.data_type().clone()))
            }
            other => {
                let wrong = format!("there is nothing to unnest in a {}", type_name(&other));
                self.report([Diagnostic::new(wrong).at(sql.span.clone()).label("expected a list")]);
                None
            }
        }
    }

    /// An expression over one row, with text and bytes as columns hold them.
    fn per_row(
        &mut self,
        sql: &Sql,
        schema: &DFSchema,
        wrap: impl FnOnce(Expr) -> Expr,
    ) -> Option<Arc<dyn PhysicalExpr>> {
        let prepared = parse(&self.session, sql, schema, Allowed::PerRow)
            .and_then(|expr| physical(&self.session, sql, wrap(expr), schema))
            .and_then(|expr| {
                let data_type = expr.data_type(schema.as_arrow()).unwrap_or(DataType::Null);
                cast_to(expr, sql, schema.as_arrow(), &plain_type(&data_type))
            });
        self.reported(prepared)
    }
}
