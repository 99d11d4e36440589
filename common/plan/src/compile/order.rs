//! Operators that group, order or spread the rows of one stream as they are: `group_by_key`, `count_by_value`, `sort`,
//! `top_k`, `repartition`.

use super::Compiler;
use super::Failure;
use super::aggregate::{Aggregates, column_expr, plan_physical, scan};
use super::cut::single;
use super::expr::{check_names, find};
use super::stages::{Lane, Part, Rows, column};
use crate::keys::is_encodable;
use crate::session::Shape;
use datafusion::arrow::datatypes::{DataType, Schema, SchemaRef};
use datafusion::common::{Result, internal_err};
use datafusion::functions_aggregate::expr_fn::{array_agg, count};
use datafusion::functions_window::expr_fn::row_number;
use datafusion::logical_expr::expr::Sort;
use datafusion::logical_expr::{Expr, ExprFunctionExt, lit};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::projection::ProjectionExpr;
use std::sync::Arc;
use tidemill_common::diag::Diagnostic;
use tidemill_job::{Name, SortKey};
use tidemill_rows::type_name;

impl Compiler<'_> {
    /// `group_by_key`: lists of the values of a key, all in the order of the rows.
    pub(super) fn group_by_key(
        &mut self,
        input: Rows,
        key: &[Name],
        values: Option<&[Name]>,
        name: &Name,
    ) -> Option<Rows> {
        let schema = input.schema();
        let (keys, values) = self.lists(&schema, key, values)?;
        let calls = values.iter().map(|&index| array_agg(column_expr(&schema, index))).collect();
        let lane = self.keyed_aggregate(input, &keys, &Aggregates { calls }, name)?;
        let grouped = lane.plan.schema();
        let names = keys.iter().chain(&values).map(|&index| schema.field(index).name().clone()).enumerate();
        let exprs = names.map(|(index, alias)| ProjectionExpr { alias, ..column(&grouped, index) });
        let lane = self.checked(lane.projected(exprs.collect()))?;
        Some(lane.into())
    }

    /// Key columns, and those that lists are made of.
    pub(super) fn lists(
        &mut self,
        schema: &Schema,
        key: &[Name],
        values: Option<&[Name]>,
    ) -> Option<(Vec<usize>, Vec<usize>)> {
        let keys = self.keys(schema, key);
        let values = match values {
            Some(values) => {
                let found: Vec<_> = values.iter().map(|name| self.reported(find(schema, name))).collect();
                found.into_iter().collect()
            }
            None => keys.as_ref().map(|keys| (0..schema.fields().len()).filter(|i| !keys.contains(i)).collect()),
        };
        let (keys, values): (_, Vec<usize>) = (keys?, values?);
        if values.is_empty() {
            let wrong = Diagnostic::new("there is no column beside the key to make lists of");
            self.report([wrong.at(self.place.clone()).help("`distinct = true` gives the keys alone")]);
            return None;
        }
        Some((keys, values))
    }

    /// `count_by_value`
    pub(super) fn count_by_value(&mut self, input: Rows, name: &Name) -> Option<Rows> {
        let schema = input.schema();
        let keys = self.counted(&schema)?;
        let lane = self.keyed_aggregate(input, &keys, &Aggregates { calls: vec![count(lit(1))] }, name)?;
        let counted = lane.plan.schema();
        let mut exprs: Vec<_> = (0..=keys.len()).map(|index| column(&counted, index)).collect();
        exprs[keys.len()].alias = "count".to_string();
        let lane = self.checked(lane.projected(exprs))?;
        Some(lane.into())
    }

    /// The columns of values that are counted: all of them, which have to be keys, and not be called `count`.
    pub(super) fn counted(&mut self, schema: &Schema) -> Option<Vec<usize>> {
        let wrong = schema.fields().iter().filter(|field| !is_encodable(field.data_type())).map(|field| {
            let wrong =
                format!("`{}` is a {}, which cannot be counted by value", field.name(), type_name(field.data_type()));
            Diagnostic::new(wrong).at(self.place.clone())
        });
        let mut wrong: Vec<_> = wrong.collect();
        let names = schema.fields().iter().map(|field| field.name().as_str()).chain(["count"]);
        let twice = check_names(names.map(|name| (name, &self.place)));
        wrong.extend(twice.into_iter().map(|wrong| wrong.help("`select` can give the column another name before")));
        let fine = wrong.is_empty();
        self.report(wrong);
        fine.then(|| (0..schema.fields().len()).collect())
    }

    /// `sort`, and `top_k` of the whole batch: every unit sorts its rows, and sends on no more than are wanted.
    pub(super) fn sort(&mut self, input: Rows, by: &[SortKey], limit: Option<u64>, name: &Name) -> Option<Rows> {
        let schema = input.schema();
        let order = self.order(&schema, by)?;
        let limit = limit.map(|limit| usize::try_from(limit).unwrap_or(usize::MAX));
        let logical = |shape| scan(&schema, shape)?.sort_with_limit(order.clone(), limit)?.build();
        let rows = self.planned(&[input], name, logical);
        self.checked(rows)
    }

    /// `top_k`: with keys, the greatest of every unit, and of these the greatest of every key.
    pub(super) fn top_k(&mut self, input: Rows, k: u64, by: &[SortKey], per: &[Name], name: &Name) -> Option<Rows> {
        if per.is_empty() {
            return self.sort(input, by, Some(k), name);
        }
        let schema = input.schema();
        let keys = self.keys(&schema, per);
        let order = self.order(&schema, by);
        let (keys, order) = (keys?, order?);
        let types: Vec<_> = keys.iter().map(|&index| schema.field(index).data_type().clone()).collect();
        let input = self.with_keys(input, &keys, &types)?;
        let first = self.first_of_each(&schema, &keys, order, k);
        let first = self.checked(first)?;
        let rows = input.each(|lane| -> Result<Lane, Failure> {
            let plan = single(first.clone(), &[lane.visible()?])?;
            Ok(Lane { plan, part: Part::Branch { keyed: false }, ..lane })
        });
        let rows = self.checked(rows)?;
        let lane = self.stages.hash(rows, keys, &name.text);
        let lane = self.checked(lane)?;
        let plan = single(first, std::slice::from_ref(&lane.plan));
        let plan = self.checked(plan)?;
        Some(lane.with(plan).into())
    }

    /// A plan over one leaf: the first `k` rows of each key in this order.
    fn first_of_each(
        &self,
        schema: &SchemaRef,
        keys: &[usize],
        order: Vec<Sort>,
        k: u64,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let keys = keys.iter().map(|&index| column_expr(schema, index)).collect();
        let place = row_number().partition_by(keys).order_by(order).build()?;
        let numbered = scan(schema, Shape::Single)?.window([place])?;
        // The place stands behind the columns.
        let Some(number) = numbered.schema().columns().pop() else {
            return internal_err!("a window without columns");
        };
        let columns: Vec<_> = (0..schema.fields().len()).map(|index| column_expr(schema, index)).collect();
        let first = numbered.filter(Expr::Column(number).lt_eq(lit(k)))?.project(columns)?;
        plan_physical(&self.single_session, &first.build()?)
    }

    /// `repartition`
    pub(super) fn repartition(&mut self, input: Rows, by: &[Name], name: &Name) -> Option<Rows> {
        let schema = input.schema();
        let all = || (0..schema.fields().len()).filter(|&i| is_encodable(schema.field(i).data_type())).collect();
        let keys: Vec<usize> = if by.is_empty() { all() } else { self.keys(&schema, by)? };
        if keys.is_empty() {
            self.report([Diagnostic::new("there is no column that can be a key").at(self.place.clone())]);
            return None;
        }
        let types: Vec<DataType> = keys.iter().map(|&index| schema.field(index).data_type().clone()).collect();
        let rows = self.with_keys(input, &keys, &types)?;
        let lane = self.stages.hash(rows, keys, &name.text);
        Some(self.checked(lane)?.into())
    }

    fn order(&mut self, schema: &Schema, by: &[SortKey]) -> Option<Vec<Sort>> {
        let mut order = Vec::with_capacity(by.len());
        for key in by {
            let Some(index) = self.reported(find(schema, &key.column)) else {
                continue;
            };
            let data_type = schema.field(index).data_type();
            if is_encodable(data_type) {
                order.push(column_expr(schema, index).sort(!key.descending, !key.descending));
            } else {
                let wrong = format!("a {} has no order", type_name(data_type));
                self.report([Diagnostic::new(wrong).at(key.column.span.clone())]);
            }
        }
        (order.len() == by.len()).then_some(order)
    }
}
