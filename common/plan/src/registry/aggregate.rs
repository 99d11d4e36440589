//! Users' aggregates: a state that rows are put into, that merges with others, and that gives a value in the end.

use super::typed::{Arguments, ScalarResult, Value};
use super::{FunctionError, FunctionKind, FunctionRef};
use datafusion::arrow::array::{Array, ArrayRef, AsArray};
use datafusion::arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::{DataFusionError, Result, ScalarValue, exec_datafusion_err};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::format_state_name;
use datafusion::logical_expr::{Accumulator, AggregateUDF, AggregateUDFImpl, Signature, TypeSignature, Volatility};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::marker::PhantomData;
use std::sync::Arc;
use tidemill_rows::canonical_array;

/// A function of many rows.
///
/// Rows are put into states per block or key group, the states travel (as bytes), are merged in a fixed order, and the
/// last one gives the value. All of it must be pure, and `merge` must agree with `update`: merging the states of two
/// runs of rows gives what one state over both runs gives.
pub trait Aggregate: Send + Sync + 'static {
    /// A tuple of what it is called with, for example `(f64,)` or `(&'static str, Option<i64>)`.
    type Arguments: Arguments;
    /// What it remembers; the default is that of no rows. Maps in it should be ordered, so that equal states have
    /// equal bytes.
    type State: Default + Serialize + DeserializeOwned + Send + Sync + 'static;
    /// The value in the end.
    type Output: ScalarResult;

    /// Puts a row in. Not called for a row with a null where the arguments have no `Option`.
    fn update(&self, state: &mut Self::State, arguments: <Self::Arguments as Arguments>::Items<'_>);

    /// Adds the state of rows that come later.
    fn merge(&self, state: &mut Self::State, later: Self::State);

    /// The value.
    fn finish(&self, state: &Self::State) -> Self::Output;

    /// Bytes that the state holds beyond itself, for the memory limit of a task. Default none.
    fn heap_bytes(&self, _state: &Self::State) -> usize {
        0
    }
}

pub(super) fn udaf<A: Aggregate>(name: &str, version: u32, aggregate: A) -> AggregateUDF {
    let function_ref = FunctionRef { kind: FunctionKind::Aggregate, name: name.to_string(), version };
    let types = A::Arguments::data_types();
    let signature = if types.is_empty() { TypeSignature::Nullary } else { TypeSignature::Exact(types) };
    let aggregate = Arc::new(aggregate);
    let accumulator: MakeAccumulator = Arc::new(move || {
        let state = A::State::default();
        Box::new(Running { aggregate: aggregate.clone(), state, _arguments: PhantomData })
    });
    AggregateUDF::from(UserAggregate {
        function_ref,
        signature: Signature::new(signature, Volatility::Immutable),
        returns: <A::Output as ScalarResult>::Value::data_type(),
        accumulator,
    })
}

type MakeAccumulator = Arc<dyn Fn() -> Box<dyn Accumulator> + Send + Sync>;

/// A registered aggregate.
pub(super) struct UserAggregate {
    pub(super) function_ref: FunctionRef,
    signature: Signature,
    returns: DataType,
    accumulator: MakeAccumulator,
}

impl fmt::Debug for UserAggregate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.function_ref)
    }
}

/// A registry has a name once.
impl PartialEq for UserAggregate {
    fn eq(&self, other: &Self) -> bool {
        self.function_ref == other.function_ref
    }
}

impl Eq for UserAggregate {}

impl Hash for UserAggregate {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.function_ref.name.hash(state);
    }
}

impl AggregateUDFImpl for UserAggregate {
    fn name(&self) -> &str {
        &self.function_ref.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(self.returns.clone())
    }

    fn accumulator(&self, _: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        Ok((self.accumulator)())
    }

    fn state_fields(&self, args: StateFieldsArgs<'_>) -> Result<Vec<FieldRef>> {
        Ok(vec![Arc::new(Field::new(format_state_name(args.name, "state"), DataType::Binary, true))])
    }

    fn default_value(&self, _: &DataType) -> Result<ScalarValue> {
        (self.accumulator)().evaluate()
    }
}

struct Running<A: Aggregate> {
    aggregate: Arc<A>,
    state: A::State,
    _arguments: PhantomData<fn() -> A::Arguments>,
}

impl<A: Aggregate> fmt::Debug for Running<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Running")
    }
}

fn of_user(error: FunctionError) -> DataFusionError {
    exec_datafusion_err!("{error}")
}

impl<A: Aggregate> Accumulator for Running<A> {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let rows = values.first().map_or(0, |column| column.len());
        let read = A::Arguments::rows(values)?;
        for row in 0..rows {
            if let Some(arguments) = read(row) {
                self.aggregate.update(&mut self.state, arguments);
            }
        }
        Ok(())
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let Some(states) = states.first() else { return Ok(()) };
        for bytes in states.as_binary::<i32>().iter().flatten() {
            let later = postcard::from_bytes(bytes)
                .map_err(|error| DataFusionError::Internal(format!("the state of an aggregate: {error}")))?;
            self.aggregate.merge(&mut self.state, later);
        }
        Ok(())
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let bytes = postcard::to_stdvec(&self.state)
            .map_err(|error| exec_datafusion_err!("the state of an aggregate cannot be written: {error}"))?;
        Ok(vec![ScalarValue::Binary(Some(bytes))])
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let value = self.aggregate.finish(&self.state).value().map_err(of_user)?;
        ScalarValue::try_from_array(&canonical_array(&<A::Output as ScalarResult>::Value::array(vec![value])), 0)
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.aggregate.heap_bytes(&self.state)
    }
}
