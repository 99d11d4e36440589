//! Arithmetic with integers and decimals that fails where its result does not fit.

use super::quotient::quotients;
use datafusion::arrow::array::types::{Decimal128Type, Decimal256Type};
use datafusion::arrow::array::{Array, ArrayRef, AsArray};
use datafusion::arrow::compute::kernels::cmp::lt;
use datafusion::arrow::compute::kernels::numeric::{add, div, mul, neg, rem, sub};
use datafusion::arrow::compute::kernels::zip::zip;
use datafusion::arrow::compute::{not, nullif};
use datafusion::arrow::datatypes::{DECIMAL128_MAX_PRECISION, DECIMAL256_MAX_PRECISION, DataType, Field, FieldRef};
use datafusion::arrow::error::ArrowError;
use datafusion::common::{DataFusionError, Result, ScalarValue, exec_datafusion_err, internal_err};
use datafusion::logical_expr::{
    ColumnarValue, Operator, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility,
};
use datafusion::physical_expr_common::datum::apply;
use std::sync::Arc;

/// An operation whose result may not fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Operation {
    Add,
    Subtract,
    Multiply,
    Divide,
    Modulo,
    Negate,
    Abs,
}

impl Operation {
    pub(super) fn of(operator: Operator) -> Option<Self> {
        match operator {
            Operator::Plus => Some(Self::Add),
            Operator::Minus => Some(Self::Subtract),
            Operator::Multiply => Some(Self::Multiply),
            Operator::Divide => Some(Self::Divide),
            Operator::Modulo => Some(Self::Modulo),
            _ => None,
        }
    }

    /// How it is written.
    pub(super) fn sign(self) -> &'static str {
        match self {
            Self::Add => "+",
            Self::Subtract | Self::Negate => "-",
            Self::Multiply => "*",
            Self::Divide => "/",
            Self::Modulo => "%",
            Self::Abs => "abs",
        }
    }
}

/// One operation of a chain, and the type of what it gives.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Step {
    operation: Operation,
    returns: DataType,
}

impl Step {
    /// How many arguments it takes beside what came before it.
    fn further(&self) -> usize {
        usize::from(!matches!(self.operation, Operation::Negate | Operation::Abs))
    }
}

/// Checked operations, each on the result of the one before it. Users cannot name it.
///
/// A sum of a thousand terms is one call: planning looks at the type of an expression at every level, so a call within a
/// call within a call costs the square of their number.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Checked {
    steps: Vec<Step>,
    /// The whole as people would write it.
    pub(super) text: Arc<str>,
    /// The expression that it is in, as it was written.
    written: Arc<str>,
    signature: Signature,
}

impl Checked {
    /// One operation, or one more at the end of those `before`.
    pub(super) fn new(
        before: Option<&Checked>,
        operation: Operation,
        text: Arc<str>,
        written: Arc<str>,
        returns: DataType,
    ) -> Self {
        let mut steps = before.map_or_else(Vec::new, |before| before.steps.clone());
        steps.push(Step { operation, returns });
        let arguments = 1 + steps.iter().map(Step::further).sum::<usize>();
        Self { steps, text, written, signature: Signature::any(arguments, Volatility::Immutable) }
    }

    /// The last of its operations.
    pub(super) fn operation(&self) -> Option<Operation> {
        self.steps.last().map(|step| step.operation)
    }

    /// The type of the result.
    pub(super) fn returns(&self) -> DataType {
        self.steps.last().map_or(DataType::Null, |step| step.returns.clone())
    }

    /// The result.
    ///
    /// # Errors
    /// When it does not fit.
    pub(super) fn apply(&self, args: &[ColumnarValue]) -> Result<ColumnarValue> {
        let [first, further @ ..] = args else { return internal_err!("no arguments of {:?}", self.steps) };
        let (mut value, mut further) = (first.clone(), further.iter());
        for step in &self.steps {
            let result = match step.operation {
                Operation::Negate => unary(&value, |a| neg(a)),
                Operation::Abs => unary(&value, absolute),
                operation => match further.next() {
                    Some(next) => binary(operation, &value, next, &step.returns),
                    None => internal_err!("too few arguments of {:?}", self.steps),
                },
            };
            let result = result.and_then(|value| within_precision(value, &step.returns));
            value = result.map_err(|error| self.said(error, &step.returns))?;
        }
        Ok(value)
    }

