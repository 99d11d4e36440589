//! What a query may not hold: clauses that the planner passes over, though who writes one expects that it does something,
//! and more relations than can be planned.

use datafusion::common::{DataFusionError, Result};
use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::{
    self, GroupByExpr, JoinConstraint, JoinOperator, ObjectNamePart, Query, Select, SelectItem, TableFactor,
    TableWithJoins, Visit, Visitor,
};
use std::collections::HashMap;
use std::ops::ControlFlow;
use tidemill_job::limits::{MAX_GROUPING_SETS, MAX_RELATIONS};

/// Refuses the first of these.
pub(super) fn refused(statement: &Statement) -> Result<()> {
    let Statement::Statement(statement) = statement else { return Ok(()) };
    match Visit::visit(statement.as_ref() as &ast::Statement, &mut Seen::default()) {
        ControlFlow::Break(wrong) => Err(DataFusionError::Plan(wrong)),
        ControlFlow::Continue(()) => Ok(()),
    }
}

/// What there was so far.
#[derive(Default)]
struct Seen {
    wildcards: usize,
    /// Relations of the queries around, from the outermost on.
    relations: Vec<usize>,
    /// The queries of a `with`, by where they are in memory, and how they are called.
    named: HashMap<usize, String>,
    /// Relations of each, by name: it is planned as often as it is named.
    parts: HashMap<String, usize>,
}

impl Seen {
    fn add(&mut self, relations: usize) -> ControlFlow<String> {
        let Some(here) = self.relations.last_mut() else { return ControlFlow::Continue(()) };
        *here = here.saturating_add(relations);
        bounded(*here, "tables and subqueries")
    }
}

fn place(query: &Query) -> usize {
    std::ptr::from_ref(query) as usize
}

