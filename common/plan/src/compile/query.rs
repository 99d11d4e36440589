//! `sql`: any query over streams, by their names, within the batch.

use super::Compiler;
use super::Failure;
use super::bounds::{check_plan, check_text};
use super::expr::{check_names, diagnose, unrepeatable};
use super::refused::refused;
use super::stages::Rows;
use crate::exec::{FixedTable, LeafTable};
use crate::numbers::keep_digits;
use crate::registry::Uses;
use crate::session::{self, Shape};
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{DataFusionError, Result, TableReference};
use datafusion::execution::context::SQLOptions;
use datafusion::logical_expr::LogicalPlan;
use datafusion::prelude::SessionContext;
use datafusion::sql::parser::Statement;
use futures::executor::block_on;
use std::sync::Arc;
use tidemill_common::diag::Diagnostic;
use tidemill_job::{Name, Sql};

impl Compiler<'_> {
    /// `sql`: `from` names the inputs, in order, and among them the tables.
    pub(super) fn sql(
        &mut self,
        inputs: &[Rows],
        tables: &[FixedTable],
        from: &[Name],
        sql: &Sql,
        name: &Name,
    ) -> Option<Rows> {
        self.reported(check_text(sql))?;
        let (functions, uses, models) = (self.functions, self.uses.clone(), self.models.clone());
        let logical = |shape| {
            let context = SessionContext::new_with_state(session::state(shape, functions, &uses, &models));
            let streams = from.iter().filter(|from| tables.iter().all(|table| table.name() != from.text));
            for (number, (input, from)) in inputs.iter().zip(streams).enumerate() {
                let table = LeafTable::new(number, input.schema(), shape);
                context.register_table(TableReference::bare(from.text.as_str()), Arc::new(table))?;
            }
            for table in tables {
                let name = TableReference::bare(table.name());
                context.register_table(name, Arc::new(table.planned_for(shape)))?;
            }
            let state = context.state();
            let mut statement = state.sql_to_statement(&sql.text, &state.config_options().sql_parser.dialect)?;
            refused(&statement)?;
            if let Statement::Statement(statement) = &mut statement {
                keep_digits(statement.as_mut());
            }
            let plan = block_on(state.statement_to_plan(statement))?;
            check_plan(&plan)?;
            only_a_query(&plan)?;
            Ok(plan)
        };
        let checked = logical(Shape::Distributed).map_err(|error| wrong_query(&error, sql, from));
        let checked = checked.and_then(|plan| repeatable(&plan, sql, &uses));
        self.reported(checked)?;
        let rows = self.planned(inputs, name, logical).map_err(|failure| match failure {
            Failure::DataFusion(error) => diagnose(&error, sql),
            Failure::Uncuttable => Diagnostic::new(failure.to_string()).at(sql.span.clone()),
        });
        let rows = self.reported(rows)?;
        let schema = rows.schema();
        let names = schema.fields().iter().map(|field| (field.name().as_str(), &sql.span));
        let wrong = check_names(names);
        let fine = wrong.is_empty();
        self.report(wrong.into_iter().map(|wrong| wrong.help("name it with `as`")));
        fine.then_some(rows)
    }
}

fn only_a_query(plan: &LogicalPlan) -> Result<()> {
    SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false).verify_plan(plan)?;
    match plan {
        LogicalPlan::Explain(_) | LogicalPlan::Analyze(_) | LogicalPlan::DescribeTable(_) => {
            Err(DataFusionError::Plan("expected a query that gives rows".into()))
        }
        _ => Ok(()),
    }
}

fn wrong_query(error: &DataFusionError, sql: &Sql, from: &[Name]) -> Diagnostic {
    let wrong = diagnose(error, sql);
    if wrong.message.starts_with("there is no stream or table `") {
        let names: Vec<_> = from.iter().map(|from| format!("`{}`", from.text)).collect();
        return wrong.help(format!("the query reads what `from` names: {}", names.join(", ")));
    }
    wrong
}

/// Nothing in it may come out otherwise when a batch is computed again. Notes the registered functions on the way.
fn repeatable(plan: &LogicalPlan, sql: &Sql, uses: &Uses) -> Result<(), Diagnostic> {
    let mut found = None;
    // The walk itself cannot fail.
    let _ = plan.apply_with_subqueries(|node| {
        node.apply_expressions(|expr| {
            expr.apply(|expr| {
                uses.note(expr);
                found = found.take().or_else(|| unrepeatable(expr));
                Ok(TreeNodeRecursion::Continue)
            })
        })
    });
    match found {
        None => Ok(()),
        Some((what, help)) => Err(Diagnostic::new(what).at(sql.span.clone()).help(help)),
    }
}
