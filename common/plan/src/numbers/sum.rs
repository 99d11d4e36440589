//! `sum`: integers and decimals without overflow on the way to a sum that fits, doubles as DataFusion has them.

use super::checked::overflow;
use super::exact::{
    Decimals, Exact, Integers, Native, Naturals, SMALL_DIGITS, SmallDecimals, WideDecimals, add, by_type, fitted,
    wide_type,
};
use super::floats::{groups_in_one_form, in_one_form};
use super::frame::{Frame, double, each_row, total};
use super::one::{Distinct, Doubles, Finish, One, distinct_field};
use datafusion::arrow::array::types::ArrowPrimitiveType;
use datafusion::arrow::array::{ArrayRef, AsArray, BooleanArray, PrimitiveArray};
use datafusion::arrow::datatypes::{ArrowNativeTypeOp, DataType, Field, FieldRef};
use datafusion::common::{Result, ScalarValue, exec_datafusion_err, exec_err};
use datafusion::functions_aggregate::sum::Sum as Plain;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::{AggregateOrderSensitivity, format_state_name};
use datafusion::logical_expr::{Accumulator, AggregateUDFImpl, EmitTo, GroupsAccumulator, ReversedUDAF, Signature};
use datafusion_functions_aggregate_common::aggregate::groups_accumulator::accumulate::NullState;
use std::sync::Arc;

/// The sum.
#[derive(Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Sum {
    plain: Plain,
}

/// The type into which results have to fit.
#[derive(Debug, Clone)]
struct Fit {
    returns: DataType,
}

impl Fit {
    fn for_results(args: &AccumulatorArgs<'_>) -> Self {
        Self { returns: args.return_field.data_type().clone() }
    }
}

impl Fit {
    fn of<E: Exact>(&self, sum: Native<E::Wide>) -> Result<Native<E::In>> {
        fitted::<E>(sum, &self.returns).ok_or_else(|| exec_datafusion_err!("{}", overflow("the sum", &self.returns)))
    }

    fn finish<E: Exact>(self) -> Finish<E> {
        Box::new(move |sum, count| {
            let sum = (count > 0).then(|| self.of::<E>(sum)).transpose()?;
            ScalarValue::new_primitive::<E::In>(sum, &self.returns)
        })
    }
}

fn wide_field<E: Exact>(name: String, input: &DataType) -> Result<Vec<FieldRef>> {
    Ok(vec![Arc::new(Field::new(name, wide_type::<E>(input), true))])
}

fn one<E: Exact>(input: &DataType, fit: Fit) -> Result<Box<dyn Accumulator>> {
    Ok(Box::new(One::<E>::new(input, false, fit.finish::<E>())))
}

fn distinct<E: Exact>(input: &DataType, fit: Fit) -> Result<Box<dyn Accumulator>> {
    Ok(Box::new(Distinct::<E>::new(input, fit.finish::<E>())))
}

fn groups<E: Exact>(input: &DataType, fit: Fit) -> Result<Box<dyn GroupsAccumulator>> {
    Ok(Box::new(Groups::<E>::new(wide_type::<E>(input), fit)))
}

impl AggregateUDFImpl for Sum {
    fn name(&self) -> &str {
        "sum"
    }

    fn signature(&self) -> &Signature {
        self.plain.signature()
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        self.plain.return_type(types)
    }

    fn state_fields(&self, args: StateFieldsArgs<'_>) -> Result<Vec<FieldRef>> {
        let (name, input) = (format_state_name(args.name, "sum"), args.input_fields[0].data_type().clone());
        match args.is_distinct {
            true => Ok(vec![distinct_field(name, &input)]),
            false => by_type!(&input, wide_field(name, &input), self.plain.state_fields(args)),
        }
    }

