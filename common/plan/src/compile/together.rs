//! Operators over several streams: `union`, the joins, `cogroup`.

use super::Compiler;
use super::aggregate::{Aggregates, column_expr};
use super::expr::check_names;
use super::join::{Sides, either, join_head, key};
use super::stages::{Head, Part, Rows, column};
use crate::keys::is_encodable;
use crate::rules::micros_type;
use datafusion::arrow::datatypes::{DataType, Schema};
use datafusion::common::{Column, JoinType, NullEquality, Result, ScalarValue};
use datafusion::functions_aggregate::expr_fn::array_agg;
use datafusion::logical_expr::type_coercion::binary::comparison_coercion;
use datafusion::logical_expr::{Expr, ExprFunctionExt, cast, lit};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions;
use datafusion::physical_plan::projection::ProjectionExpr;
use std::sync::Arc;
use tidemill_common::diag::Diagnostic;
use tidemill_job::{JoinKind, Name, On};
use tidemill_rows::type_name;

/// Says which side a row is from: false on the left.
pub(super) const SIDE: &str = "__side";

/// Two streams with keys of the same types.
pub(super) struct Pair {
    pub(super) left: Rows,
    pub(super) right: Rows,
    pub(super) left_keys: Vec<usize>,
    pub(super) right_keys: Vec<usize>,
}

/// Where the keys of two sides stand, and the types in which they are compared.
pub(super) struct Keys {
    pub(super) left: Vec<usize>,
    pub(super) right: Vec<usize>,
    pub(super) types: Vec<DataType>,
}

/// The columns of a pair: positions in each side of what is no key, and what all are called behind the keys.
pub(super) struct Named {
    pub(super) keys: Vec<String>,
    pub(super) left: Vec<(usize, String)>,
    pub(super) right: Vec<(usize, String)>,
}

