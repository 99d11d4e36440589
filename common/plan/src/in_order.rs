//! Aggregates with an `order by` of their own.
//!
//! DataFusion sorts the input of an aggregation by what one of its aggregates asks for, and all others see that order,
//! `first_value(v)` and sums of floats among them. Here an aggregate with `order by` keeps its rows and sorts them in
//! the end, so that what stands beside it sees the rows as they come.

use crate::exec::stable_order;
use datafusion::arrow::array::{Array, ArrayRef, AsArray, MutableArrayData, UInt32Array, make_array, new_empty_array};
use datafusion::arrow::compute::{SortOptions, concat, take};
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Schema};
use datafusion::common::utils::SingleRowListArrayBuilder;
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::expr::{AggregateFunction, AggregateFunctionParams, WindowFunctionParams};
use datafusion::logical_expr::function::{AccumulatorArgs, AggregateFunctionSimplification, StateFieldsArgs};
use datafusion::logical_expr::utils::{AggregateOrderSensitivity, format_state_name};
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, Expr, GroupsAccumulator, Operator, ReversedUDAF, SetMonotonicity,
    Signature, StatisticsArgs,
};
use datafusion::physical_expr::PhysicalExpr;
use std::mem::size_of_val;
use std::sync::Arc;

/// What an array takes beside its values, in bytes.
const SMALL: usize = 512;

/// The function, with an order of its own where `order by` asks for one.
pub(crate) fn in_order(function: Arc<AggregateUDF>) -> Arc<AggregateUDF> {
    match function.order_sensitivity() {
        AggregateOrderSensitivity::HardRequirement | AggregateOrderSensitivity::SoftRequirement => {
            Arc::new(AggregateUDF::from(InOrder { function }))
        }
        // They look at the order for themselves, or not at all.
        AggregateOrderSensitivity::Insensitive | AggregateOrderSensitivity::Beneficial => function,
    }
}

/// The function itself.
pub(crate) fn unordered(function: &AggregateUDF) -> &AggregateUDF {
    function.inner().downcast_ref::<InOrder>().map_or(function, |ordered| &ordered.function)
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct InOrder {
    function: Arc<AggregateUDF>,
}

impl InOrder {
    fn inner(&self) -> &Arc<dyn AggregateUDFImpl> {
        self.function.inner()
    }

    /// Whether rows are kept and sorted here. Distinct values are sorted by the function itself, and `within group` names
    /// what is aggregated.
    fn sorts(&self, has_order: bool, is_distinct: bool) -> bool {
        has_order && !is_distinct && !self.inner().supports_within_group_clause()
    }
}

impl AggregateUDFImpl for InOrder {
    fn accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        if !self.sorts(!args.order_bys.is_empty(), args.is_distinct) {
            return self.inner().accumulator(args);
        }
        let arguments = args.expr_fields.iter().map(|field| Ok(field.data_type().clone()));
        let order = args.order_bys.iter().map(|sort| sort.expr.data_type(args.schema));
        let types = arguments.chain(order).collect::<Result<Vec<_>>>()?;
        Ok(Box::new(Kept {
            function: self.function.clone(),
            call: Call {
                return_field: args.return_field.clone(),
                schema: args.schema.clone(),
                ignore_nulls: args.ignore_nulls,
                name: args.name.to_string(),
                exprs: args.exprs.to_vec(),
                expr_fields: args.expr_fields.to_vec(),
            },
            order: args.order_bys.iter().map(|sort| sort.options).collect(),
            columns: vec![Vec::new(); types.len()],
            types,
            bytes: 0,
        }))
    }

    fn state_fields(&self, args: StateFieldsArgs<'_>) -> Result<Vec<FieldRef>> {
        if !self.sorts(!args.ordering_fields.is_empty(), args.is_distinct) {
            return self.inner().state_fields(args);
        }
        let kept = args.input_fields.iter().chain(args.ordering_fields).enumerate().map(|(number, field)| {
            let item = Field::new_list_field(field.data_type().clone(), true);
            Arc::new(Field::new_list(format_state_name(args.name, &format!("kept_{number}")), item, true))
        });
        Ok(kept.collect())
    }

    fn groups_accumulator_supported(&self, args: AccumulatorArgs<'_>) -> bool {
        !self.sorts(!args.order_bys.is_empty(), args.is_distinct) && self.inner().groups_accumulator_supported(args)
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        // What does nothing to the input, but has the aggregate get the columns of its order.
        AggregateOrderSensitivity::Beneficial
    }

    fn with_beneficial_ordering(self: Arc<Self>, _: bool) -> Result<Option<Arc<dyn AggregateUDFImpl>>> {
        Ok(Some(self))
    }

    fn reverse_expr(&self) -> ReversedUDAF {
        ReversedUDAF::NotSupported
    }

    // All else is the function's.

    fn name(&self) -> &str {
        self.inner().name()
    }

    fn aliases(&self) -> &[String] {
        self.inner().aliases()
    }

    fn signature(&self) -> &Signature {
        self.inner().signature()
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        self.inner().coerce_types(types)
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        self.inner().return_type(types)
    }

    fn return_field(&self, fields: &[FieldRef]) -> Result<FieldRef> {
        self.inner().return_field(fields)
    }

    fn is_nullable(&self) -> bool {
        self.inner().is_nullable()
    }

    fn default_value(&self, data_type: &DataType) -> Result<ScalarValue> {
        self.inner().default_value(data_type)
    }

    fn schema_name(&self, params: &AggregateFunctionParams) -> Result<String> {
        self.inner().schema_name(params)
    }

    fn human_display(&self, params: &AggregateFunctionParams) -> Result<String> {
        self.inner().human_display(params)
    }

    fn display_name(&self, params: &AggregateFunctionParams) -> Result<String> {
        self.inner().display_name(params)
    }

    fn window_function_schema_name(&self, params: &WindowFunctionParams) -> Result<String> {
        self.inner().window_function_schema_name(params)
    }

    fn window_function_display_name(&self, params: &WindowFunctionParams) -> Result<String> {
        self.inner().window_function_display_name(params)
    }

    fn create_groups_accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn GroupsAccumulator>> {
        self.inner().create_groups_accumulator(args)
    }

    fn create_sliding_accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        self.inner().create_sliding_accumulator(args)
    }

    fn simplify(&self) -> Option<AggregateFunctionSimplification> {
        self.inner().simplify()
    }

    fn simplify_expr_op_literal(
        &self,
        call: &AggregateFunction,
        argument: &Expr,
        op: Operator,
        literal: &Expr,
        argument_is_left: bool,
    ) -> Result<Option<Expr>> {
        self.inner().simplify_expr_op_literal(call, argument, op, literal, argument_is_left)
    }

    fn is_descending(&self) -> Option<bool> {
        self.inner().is_descending()
    }

    fn value_from_stats(&self, args: &StatisticsArgs<'_>) -> Option<ScalarValue> {
        self.inner().value_from_stats(args)
    }

    fn supports_null_handling_clause(&self) -> bool {
        self.inner().supports_null_handling_clause()
    }

    fn supports_within_group_clause(&self) -> bool {
        self.inner().supports_within_group_clause()
    }

    fn set_monotonicity(&self, data_type: &DataType) -> SetMonotonicity {
        self.inner().set_monotonicity(data_type)
    }
}

