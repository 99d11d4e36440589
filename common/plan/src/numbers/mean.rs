//! `avg`: of integers exact and divided once, of decimals exact and rounded to the nearest, of doubles as DataFusion has it.

use super::checked::overflow;
use super::exact::{Decimals, Exact, Integers, Native, Naturals, WideDecimals, add, wide_type};
use super::floats::{groups_in_one_form, in_one_form};
use super::frame::{Frame, double, each_row, total};
use super::one::{Distinct, Doubles, Finish, One, distinct_field};
use datafusion::arrow::array::types::{
    ArrowPrimitiveType, Decimal128Type, Decimal256Type, DecimalType, Float64Type, UInt64Type,
};
use datafusion::arrow::array::{ArrayRef, AsArray, BooleanArray, PrimitiveArray, UInt64Array};
use datafusion::arrow::buffer::NullBuffer;
use datafusion::arrow::datatypes::{ArrowNativeTypeOp, DataType, Field, FieldRef, i256};
use datafusion::common::types::{NativeType, logical_float64, logical_int64, logical_uint64};
use datafusion::common::{Result, ScalarValue, exec_datafusion_err, exec_err};
use datafusion::functions_aggregate::average::Avg as Plain;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::format_state_name;
use datafusion::logical_expr::{
    Accumulator, AggregateUDFImpl, Coercion, EmitTo, GroupsAccumulator, ReversedUDAF, Signature, TypeSignature,
    TypeSignatureClass, Volatility,
};
use datafusion_functions_aggregate_common::aggregate::groups_accumulator::accumulate::accumulate;
use std::marker::PhantomData;
use std::sync::Arc;

/// The mean.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct Mean {
    plain: Plain,
    signature: Signature,
}

impl Default for Mean {
    /// DataFusion makes doubles of integers before it adds them up.
    fn default() -> Self {
        let exactly = |class| TypeSignature::Coercible(vec![Coercion::new_exact(class)]);
        let from = |of, classes, default| TypeSignature::Coercible(vec![Coercion::new_implicit(of, classes, default)]);
        let (naturals, integers) = (logical_uint64(), logical_int64());
        let ways = vec![
            exactly(TypeSignatureClass::Decimal),
            exactly(TypeSignatureClass::Duration),
            exactly(TypeSignatureClass::Native(naturals)),
            from(TypeSignatureClass::Native(integers), vec![TypeSignatureClass::Integer], NativeType::Int64),
            from(TypeSignatureClass::Native(logical_float64()), vec![TypeSignatureClass::Float], NativeType::Float64),
        ];
        Self { plain: Plain::default(), signature: Signature::one_of(ways, Volatility::Immutable) }
    }
}

impl Rounding {
    fn for_results(args: &AccumulatorArgs<'_>) -> Rounding {
        let scale = |data_type: &DataType| match data_type {
            DataType::Decimal128(_, scale) | DataType::Decimal256(_, scale) => *scale,
            _ => 0,
        };
        let returns = args.return_field.data_type().clone();
        // The result has at least as many digits behind the point as what it is the mean of.
        let digits = scale(&returns).saturating_sub(scale(args.expr_fields[0].data_type())).max(0);
        let factor = i256::from_i128(10).pow_wrapping(digits.unsigned_abs().into());
        Rounding { returns, factor }
    }
}

/// How sums of decimals become means.
#[derive(Debug, Clone)]
struct Rounding {
    returns: DataType,
    /// Ten to the number of further digits.
    factor: i256,
}

/// The numbers that have means of their own.
trait Averaged: Exact {
    /// What the mean is.
    type Out: ArrowPrimitiveType;

    /// The mean of so many numbers, at least one, from their sum.
    fn mean(rounding: &Rounding, sum: Native<Self::Wide>, count: u64) -> Result<Native<Self::Out>>;
}

impl Averaged for Decimals {
    type Out = Decimal128Type;

    fn mean(rounding: &Rounding, sum: i256, count: u64) -> Result<i128> {
        rounding.mean::<Self>(sum, count)
    }
}

impl Averaged for WideDecimals {
    type Out = Decimal256Type;

    fn mean(rounding: &Rounding, sum: i256, count: u64) -> Result<i256> {
        rounding.mean::<Self>(sum, count)
    }
}

impl Averaged for Integers {
    type Out = Float64Type;

    fn mean(_: &Rounding, sum: i128, count: u64) -> Result<f64> {
        Ok(quotient(sum, count))
    }
}

impl Averaged for Naturals {
    type Out = Float64Type;

    fn mean(_: &Rounding, sum: i128, count: u64) -> Result<f64> {
        Ok(quotient(sum, count))
    }
}