    fn said(&self, error: DataFusionError, returns: &DataType) -> DataFusionError {
        match error.find_root() {
            DataFusionError::ArrowError(arrow, _) => match arrow.as_ref() {
                ArrowError::DivideByZero => exec_datafusion_err!("`{}` divides by zero", self.written),
                ArrowError::ArithmeticOverflow(_) | ArrowError::InvalidArgumentError(_) => {
                    exec_datafusion_err!("{}", overflow(&format!("`{}`", self.written), returns))
                }
                _ => error,
            },
            _ => error,
        }
    }
}

fn binary(operation: Operation, a: &ColumnarValue, b: &ColumnarValue, returns: &DataType) -> Result<ColumnarValue> {
    match operation {
        Operation::Divide if returns.is_decimal() => apply(a, b, |a, b| quotients(a, b, returns)),
        Operation::Add => apply(a, b, add),
        Operation::Subtract => apply(a, b, sub),
        Operation::Multiply => apply(a, b, mul),
        Operation::Divide => apply(a, b, div),
        Operation::Modulo => apply(a, b, rem),
        Operation::Negate | Operation::Abs => internal_err!("{operation:?} of two values"),
    }
}

/// What is said when a result does not fit its type.
pub(super) fn overflow(what: &str, data_type: &DataType) -> String {
    format!("{what} overflows {}", tidemill_rows::type_name(data_type))
}

type Unary = fn(&dyn Array) -> Result<ArrayRef, ArrowError>;

fn unary(value: &ColumnarValue, f: Unary) -> Result<ColumnarValue> {
    Ok(match value {
        ColumnarValue::Array(array) => ColumnarValue::Array(f(array.as_ref())?),
        ColumnarValue::Scalar(value) => {
            ColumnarValue::Scalar(ScalarValue::try_from_array(&f(value.to_array_of_size(1)?.as_ref())?, 0)?)
        }
    })
}

/// Negates what is below zero, and nothing else: the negative of the rest may not fit.
fn absolute(array: &dyn Array) -> Result<ArrayRef, ArrowError> {
    let zero = ScalarValue::new_zero(array.data_type()).and_then(|zero| zero.to_scalar());
    let below = lt(&array, &zero.map_err(|error| ArrowError::ComputeError(error.to_string()))?)?;
    let negative = nullif(array, &not(&below)?)?;
    zip(&below, &neg(negative.as_ref())?, &array)
}

/// Decimals of the greatest precision may have more digits than that.
fn within_precision(value: ColumnarValue, data_type: &DataType) -> Result<ColumnarValue> {
    let array = match (&value, data_type) {
        (ColumnarValue::Array(array), DataType::Decimal128(..) | DataType::Decimal256(..)) => array.clone(),
        (ColumnarValue::Scalar(value), DataType::Decimal128(..) | DataType::Decimal256(..)) => {
            value.to_array_of_size(1)?
        }
        _ => return Ok(value),
    };
    match data_type {
        DataType::Decimal128(DECIMAL128_MAX_PRECISION, _) => {
            array.as_primitive::<Decimal128Type>().validate_decimal_precision(DECIMAL128_MAX_PRECISION)?;
        }
        DataType::Decimal256(DECIMAL256_MAX_PRECISION, _) => {
            array.as_primitive::<Decimal256Type>().validate_decimal_precision(DECIMAL256_MAX_PRECISION)?;
        }
        _ => {}
    }
    Ok(value)
}

impl ScalarUDFImpl for Checked {
    fn name(&self) -> &str {
        match self.steps.as_slice() {
            [only] => match only.operation {
                Operation::Add => "checked_add",
                Operation::Subtract => "checked_subtract",
                Operation::Multiply => "checked_multiply",
                Operation::Divide => "checked_divide",
                Operation::Modulo => "checked_modulo",
                Operation::Negate => "checked_negate",
                Operation::Abs => "checked_abs",
            },
            _ => "checked_arithmetic",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(self.returns())
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        let nullable = args.arg_fields.iter().any(|field| field.is_nullable());
        Ok(Arc::new(Field::new(self.name(), self.returns(), nullable)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        self.apply(&args.args)
    }
}