/// A call without its order.
#[derive(Debug)]
struct Call {
    return_field: FieldRef,
    schema: Schema,
    ignore_nulls: bool,
    name: String,
    exprs: Vec<Arc<dyn PhysicalExpr>>,
    expr_fields: Vec<FieldRef>,
}

/// The rows of a group as they came. Ties stay in that order.
#[derive(Debug)]
struct Kept {
    function: Arc<AggregateUDF>,
    call: Call,
    order: Vec<SortOptions>,
    /// Of the arguments, then of what the order is by.
    types: Vec<DataType>,
    /// In pieces.
    columns: Vec<Vec<ArrayRef>>,
    /// Of all pieces.
    bytes: usize,
}

impl Kept {
    fn keep(&mut self, column: usize, piece: &ArrayRef) -> Result<()> {
        let piece = compact(piece)?;
        self.bytes += piece.get_array_memory_size();
        self.columns[column].push(piece);
        Ok(())
    }

    fn all(&self) -> Result<Vec<ArrayRef>> {
        let all = self.columns.iter().zip(&self.types).map(|(pieces, data_type)| {
            let pieces: Vec<&dyn Array> = pieces.iter().map(AsRef::as_ref).collect();
            if pieces.is_empty() { Ok(new_empty_array(data_type)) } else { Ok(concat(&pieces)?) }
        });
        all.collect()
    }
}

impl Accumulator for Kept {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        (0..self.columns.len()).zip(values).try_for_each(|(column, piece)| self.keep(column, piece))
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        for (column, lists) in (0..self.columns.len()).zip(states) {
            lists.as_list::<i32>().iter().flatten().try_for_each(|piece| self.keep(column, &piece))?;
        }
        Ok(())
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let list = |column| SingleRowListArrayBuilder::new(column).with_nullable(true).build_list_scalar();
        Ok(self.all()?.into_iter().map(list).collect())
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let mut columns = self.all()?;
        let order = columns.split_off(self.call.exprs.len());
        let places = UInt32Array::from(stable_order(&order, &self.order)?);
        let sorted = columns.iter().map(|column| Ok(take(column, &places, None)?)).collect::<Result<Vec<_>>>()?;
        let Call { return_field, schema, ignore_nulls, name, exprs, expr_fields } = &self.call;
        let mut inner = self.function.accumulator(AccumulatorArgs {
            return_field: return_field.clone(),
            schema,
            ignore_nulls: *ignore_nulls,
            order_bys: &[],
            is_reversed: false,
            name,
            is_distinct: false,
            exprs,
            expr_fields,
        })?;
        inner.update_batch(&sorted)?;
        inner.evaluate()
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.bytes
    }
}

/// A piece of its own, where it is a small part of an array that holds the rows of other groups, too: it would keep all of
/// that in memory.
fn compact(piece: &ArrayRef) -> Result<ArrayRef> {
    let data = piece.to_data();
    if piece.get_array_memory_size() <= 2 * data.get_slice_memory_size()? + SMALL {
        return Ok(piece.clone());
    }
    let mut own = MutableArrayData::new(vec![&data], false, piece.len());
    own.try_extend(0, 0, piece.len())?;
    Ok(make_array(own.freeze()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::arrow::array::{Int64Array, StringArray};

    #[test]
    fn a_part_of_an_array_takes_what_it_is_long() {
        let numbers: ArrayRef = Arc::new(Int64Array::from_iter((0..100_000).map(|i| (i % 7 > 0).then_some(i))));
        let texts: ArrayRef = Arc::new(StringArray::from_iter_values((0..100_000).map(|i| format!("text {i}"))));
        for all in [numbers, texts] {
            for (start, length) in [(0, 1), (70_001, 3), (99_999, 1), (10, 0)] {
                let part = compact(&all.slice(start, length)).unwrap();
                assert_eq!(&part, &all.slice(start, length));
                assert!(part.get_array_memory_size() < 1_000, "{}", part.get_array_memory_size());
            }
            assert!(Arc::ptr_eq(&compact(&all).unwrap(), &all), "what is whole is not copied");
        }
    }
}