/// The largest whole number up to which all are doubles.
const EXACT: u128 = 1 << 53;

/// The double next to a quotient, or next but one where the sum is no double.
fn quotient(sum: i128, count: u64) -> f64 {
    if sum.unsigned_abs() <= EXACT {
        return sum as f64 / count as f64;
    }
    let whole = i128::from(count);
    (sum / whole) as f64 + (sum % whole) as f64 / count as f64
}

impl Rounding {
    /// The mean, a half rounded away from zero.
    fn mean<E: Exact<Wide = Decimal256Type>>(&self, sum: i256, count: u64) -> Result<Native<E::In>> {
        let digits = match self.returns {
            DataType::Decimal128(digits, _) | DataType::Decimal256(digits, _) => digits,
            _ => 0,
        };
        let count = i256::from_i128(i128::from(count));
        let mean = sum.mul_checked(self.factor).ok().and_then(|scaled| {
            let (whole, rest) = (scaled.div_checked(count).ok()?, scaled.mod_checked(count).ok()?);
            let away = rest.wrapping_abs() >= count.wrapping_sub(rest.wrapping_abs());
            let step = i256::from_i128(if !away {
                0
            } else if scaled.is_negative() {
                -1
            } else {
                1
            });
            whole.add_checked(step).ok()
        });
        mean.filter(|mean| Decimal256Type::is_valid_decimal_precision(*mean, digits))
            .and_then(E::narrow)
            .ok_or_else(|| exec_datafusion_err!("{}", overflow("the mean", &self.returns)))
    }

    fn finish<E: Averaged>(self) -> Finish<E> {
        Box::new(move |sum, count| {
            let mean = (count > 0).then(|| E::mean(&self, sum, count)).transpose()?;
            ScalarValue::new_primitive::<E::Out>(mean, &self.returns)
        })
    }
}

/// The number of rows and their sum.
fn states(args: &StateFieldsArgs<'_>, wide: DataType) -> Vec<FieldRef> {
    let field = |name, data_type| Arc::new(Field::new(format_state_name(args.name, name), data_type, true));
    vec![field("count", DataType::UInt64), field("sum", wide)]
}

fn one<E: Averaged>(args: &AccumulatorArgs<'_>, rounding: Rounding) -> Result<Box<dyn Accumulator>> {
    let input = args.expr_fields[0].data_type();
    Ok(match args.is_distinct {
        true => Box::new(Distinct::<E>::new(input, rounding.finish::<E>())),
        false => Box::new(One::<E>::new(input, true, rounding.finish::<E>())),
    })
}

fn groups<E: Averaged>(input: &DataType, rounding: Rounding) -> Box<dyn GroupsAccumulator> {
    Box::new(Groups::<E>::new(wide_type::<E>(input), rounding))
}

impl AggregateUDFImpl for Mean {
    fn name(&self) -> &str {
        "avg"
    }

    fn aliases(&self) -> &[String] {
        self.plain.aliases()
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        match types {
            [integer] if integer.is_integer() => Ok(DataType::Float64),
            types => self.plain.return_type(types),
        }
    }

    fn state_fields(&self, args: StateFieldsArgs<'_>) -> Result<Vec<FieldRef>> {
        let input = args.input_fields[0].data_type().clone();
        match (&input, args.is_distinct) {
            (
                DataType::Decimal128(..)
                | DataType::Decimal256(..)
                | DataType::Int64
                | DataType::UInt64
                | DataType::Float64,
                true,
            ) => Ok(vec![distinct_field(format_state_name(args.name, "avg distinct"), &input)]),
            (DataType::Decimal128(..) | DataType::Decimal256(..), false) => {
                Ok(states(&args, wide_type::<Decimals>(&input)))
            }
            (DataType::Int64 | DataType::UInt64, false) => Ok(states(&args, wide_type::<Integers>(&input))),
            _ => self.plain.state_fields(args),
        }
    }

