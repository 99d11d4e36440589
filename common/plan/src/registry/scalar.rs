//! A user's function of one row, as DataFusion sees it.

use super::{FunctionError, FunctionKind, FunctionRef, ScalarFunction, shown};
use datafusion::arrow::array::{Array, ArrayRef};
use datafusion::arrow::datatypes::DataType;
use datafusion::common::{Result, exec_datafusion_err, exec_err};
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, TypeSignature, Volatility,
};
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

type Call = Arc<dyn Fn(&[ArrayRef], usize) -> Result<ArrayRef> + Send + Sync>;

/// A function of one row over whole Arrow columns: gives a column of `returns` with as many rows as its arguments.
#[derive(Clone)]
pub struct ArrowScalar {
    arguments: Vec<DataType>,
    returns: DataType,
    call: Call,
}

impl fmt::Debug for ArrowScalar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "({}) -> {}", shown(&self.arguments), self.returns)
    }
}

impl ArrowScalar {
    /// Of arguments of these types. `function` gets the columns and the number of rows. Row *i* of the result may depend
    /// on row *i* of the arguments alone: how many rows come at once is not fixed.
    pub fn new(
        arguments: impl Into<Vec<DataType>>,
        returns: DataType,
        function: impl Fn(&[ArrayRef], usize) -> Result<ArrayRef, FunctionError> + Send + Sync + 'static,
    ) -> Self {
        let call = move |columns: &[_], rows| function(columns, rows).map_err(|error| exec_datafusion_err!("{error}"));
        Self { arguments: arguments.into(), returns, call: Arc::new(call) }
    }
}

pub(super) fn typed<M, F: ScalarFunction<M>>(name: &str, version: u32, function: F) -> ScalarUDF {
    let call: Call = Arc::new(move |columns, rows| function.call(columns, rows));
    arrow(name, version, ArrowScalar { arguments: F::argument_types(), returns: F::result_type(), call })
}

pub(super) fn arrow(name: &str, version: u32, function: ArrowScalar) -> ScalarUDF {
    let function_ref = FunctionRef { kind: FunctionKind::Scalar, name: name.to_string(), version };
    let signature = match function.arguments.is_empty() {
        true => TypeSignature::Nullary,
        false => TypeSignature::Exact(function.arguments.clone()),
    };
    let signature = Signature::new(signature, Volatility::Immutable);
    ScalarUDF::from(UserScalar { function_ref, signature, function })
}

/// A registered scalar.
#[derive(Debug)]
pub(super) struct UserScalar {
    pub(super) function_ref: FunctionRef,
    signature: Signature,
    function: ArrowScalar,
}

/// A registry has a name once.
impl PartialEq for UserScalar {
    fn eq(&self, other: &Self) -> bool {
        self.function_ref == other.function_ref
    }
}

impl Eq for UserScalar {}

impl Hash for UserScalar {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.function_ref.name.hash(state);
    }
}

impl ScalarUDFImpl for UserScalar {
    fn name(&self) -> &str {
        &self.function_ref.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(self.function.returns.clone())
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let name = self.name();
        let rows = args.number_rows;
        let columns: Vec<_> = args.args.into_iter().map(|arg| arg.into_array(rows)).collect::<Result<_>>()?;
        let result = (self.function.call)(&columns, rows).map_err(|error| {
            exec_datafusion_err!("`{name}`: {}", error.strip_backtrace().trim_start_matches(PREFIX))
        })?;
        if result.len() != rows || *result.data_type() != self.function.returns {
            let (got, got_type) = (result.len(), result.data_type());
            return exec_err!(
                "`{name}` gave {got} values of type {got_type} for {rows} rows, not as many of type {}",
                self.function.returns
            );
        }
        Ok(ColumnarValue::Array(result))
    }
}

/// How DataFusion begins the text of what fails on data.
const PREFIX: &str = "Execution error: ";