impl Compiler<'_> {
    /// `union`: the lanes of all inputs.
    pub(super) fn union(&mut self, inputs: Vec<Rows>, from: &[Name]) -> Option<Rows> {
        let schemas: Vec<_> = inputs.iter().map(Rows::schema).collect();
        let wrong = schemas.iter().zip(from).skip(1).filter_map(|(schema, name)| {
            let differs = difference(&schemas[0], schema, [&from[0].text, &name.text])?;
            let wrong = Diagnostic::new(differs).at(name.span.clone()).label("has other columns");
            Some(wrong.help("a union takes streams with the same columns in the same order: `select` makes them so"))
        });
        let wrong: Vec<_> = wrong.collect();
        let fine = wrong.is_empty();
        self.report(wrong);
        fine.then(|| Rows(inputs.into_iter().flat_map(|rows| rows.0).collect()))
    }

    /// `join` and its kin: keys, what else is in the left row, what else is in the right one. Within a key in the order
    /// of the left side, and for each of its rows in the order of the right one.
    pub(super) fn join(
        &mut self,
        inputs: Vec<Rows>,
        from: &[Name],
        kind: JoinKind,
        on: &On,
        name: &Name,
    ) -> Option<Rows> {
        let pair = self.pair(inputs, from, on)?;
        let whole = matches!(kind, JoinKind::Semi | JoinKind::Anti);
        let named = if whole { None } else { Some(self.names_of(&pair, from)?) };
        // The side that is looked up in comes first: the other one gives the order.
        let join_type = match kind {
            JoinKind::Inner => JoinType::Inner,
            JoinKind::LeftOuter => JoinType::Right,
            JoinKind::RightOuter => JoinType::Left,
            JoinKind::FullOuter => JoinType::Full,
            JoinKind::Semi => JoinType::RightSemi,
            JoinKind::Anti => JoinType::RightAnti,
        };
        let Pair { left, right, left_keys, right_keys } = pair;
        let offset = right.schema().fields().len();
        let sides = Sides { left: (right, right_keys.clone()), right: (left, left_keys.clone()) };
        let nulls = NullEquality::NullEqualsNothing;
        let joined = join_head(&mut self.stages, sides, join_type, None, nulls, &name.text);
        let (lane, _) = self.checked(joined)?;
        let Some(named) = named else {
            return Some(lane.into());
        };
        let schema = lane.plan.schema();
        let mut exprs = Vec::with_capacity(schema.fields().len());
        for (number, alias) in named.keys.into_iter().enumerate() {
            let left = key(&schema, offset + left_keys[number]);
            let right = key(&schema, right_keys[number]);
            let expr = match kind {
                JoinKind::RightOuter => right,
                JoinKind::FullOuter => self.checked(either(left, right))?,
                _ => left,
            };
            exprs.push(ProjectionExpr { expr, alias });
        }
        let keys = (0..exprs.len()).collect();
        let others = named.left.into_iter().map(|(index, alias)| (offset + index, alias)).chain(named.right);
        exprs.extend(others.map(|(index, alias)| ProjectionExpr { alias, ..column(&schema, index) }));
        let mut lane = self.checked(lane.projected(exprs))?;
        lane.part = Part::Head(Head::Keys(keys));
        Some(lane.into())
    }

    /// `cogroup`: rows of both sides with the columns of both, null where they have none, and per key their lists.
    pub(super) fn cogroup(&mut self, inputs: Vec<Rows>, from: &[Name], on: &On, name: &Name) -> Option<Rows> {
        let pair = self.pair(inputs, from, on)?;
        let named = self.names_of(&pair, from)?;
        let lists: Vec<_> = named.left.iter().map(|(_, name)| (name, false)).collect();
        let lists: Vec<_> = lists.into_iter().chain(named.right.iter().map(|(_, name)| (name, true))).collect();
        let both = self.both_sides(&pair, &named)?;
        let types: Vec<_> = {
            let schema = both.schema();
            let columns = named.keys.len()..schema.fields().len() - 1;
            columns.map(|column| schema.field(column).data_type().clone()).collect()
        };
        let calls = lists.iter().map(|(name, side)| {
            let of_side = Expr::Column(Column::new_unqualified(SIDE)).eq(lit(*side));
            array_agg(Expr::Column(Column::new_unqualified(name.as_str()))).filter(of_side).build()
        });
        let calls = self.checked(calls.collect::<Result<Vec<_>>>())?;
        let keys: Vec<_> = (0..named.keys.len()).collect();
        let lane = self.keyed_aggregate(both, &keys, &Aggregates { calls }, name)?;
        let schema = lane.plan.schema();
        let mut exprs: Vec<_> = keys.iter().map(|&index| column(&schema, index)).collect();
        for (number, ((alias, _), data_type)) in lists.iter().zip(&types).enumerate() {
            let none = ScalarValue::List(ScalarValue::new_list_nullable(&[], data_type));
            let expr = either(key(&schema, keys.len() + number), expressions::lit(none));
            exprs.push(ProjectionExpr { expr: self.checked(expr)?, alias: alias.to_string() });
        }
        let lane = self.checked(lane.projected(exprs))?;
        Some(lane.into())
    }

    /// The rows of the left side, then those of the right one: keys, columns of both, null where a side has none, and
    /// [`SIDE`].
    pub(super) fn both_sides(&mut self, pair: &Pair, named: &Named) -> Option<Rows> {
        let types = |rows: &Rows, columns: &[(usize, String)]| -> Vec<DataType> {
            let schema = rows.schema();
            columns.iter().map(|(index, _)| schema.field(*index).data_type().clone()).collect()
        };
        let of_left = types(&pair.left, &named.left);
        let of_right = types(&pair.right, &named.right);
        let left = padded(&pair.left, &pair.left_keys, named, false, &of_right);
        let right = padded(&pair.right, &pair.right_keys, named, true, &of_left);
        let (left, right) = (self.checked(left)?, self.checked(right)?);
        Some(Rows(left.0.into_iter().chain(right.0).collect()))
    }

    /// Finds the keys of both sides and makes them comparable.
    pub(super) fn pair(&mut self, inputs: Vec<Rows>, from: &[Name], on: &On) -> Option<Pair> {
        let [left, right]: [Rows; 2] = inputs.try_into().ok()?;
        let Keys { left: left_keys, right: right_keys, types } =
            self.common_keys(&left.schema(), &right.schema(), from, on)?;
        let left = self.with_keys(left, &left_keys, &types)?;
        let right = self.with_keys(right, &right_keys, &types)?;
        Some(Pair { left, right, left_keys, right_keys })
    }

    /// Finds the keys of both sides, which have to be comparable.
    pub(super) fn common_keys(
        &mut self,
        left_schema: &Schema,
        right_schema: &Schema,
        from: &[Name],
        on: &On,
    ) -> Option<Keys> {
        let left_keys = self.side_keys(left_schema, &on.left, &from[0]);
        let right_keys = self.side_keys(right_schema, &on.right, &from[1]);
        let (left_keys, right_keys) = (left_keys?, right_keys?);
        let mut types = Vec::with_capacity(left_keys.len());
        for (number, (&l, &r)) in left_keys.iter().zip(&right_keys).enumerate() {
            let (l, r) = (left_schema.field(l).data_type(), right_schema.field(r).data_type());
            let common = common_type(l, r).ok_or_else(|| {
                let (one, other) = (&on.left[number], &on.right[number]);
                let is = format!("`{}` is a {} in `{}`", one.text, type_name(l), from[0].text);
                let wrong = format!("{is}, `{}` a {} in `{}`", other.text, type_name(r), from[1].text);
                let wrong = Diagnostic::new(wrong).at(other.span.clone()).label("never equal");
                wrong.help("`select` makes them the same type with `cast(.. as ..)`")
            });
            types.extend(self.reported(common));
        }
        let fine = types.len() == left_keys.len();
        fine.then_some(Keys { left: left_keys, right: right_keys, types })
    }

    fn side_keys(&mut self, schema: &Schema, key: &[Name], stream: &Name) -> Option<Vec<usize>> {
        let keys: Vec<_> = key.iter().map(|name| self.reported(key_of(schema, name, stream))).collect();
        keys.into_iter().collect()
    }

    /// The same rows with key columns of these types.
    pub(super) fn with_keys(&mut self, rows: Rows, keys: &[usize], types: &[DataType]) -> Option<Rows> {
        let schema = rows.schema();
        let df_schema = self.df_schema(&schema)?;
        let mut exprs: Vec<_> = (0..schema.fields().len()).map(|index| column(&schema, index)).collect();
        for (&index, data_type) in keys.iter().zip(types) {
            let mut expr = column_expr(&schema, index);
            if schema.field(index).data_type() != data_type {
                expr = cast(expr, data_type.clone());
            }
            let expr = self.session.create_physical_expr(expr, &df_schema);
            exprs[index].expr = self.checked(expr)?;
        }
        let rows = rows.each(|lane| lane.projected(exprs.clone()));
        self.checked(rows)
    }

    pub(super) fn names_of(&mut self, pair: &Pair, from: &[Name]) -> Option<Named> {
        self.named([&pair.left.schema(), &pair.right.schema()], [&pair.left_keys, &pair.right_keys], from)
    }

    /// Names what stands side by side: a name that both sides have gets that of its stream before it.
    pub(super) fn named(&mut self, sides: [&Schema; 2], keys: [&[usize]; 2], from: &[Name]) -> Option<Named> {
        let names = |schema: &Schema| schema.fields().iter().map(|f| f.name().clone()).collect::<Vec<_>>();
        let (left, right) = (names(sides[0]), names(sides[1]));
        let [left_keys, right_keys] = keys;
        let keys: Vec<_> = left_keys.iter().map(|&index| left[index].clone()).collect();
        let others = |names: &[String], keys: &[usize]| -> Vec<(usize, String)> {
            let others = names.iter().cloned().enumerate();
            others.filter(|(index, _)| !keys.contains(index)).collect()
        };
        let (left, right) = (others(&left, left_keys), others(&right, right_keys));
        let told_apart = |these: &[(usize, String)], those: &[(usize, String)], stream: &Name| {
            let apart = |(index, name): &(usize, String)| {
                let clashes = keys.contains(name) || those.iter().any(|(_, other)| other == name);
                (*index, if clashes { format!("{}_{name}", stream.text) } else { name.clone() })
            };
            these.iter().map(apart).collect::<Vec<_>>()
        };
        let named =
            Named { left: told_apart(&left, &right, &from[0]), right: told_apart(&right, &left, &from[1]), keys };
        let all = named.keys.iter().chain(named.left.iter().chain(&named.right).map(|(_, name)| name));
        let wrong = check_names(all.map(|name| (name.as_str(), &self.place)));
        let fine = wrong.is_empty();
        self.report(wrong.into_iter().map(|wrong| wrong.help("`select` can give columns other names before")));
        fine.then_some(named)
    }
}

