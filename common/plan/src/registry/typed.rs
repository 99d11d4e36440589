//! Plain Rust functions over plain Rust values: how they read Arrow columns and what they give.

use super::FunctionError;
use datafusion::arrow::array::{
    Array, ArrayRef, BooleanArray, Float32Array, Float64Array, Int32Array, Int64Array, StringArray,
};
use datafusion::arrow::datatypes::DataType;
use datafusion::common::{Result, exec_datafusion_err};
use std::fmt::Display;
use std::sync::Arc;

/// A type that an argument may have.
pub trait Argument {
    /// It, borrowed from a column.
    type Item<'a>;
    /// The column.
    type Array: Array + 'static;

    /// The column's type.
    fn data_type() -> DataType;

    /// The value of a row; none where it is null and may not be.
    fn get(array: &Self::Array, row: usize) -> Option<Self::Item<'_>>;
}

/// A type that a result may have.
pub trait Value: Sized {
    /// The column's type.
    fn data_type() -> DataType;

    /// A column of such values.
    fn array(values: Vec<Option<Self>>) -> ArrayRef;
}

macro_rules! plain {
    ($rust:ty, $array:ty, $data_type:ident) => {
        impl Argument for $rust {
            type Item<'a> = $rust;
            type Array = $array;

            fn data_type() -> DataType {
                DataType::$data_type
            }

            fn get(array: &$array, row: usize) -> Option<$rust> {
                array.is_valid(row).then(|| array.value(row))
            }
        }

        impl Value for $rust {
            fn data_type() -> DataType {
                DataType::$data_type
            }

            fn array(values: Vec<Option<Self>>) -> ArrayRef {
                Arc::new(<$array>::from(values))
            }
        }
    };
}

plain!(bool, BooleanArray, Boolean);
plain!(i32, Int32Array, Int32);
plain!(i64, Int64Array, Int64);
plain!(f32, Float32Array, Float32);
plain!(f64, Float64Array, Float64);

impl Argument for &str {
    type Item<'a> = &'a str;
    type Array = StringArray;

    fn data_type() -> DataType {
        DataType::Utf8
    }

    fn get(array: &StringArray, row: usize) -> Option<&str> {
        array.is_valid(row).then(|| array.value(row))
    }
}

impl Value for String {
    fn data_type() -> DataType {
        DataType::Utf8
    }

    fn array(values: Vec<Option<Self>>) -> ArrayRef {
        Arc::new(StringArray::from(values))
    }
}

impl<T: Argument> Argument for Option<T> {
    type Item<'a> = Option<T::Item<'a>>;
    type Array = T::Array;

    fn data_type() -> DataType {
        T::data_type()
    }

    fn get(array: &T::Array, row: usize) -> Option<Option<T::Item<'_>>> {
        Some(T::get(array, row))
    }
}

/// What a function may give: a [`Value`], an `Option` of one (none is null), or a `Result` of either (an error fails
/// the job).
pub trait ScalarResult {
    /// The value in it.
    type Value: Value;

    /// Takes it apart.
    ///
    /// # Errors
    /// The function's own.
    fn value(self) -> Result<Option<Self::Value>, FunctionError>;
}

macro_rules! plain_result {
    ($($rust:ty),*) => {$(
        impl ScalarResult for $rust {
            type Value = $rust;

            fn value(self) -> Result<Option<$rust>, FunctionError> {
                Ok(Some(self))
            }
        }
    )*};
}

plain_result!(bool, i32, i64, f32, f64, String);

impl<T: Value> ScalarResult for Option<T> {
    type Value = T;

    fn value(self) -> Result<Option<T>, FunctionError> {
        Ok(self)
    }
}

impl<T: ScalarResult, E: Display> ScalarResult for std::result::Result<T, E> {
    type Value = T::Value;

    fn value(self) -> Result<Option<T::Value>, FunctionError> {
        self.map_err(FunctionError::new)?.value()
    }
}

/// Several arguments: a tuple of up to four [`Argument`]s.
pub trait Arguments {
    /// They, borrowed from columns.
    type Items<'a>;

    /// The types of the columns.
    fn data_types() -> Vec<DataType>;

    /// Reads rows; gives none for a row with a null where no null may be.
    ///
    /// # Errors
    /// For columns of other types.
    fn rows<'a>(columns: &'a [ArrayRef]) -> Result<impl Fn(usize) -> Option<Self::Items<'a>>>;
}

/// A function of one row that [`Functions::scalar`](super::Functions::scalar) takes; `M` only tells closures with
/// different numbers of arguments apart.
pub trait ScalarFunction<M>: Send + Sync + 'static {
    /// The types of its arguments.
    fn argument_types() -> Vec<DataType>;

    /// The type of its result.
    fn result_type() -> DataType;

    /// Its values for rows of these columns.
    ///
    /// # Errors
    /// The function's own, and for columns of other types.
    fn call(&self, columns: &[ArrayRef], rows: usize) -> Result<ArrayRef>;
}

fn column<T: Argument>(columns: &[ArrayRef], index: usize) -> Result<&T::Array> {
    let column = columns.get(index).and_then(|column| column.as_any().downcast_ref::<T::Array>());
    column.ok_or_else(|| exec_datafusion_err!("argument {} is not a {}", index + 1, T::data_type()))
}

macro_rules! arity {
    ($($argument:ident $index:literal $array:ident),*) => {
        impl<$($argument: Argument),*> Arguments for ($($argument,)*) {
            type Items<'a> = ($($argument::Item<'a>,)*);

            fn data_types() -> Vec<DataType> {
                vec![$($argument::data_type()),*]
            }

            fn rows<'a>(_columns: &'a [ArrayRef]) -> Result<impl Fn(usize) -> Option<Self::Items<'a>>> {
                $(let $array = column::<$argument>(_columns, $index)?;)*
                Ok(move |_row| Some(($($argument::get($array, _row)?,)*)))
            }
        }

        impl<F, R, $($argument),*> ScalarFunction<fn($($argument),*) -> R> for F
        where
            F: Fn($($argument),*) -> R + for<'a> Fn($($argument::Item<'a>),*) -> R + Send + Sync + 'static,
            R: ScalarResult,
            $($argument: Argument,)*
        {
            fn argument_types() -> Vec<DataType> {
                <($($argument,)*)>::data_types()
            }

            fn result_type() -> DataType {
                R::Value::data_type()
            }

            fn call(&self, columns: &[ArrayRef], rows: usize) -> Result<ArrayRef> {
                // Tells the compiler which of the two bounds on `F` is meant.
                #[allow(clippy::too_many_arguments)]
                fn once<R, $($argument),*>(function: impl Fn($($argument),*) -> R, $($array: $argument),*) -> R {
                    function($($array),*)
                }
                let read = <($($argument,)*)>::rows(columns)?;
                let value = |row| match read(row) {
                    Some(($($array,)*)) => once(self, $($array),*).value(),
                    None => Ok(None),
                };
                let values: std::result::Result<Vec<_>, FunctionError> = (0..rows).map(value).collect();
                Ok(R::Value::array(values.map_err(|error| exec_datafusion_err!("{error}"))?))
            }
        }
    };
}

arity!();
arity!(A 0 a);
arity!(A 0 a, B 1 b);
arity!(A 0 a, B 1 b, C 2 c);
arity!(A 0 a, B 1 b, C 2 c, D 3 d);