    fn accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        let (input, fit) = (args.expr_fields[0].data_type().clone(), Fit::for_results(&args));
        match (&input, args.is_distinct) {
            (DataType::Float64, true) => Ok(Doubles::boxed(sum_of)),
            (_, true) => by_type!(&input, distinct(&input, fit), self.plain.accumulator(args)),
            (_, false) => by_type!(&input, one(&input, fit), in_one_form(self.plain.accumulator(args))),
        }
    }

    fn groups_accumulator_supported(&self, args: AccumulatorArgs<'_>) -> bool {
        !args.is_distinct
    }

    fn create_groups_accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn GroupsAccumulator>> {
        let (input, fit) = (args.expr_fields[0].data_type().clone(), Fit::for_results(&args));
        by_type!(&input, groups(&input, fit), groups_in_one_form(self.plain.create_groups_accumulator(args)))
    }

    fn create_sliding_accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        match (args.expr_fields[0].data_type(), args.is_distinct) {
            (DataType::Float64, false) => Ok(Frame::boxed(sum_of)),
            (DataType::Duration(_) | DataType::Interval(_), _) => self.plain.create_sliding_accumulator(args),
            _ => self.accumulator(args),
        }
    }

    fn reverse_expr(&self) -> ReversedUDAF {
        ReversedUDAF::Identical
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        AggregateOrderSensitivity::Insensitive
    }
}

fn sum_of(rows: &mut dyn Iterator<Item = [f64; 1]>) -> ScalarValue {
    double(total(rows).map(|(sum, _)| sum))
}

/// A sum per group.
struct Groups<E: Exact> {
    sums: Vec<Native<E::Wide>>,
    nulls: NullState,
    /// Whether a sum has overflowed where that can be.
    overflows: bool,
    /// The type of the sums.
    wide: DataType,
    fit: Fit,
}

impl<E: Exact> Groups<E> {
    fn new(wide: DataType, fit: Fit) -> Self {
        Self { sums: Vec::new(), nulls: NullState::new(), overflows: false, wide, fit }
    }

    fn add<T: ArrowPrimitiveType + Send>(
        &mut self,
        values: &PrimitiveArray<T>,
        groups: &[usize],
        filter: Option<&BooleanArray>,
        count: usize,
        widen: impl Fn(T::Native) -> Native<E::Wide> + Send + Sync,
    ) -> Result<()> {
        self.sums.resize(count, Default::default());
        let (sums, overflows) = (&mut self.sums[..count], &mut self.overflows);
        self.nulls.accumulate(groups, values, filter, count, |group, value| match E::OVERFLOWS {
            false => sums[group] = sums[group].add_wrapping(widen(value)),
            true => *overflows |= add(&mut sums[group], widen(value)).is_err(),
        });
        match self.overflows {
            true => exec_err!("{}", overflow("the sum", &self.fit.returns)),
            false => Ok(()),
        }
    }
}

impl<E: Exact> GroupsAccumulator for Groups<E> {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        groups: &[usize],
        filter: Option<&BooleanArray>,
        count: usize,
    ) -> Result<()> {
        self.add(values[0].as_primitive::<E::In>(), groups, filter, count, E::widen)
    }

    fn merge_batch(&mut self, values: &[ArrayRef], groups: &[usize], count: usize) -> Result<()> {
        self.add(values[0].as_primitive::<E::Wide>(), groups, None, count, |sum| sum)
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        let sums = emit_to.take_needed(&mut self.sums);
        let sums = sums.into_iter().map(|sum| self.fit.of::<E>(sum)).collect::<Result<Vec<_>>>()?;
        let sums = PrimitiveArray::<E::In>::new(sums.into(), self.nulls.build(emit_to));
        Ok(Arc::new(sums.with_data_type(self.fit.returns.clone())))
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        let sums = emit_to.take_needed(&mut self.sums);
        let sums = PrimitiveArray::<E::Wide>::new(sums.into(), self.nulls.build(emit_to));
        Ok(vec![Arc::new(sums.with_data_type(self.wide.clone()))])
    }

    fn convert_to_state(&self, values: &[ArrayRef], filter: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        each_row(Self::new(self.wide.clone(), self.fit.clone()), values, filter)
    }

    fn size(&self) -> usize {
        self.sums.capacity() * size_of::<Native<E::Wide>>() + self.nulls.size()
    }
}