/// The position of a key column of a stream.
fn key_of(schema: &Schema, name: &Name, stream: &Name) -> Result<usize, Diagnostic> {
    let index = super::expr::find(schema, name)
        .map_err(|wrong| Diagnostic { message: format!("{} in `{}`", wrong.message, stream.text), ..wrong })?;
    let data_type = schema.field(index).data_type();
    if !is_encodable(data_type) {
        let wrong =
            format!("`{}` is a {} in `{}`, which cannot be a key", name.text, type_name(data_type), stream.text);
        return Err(Diagnostic::new(wrong).at(name.span.clone()));
    }
    Ok(index)
}

/// The type in which values of two types are compared.
fn common_type(left: &DataType, right: &DataType) -> Option<DataType> {
    if left == right {
        return Some(left.clone());
    }
    let alike = left.is_numeric() && right.is_numeric() || left.is_temporal() && right.is_temporal();
    comparison_coercion(left, right).map(micros_type).filter(|common| alike && is_encodable(common))
}

/// Rows of one side with the columns of both: keys, what is left's, what is right's, and which side it is.
fn padded(rows: &Rows, keys: &[usize], named: &Named, is_right: bool, other: &[DataType]) -> Result<Rows> {
    let schema = rows.schema();
    let own = |columns: &[(usize, String)]| -> Vec<ProjectionExpr> {
        let named = |(index, name): &(usize, String)| ProjectionExpr { alias: name.clone(), ..column(&schema, *index) };
        columns.iter().map(named).collect()
    };
    let nulls = |columns: &[(usize, String)]| -> Result<Vec<ProjectionExpr>> {
        let null = |((_, name), data_type): (&(usize, String), &DataType)| {
            let expr: Arc<dyn PhysicalExpr> = expressions::lit(ScalarValue::try_from(data_type)?);
            Ok(ProjectionExpr { expr, alias: name.clone() })
        };
        columns.iter().zip(other).map(null).collect()
    };
    let mut exprs: Vec<_> = keys
        .iter()
        .zip(&named.keys)
        .map(|(&index, name)| ProjectionExpr { alias: name.clone(), ..column(&schema, index) })
        .collect();
    exprs.extend(if is_right { nulls(&named.left)? } else { own(&named.left) });
    exprs.extend(if is_right { own(&named.right) } else { nulls(&named.right)? });
    exprs.push(ProjectionExpr { expr: expressions::lit(is_right), alias: SIDE.to_string() });
    rows.clone().each(|lane| lane.projected(exprs.clone()))
}

/// The first difference between the columns of two streams of these names.
fn difference(one: &Schema, other: &Schema, names: [&String; 2]) -> Option<String> {
    for (number, (a, b)) in one.fields().iter().zip(other.fields()).enumerate() {
        let column = number + 1;
        if a.name() != b.name() {
            let called = format!("`{}` in `{}` and `{}` in `{}`", a.name(), names[0], b.name(), names[1]);
            return Some(format!("column {column} is called {called}"));
        }
        if a.data_type() != b.data_type() {
            let (a_type, b_type) = (type_name(a.data_type()), type_name(b.data_type()));
            return Some(format!("`{}` is a {a_type} in `{}` and a {b_type} in `{}`", a.name(), names[0], names[1]));
        }
    }
    let count = |schema: &Schema| schema.fields().len();
    (count(one) != count(other))
        .then(|| format!("`{}` has {} columns and `{}` has {}", names[0], count(one), names[1], count(other)))
}
