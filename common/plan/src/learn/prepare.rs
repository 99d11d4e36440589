//! Features made fit for models: what a transformer makes of columns, and the functions that need no model.

use super::matrix::{columns_of, with_gaps};
use crate::decode::arrow_type;
use datafusion::arrow::array::{Array, ArrayRef, AsArray, FixedSizeListArray, Float64Array, StringArray};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Float64Type};
use datafusion::common::{Result, ScalarValue, exec_datafusion_err, internal_err, plan_datafusion_err, plan_err};
use datafusion::logical_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use ndarray::Array2;
use std::sync::Arc;
use tidemill_job::ColumnType;
use tidemill_ml::{FeatureHasher, Fixed, Model, ModelError, ModelSpec, polynomial, polynomial_features};

/// Most features of a vector that is made here.
const WIDEST: usize = 1_000_000;

/// The type of a vector of so many numbers.
pub(super) fn vector(features: usize) -> Result<DataType> {
    match u32::try_from(features) {
        Ok(length) if (1..=WIDEST).contains(&features) => Ok(arrow_type(ColumnType::Vector(length))),
        _ => plan_err!("this would be a vector of {features} numbers; use 1 to {WIDEST}"),
    }
}

/// The type of what a transformer makes of columns of these types.
pub(super) fn transformed_type(name: &str, spec: &ModelSpec, features: &[FieldRef]) -> Result<DataType> {
    let found = if spec.takes_text() {
        if let Some(field) = features.iter().find(|field| !is_category(field.data_type())) {
            return plan_err!("categories are text or whole numbers, `{}` is a {}", field.name(), field.data_type());
        }
        features.len()
    } else {
        columns_of(features)?
    };
    match (spec.width(found), spec.fixed()) {
        (Some(width), _) => vector(width),
        (None, Some(Fixed { parameter, features })) => {
            plan_err!("`{name}`: the model's `{parameter}` are for {features} columns, not for {found}")
        }
        (None, None) => plan_err!("`{name}`: a model of kind {} does not take {found} columns", spec.kind()),
    }
}

/// Whether the values of a column of this type may be categories.
pub(crate) fn is_category(data_type: &DataType) -> bool {
    data_type.is_string() || data_type.is_integer() || matches!(data_type, DataType::Boolean | DataType::Null)
}

/// What a transformer makes of these columns. What is missing is null in them, and null in the vectors where it is missing still.
pub(super) fn transformed(model: &Model, columns: &[ArrayRef], rows: usize) -> Result<ArrayRef> {
    let wrong = |error: ModelError| exec_datafusion_err!("{error}");
    if !model.spec().takes_text() {
        return vectors(model.transform(with_gaps(columns, rows)?.view()).map_err(wrong)?);
    }
    let columns = texts(columns)?;
    let columns: Vec<&StringArray> = columns.iter().map(|column| column.as_string()).collect();
    vectors(model.transform_text((0..rows).map(|row| texts_of(&columns, row))).map_err(wrong)?)
}

/// The columns as text.
pub(super) fn texts(columns: &[ArrayRef]) -> Result<Vec<ArrayRef>> {
    columns.iter().map(|column| Ok(cast(column, &DataType::Utf8)?)).collect()
}

/// The texts of a row.
pub(super) fn texts_of<'a>(columns: &[&'a StringArray], row: usize) -> Vec<Option<&'a str>> {
    columns.iter().map(|column| column.is_valid(row).then(|| column.value(row))).collect()
}

/// Rows of numbers as vectors; what is not a number is null.
fn vectors(x: Array2<f64>) -> Result<ArrayRef> {
    let (rows, width) = x.dim();
    let DataType::FixedSizeList(item, length) = vector(width.max(1))? else {
        return internal_err!("a vector is a list");
    };
    let values: Float64Array = x.iter().map(|value| (!value.is_nan()).then_some(*value)).collect();
    let values = if rows == 0 { Float64Array::from(Vec::<f64>::new()) } else { values };
    Ok(Arc::new(FixedSizeListArray::try_new(item, length, Arc::new(values), None)?))
}