    fn accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        let rounding = Rounding::for_results(&args);
        match (args.expr_fields[0].data_type(), args.is_distinct) {
            (DataType::Decimal128(..), _) => one::<Decimals>(&args, rounding),
            (DataType::Decimal256(..), _) => one::<WideDecimals>(&args, rounding),
            (DataType::Int64, _) => one::<Integers>(&args, rounding),
            (DataType::UInt64, _) => one::<Naturals>(&args, rounding),
            (DataType::Float64, true) => Ok(Doubles::boxed(mean_of)),
            _ => in_one_form(self.plain.accumulator(args)),
        }
    }

    fn groups_accumulator_supported(&self, args: AccumulatorArgs<'_>) -> bool {
        self.plain.groups_accumulator_supported(args)
    }

    fn create_groups_accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn GroupsAccumulator>> {
        let rounding = Rounding::for_results(&args);
        match args.expr_fields[0].data_type() {
            input @ DataType::Decimal128(..) => Ok(groups::<Decimals>(input, rounding)),
            input @ DataType::Decimal256(..) => Ok(groups::<WideDecimals>(input, rounding)),
            input @ DataType::Int64 => Ok(groups::<Integers>(input, rounding)),
            input @ DataType::UInt64 => Ok(groups::<Naturals>(input, rounding)),
            _ => groups_in_one_form(self.plain.create_groups_accumulator(args)),
        }
    }

    fn create_sliding_accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        match (args.expr_fields[0].data_type(), args.is_distinct) {
            (DataType::Float64, false) => Ok(Frame::boxed(mean_of)),
            (DataType::Duration(_), _) => self.plain.create_sliding_accumulator(args),
            _ => self.accumulator(args),
        }
    }

    fn reverse_expr(&self) -> ReversedUDAF {
        ReversedUDAF::Identical
    }
}

fn mean_of(rows: &mut dyn Iterator<Item = [f64; 1]>) -> ScalarValue {
    double(total(rows).map(|(sum, count)| sum / count as f64))
}

/// The sum and the number of the numbers of each group.
struct Groups<E: Averaged> {
    sums: Vec<Native<E::Wide>>,
    counts: Vec<u64>,
    overflows: bool,
    /// The type of the sums.
    wide: DataType,
    rounding: Rounding,
    _of: PhantomData<E>,
}

impl<E: Averaged> Groups<E> {
    fn new(wide: DataType, rounding: Rounding) -> Self {
        Self { sums: Vec::new(), counts: Vec::new(), overflows: false, wide, rounding, _of: PhantomData }
    }

    fn resize(&mut self, count: usize) {
        self.sums.resize(count, Default::default());
        self.counts.resize(count, 0);
    }

    fn add<T: ArrowPrimitiveType + Send>(
        &mut self,
        values: &PrimitiveArray<T>,
        groups: &[usize],
        filter: Option<&BooleanArray>,
        widen: impl Fn(T::Native) -> Native<E::Wide> + Send + Sync,
    ) -> Result<()> {
        let (sums, overflows) = (&mut self.sums, &mut self.overflows);
        accumulate(groups, values, filter, |group, value| {
            *overflows |= add(&mut sums[group], widen(value)).is_err();
        });
        match self.overflows {
            true => exec_err!("{}", overflow("the mean", &self.rounding.returns)),
            false => Ok(()),
        }
    }
}

impl<E: Averaged> GroupsAccumulator for Groups<E> {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        groups: &[usize],
        filter: Option<&BooleanArray>,
        count: usize,
    ) -> Result<()> {
        self.resize(count);
        let values = values[0].as_primitive::<E::In>();
        accumulate(groups, values, filter, |group, _| self.counts[group] += 1);
        self.add(values, groups, filter, E::widen)
    }

    fn merge_batch(&mut self, values: &[ArrayRef], groups: &[usize], count: usize) -> Result<()> {
        self.resize(count);
        accumulate(groups, values[0].as_primitive::<UInt64Type>(), None, |group, more| self.counts[group] += more);
        self.add(values[1].as_primitive::<E::Wide>(), groups, None, |sum| sum)
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        let counts = emit_to.take_needed(&mut self.counts);
        let sums = emit_to.take_needed(&mut self.sums);
        let nulls = NullBuffer::from_iter(counts.iter().map(|count| *count > 0));
        let means = sums.into_iter().zip(counts).map(|(sum, count)| match count {
            0 => Ok(Default::default()),
            count => E::mean(&self.rounding, sum, count),
        });
        let means = means.collect::<Result<Vec<_>>>()?;
        let means = PrimitiveArray::<E::Out>::new(means.into(), Some(nulls));
        Ok(Arc::new(means.with_data_type(self.rounding.returns.clone())))
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        let counts = UInt64Array::new(emit_to.take_needed(&mut self.counts).into(), None);
        let sums = PrimitiveArray::<E::Wide>::new(emit_to.take_needed(&mut self.sums).into(), None);
        Ok(vec![Arc::new(counts), Arc::new(sums.with_data_type(self.wide.clone()))])
    }

    fn convert_to_state(&self, values: &[ArrayRef], filter: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        each_row(Self::new(self.wide.clone(), self.rounding.clone()), values, filter)
    }

    fn size(&self) -> usize {
        self.sums.capacity() * size_of::<Native<E::Wide>>() + self.counts.capacity() * size_of::<u64>()
    }
}