/// The first of these clauses that is there.
fn passed_over(clauses: &[(bool, &'static str)]) -> ControlFlow<String> {
    match clauses.iter().find(|(there, _)| *there) {
        Some((_, clause)) => ControlFlow::Break(format!("`{clause}` is not supported in a stream's query")),
        None => ControlFlow::Continue(()),
    }
}

fn bounded(found: usize, what: &str) -> ControlFlow<String> {
    match found > MAX_RELATIONS {
        true => ControlFlow::Break(format!("the query has more than {MAX_RELATIONS} {what}")),
        false => ControlFlow::Continue(()),
    }
}

/// Bounds what the planner writes out: every grouping set of every combination.
fn grouping_sets(group_by: &GroupByExpr) -> ControlFlow<String> {
    let GroupByExpr::Expressions(keys, _) = group_by else { return ControlFlow::Continue(()) };
    let sets = |key: &ast::Expr| match key {
        ast::Expr::Cube(keys) => 1usize.checked_shl(keys.len() as u32).unwrap_or(usize::MAX),
        ast::Expr::Rollup(keys) => keys.len() + 1,
        ast::Expr::GroupingSets(sets) => sets.len(),
        _ => 1,
    };
    let all = keys.iter().map(sets).fold(1, usize::saturating_mul);
    match all > MAX_GROUPING_SETS {
        true => ControlFlow::Break(format!(
            "`group by` has more than {MAX_GROUPING_SETS} grouping sets: name those that are wanted with `grouping sets`"
        )),
        false => ControlFlow::Continue(()),
    }
}

/// The planner takes the left side's column for the one that `using` makes of two, also where only the right side has a
/// row.
fn merged_columns(from: &[TableWithJoins]) -> ControlFlow<String> {
    for join in from.iter().flat_map(|table| &table.joins) {
        let (kind, constraint, mend) = match &join.join_operator {
            JoinOperator::FullOuter(constraint) => ("full", constraint, "select `coalesce(a.k, b.k) as k`"),
            JoinOperator::Right(constraint) | JoinOperator::RightOuter(constraint) => {
                ("right", constraint, "select `b.k`, or make it a `left join` from the other side")
            }
            _ => continue,
        };
        let what = match constraint {
            JoinConstraint::Using(_) => format!("`using` in a `{kind} join`"),
            JoinConstraint::Natural => format!("`natural {kind} join`"),
            JoinConstraint::On(_) | JoinConstraint::None => continue,
        };
        return ControlFlow::Break(format!("{what} is not supported: join `on a.k = b.k`, and {mend}"));
    }
    ControlFlow::Continue(())
}

/// Joins that the planner does not know, and writes out as the parser has them.
fn known_joins(from: &[TableWithJoins]) -> ControlFlow<String> {
    for join in from.iter().flat_map(|table| &table.joins) {
        let (what, mend) = match &join.join_operator {
            JoinOperator::Semi(_) => ("semi join", ": write `left semi join`"),
            JoinOperator::Anti(_) => ("anti join", ": write `left anti join`"),
            JoinOperator::AsOf { .. } => ("asof join", ": join on `>=`, and take the last of each with `row_number()`"),
            JoinOperator::CrossApply | JoinOperator::OuterApply => ("apply", ": write `join lateral`"),
            JoinOperator::StraightJoin(_) => ("straight_join", ": write `join`"),
            JoinOperator::ArrayJoin | JoinOperator::LeftArrayJoin | JoinOperator::InnerArrayJoin => {
                ("array join", ": write `unnest`")
            }
            _ => continue,
        };
        return ControlFlow::Break(format!("`{what}` is not supported{mend}"));
    }
    ControlFlow::Continue(())
}

impl Visitor for Seen {
    type Break = String;

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<Self::Break> {
        self.relations.push(0);
        for part in query.with.iter().flat_map(|with| &with.cte_tables) {
            self.named.insert(place(&part.query), part.alias.name.value.to_lowercase());
        }
        passed_over(&[
            (!query.locks.is_empty(), "for update"),
            (query.for_clause.is_some(), "for"),
            (query.settings.is_some(), "settings"),
            (query.format_clause.is_some(), "format"),
        ])
    }

    fn post_visit_query(&mut self, query: &Query) -> ControlFlow<Self::Break> {
        let relations = self.relations.pop().unwrap_or(0);
        match self.named.remove(&place(query)) {
            Some(name) => {
                let known = self.parts.entry(name).or_default();
                *known = relations.max(*known);
                ControlFlow::Continue(())
            }
            None => self.add(relations),
        }
    }

    fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<Self::Break> {
        let wildcard = |item: &&SelectItem| matches!(item, SelectItem::Wildcard(_) | SelectItem::QualifiedWildcard(..));
        self.wildcards += select.projection.iter().filter(wildcard).count();
        bounded(self.wildcards, "`*`")?;
        grouping_sets(&select.group_by)?;
        merged_columns(&select.from)?;
        known_joins(&select.from)?;
        passed_over(&[
            (select.prewhere.is_some(), "prewhere"),
            (!select.connect_by.is_empty(), "connect by"),
            (select.value_table_mode.is_some(), "as struct"),
        ])
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<Self::Break> {
        let part = match factor {
            TableFactor::Table { name, .. } => name.0.last().and_then(ObjectNamePart::as_ident),
            _ => None,
        };
        let part = part.and_then(|name| self.parts.get(&name.value.to_lowercase()));
        let relations = part.map_or(1, |relations| relations.saturating_add(1));
        self.add(relations)?;
        match factor {
            TableFactor::Table {
                sample,
                version,
                with_hints,
                with_ordinality,
                partitions,
                json_path,
                index_hints,
                ..
            } => passed_over(&[
                (sample.is_some(), "tablesample"),
                (version.is_some(), "for system_time"),
                (!with_hints.is_empty(), "with"),
                (*with_ordinality, "with ordinality"),
                (!partitions.is_empty(), "partition"),
                (json_path.is_some(), "a path into a table"),
                (!index_hints.is_empty(), "use index"),
            ]),
            TableFactor::NestedJoin { table_with_joins, .. } => {
                merged_columns(std::slice::from_ref(table_with_joins.as_ref()))?;
                known_joins(std::slice::from_ref(table_with_joins.as_ref()))
            }
            TableFactor::Derived { sample, .. } => passed_over(&[(sample.is_some(), "tablesample")]),
            TableFactor::Pivot { .. } => ControlFlow::Break(
                "`pivot` is not supported: write an aggregate with `filter (where ..)` for each column".into(),
            ),
            TableFactor::Unpivot { .. } => passed_over(&[(true, "unpivot")]),
            TableFactor::MatchRecognize { .. } => passed_over(&[(true, "match_recognize")]),
            TableFactor::JsonTable { .. } | TableFactor::OpenJsonTable { .. } | TableFactor::XmlTable { .. } => {
                passed_over(&[(true, "a table made of a document")])
            }
            _ => ControlFlow::Continue(()),
        }
    }
}