/// The functions that need no model: `hash_features(n, ..)` and `polynomial(x, degree[, interaction_only])`.
pub(crate) fn functions() -> Vec<Arc<ScalarUDF>> {
    let function = |made: Made| {
        let signature = Signature::variadic_any(Volatility::Immutable);
        Arc::new(ScalarUDF::from(MakeFeatures { made, signature }))
    };
    vec![function(Made::Hashed), function(Made::Products)]
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Made {
    Hashed,
    Products,
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct MakeFeatures {
    made: Made,
    signature: Signature,
}

/// The value of an argument that has to be written down as a number.
fn count(value: Option<&ScalarValue>) -> Option<u32> {
    match value?.cast_to(&DataType::Int64).ok()? {
        ScalarValue::Int64(Some(count)) => u32::try_from(count).ok(),
        _ => None,
    }
}

fn flag(value: Option<&ScalarValue>) -> Option<bool> {
    match value {
        None => Some(false),
        Some(ScalarValue::Boolean(flag)) => *flag,
        Some(_) => None,
    }
}

/// The degree of a polynomial, and whether only different features are multiplied.
fn degree(arguments: &[Option<&ScalarValue>]) -> Result<(u32, bool)> {
    let degree = count(arguments.get(1).copied().flatten());
    match (degree, flag(arguments.get(2).copied().flatten())) {
        (Some(degree), Some(interaction_only)) if arguments.len() <= 3 => Ok((degree, interaction_only)),
        _ => plan_err!("`polynomial` is written polynomial(vector, 2) or polynomial(vector, 2, true)"),
    }
}

impl ScalarUDFImpl for MakeFeatures {
    fn name(&self) -> &str {
        match self.made {
            Made::Hashed => "hash_features",
            Made::Products => "polynomial",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        plan_err!("the type of `{}` depends on its arguments", self.name())
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        let data_type = match self.made {
            Made::Hashed => {
                let written =
                    "`hash_features` is written hash_features(64, a, b): the number of features, then columns";
                let features = count(args.scalar_arguments.first().copied().flatten());
                let features = features.ok_or_else(|| plan_datafusion_err!("{written}"))?;
                let fits = |data_type: &DataType| is_category(data_type) || data_type.is_numeric();
                match args.arg_fields.get(1..) {
                    None | Some([]) => return plan_err!("{written}"),
                    Some(columns) => match columns.iter().find(|column| !fits(column.data_type())) {
                        Some(column) => {
                            return plan_err!("`{}` is a {}: hash text or numbers", column.name(), column.data_type());
                        }
                        None => vector(features as usize)?,
                    },
                }
            }
            Made::Products => {
                let (degree, interaction_only) = degree(args.scalar_arguments)?;
                let features = columns_of(args.arg_fields.get(..1).unwrap_or_default())?;
                let products = polynomial_features(features, degree, interaction_only);
                vector(products.map_err(|error| plan_datafusion_err!("`polynomial`: {error}"))?)?
            }
        };
        Ok(Arc::new(Field::new(self.name(), data_type, true)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let scalars: Vec<Option<&ScalarValue>> = args
            .args
            .iter()
            .map(|argument| match argument {
                ColumnarValue::Scalar(value) => Some(value),
                ColumnarValue::Array(_) => None,
            })
            .collect();
        let rows = args.number_rows;
        let array = |argument: &ColumnarValue| argument.to_array(rows);
        let features = match self.made {
            Made::Hashed => {
                let features = count(scalars.first().copied().flatten()).unwrap_or(1);
                let columns: Vec<ArrayRef> = args.args[1..].iter().map(array).collect::<Result<_>>()?;
                hashed_rows(features, &columns, rows)?
            }
            Made::Products => {
                let (degree, interaction_only) = degree(&scalars)?;
                let x = with_gaps(&[array(&args.args[0])?], rows)?;
                let products = polynomial(x.view(), degree, interaction_only);
                products.map_err(|error| exec_datafusion_err!("`polynomial`: {error}"))?
            }
        };
        Ok(ColumnarValue::Array(vectors(features)?))
    }
}

/// Texts (and truth) add 1 or -1 where their hash says, numbers as much as they are where that of their column says; null adds nothing.
fn hashed_rows(features: u32, columns: &[ArrayRef], rows: usize) -> Result<Array2<f64>> {
    let hasher = FeatureHasher { features, seed: 0 };
    let mut x = Array2::zeros((rows, features as usize));
    for (number, column) in (0..).zip(columns) {
        let numeric = column.data_type().is_numeric();
        let column = cast(column, if numeric { &DataType::Float64 } else { &DataType::Utf8 })?;
        for (row, mut features) in x.rows_mut().into_iter().enumerate() {
            let Some(features) = features.as_slice_mut().filter(|_| column.is_valid(row)) else { continue };
            match numeric {
                true => hasher.add(number, "", column.as_primitive::<Float64Type>().value(row), features),
                false => hasher.add(number, column.as_string::<i32>().value(row), 1.0, features),
            }
        }
    }
    Ok(x)
}
