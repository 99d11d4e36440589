//! The time inside expressions: `now()`, `current_timestamp` and `current_date` are the batch's time (INV-1).
//!
//! DataFusion would make them literals when it plans, once per job. Ours are volatile, which stops that, and read
//! the time of the batch being run from a task-local.

use crate::learn::predict;
use datafusion::arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::{Result, ScalarValue, exec_datafusion_err};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use std::future::Future;
use std::sync::Arc;

tokio::task_local! {
    /// Milliseconds since 1970 UTC.
    static BATCH_TIME: i64;
}

const MILLIS_PER_DAY: i64 = 24 * 60 * 60 * 1000;

/// Runs a future with the time of a batch.
pub(crate) async fn at<F: Future>(time_ms: i64, future: F) -> F::Output {
    BATCH_TIME.scope(time_ms, future).await
}

/// Runs a function with the time of a batch.
pub(crate) fn sync_at<T>(time_ms: i64, run: impl FnOnce() -> T) -> T {
    BATCH_TIME.sync_scope(time_ms, run)
}

/// The functions that replace DataFusion's of the same names.
pub(crate) fn functions() -> [Arc<ScalarUDF>; 2] {
    let function = |name, aliases: &[&str], data_type| {
        let aliases = aliases.iter().map(|alias| alias.to_string()).collect();
        let signature = Signature::nullary(Volatility::Volatile);
        Arc::new(ScalarUDF::from(BatchTime { name, aliases, signature, data_type }))
    };
    [
        function("now", &["current_timestamp"], DataType::Timestamp(TimeUnit::Microsecond, None)),
        function("current_date", &["today"], DataType::Date32),
    ]
}

/// The first function in the expression, if any, whose value does not follow from the records and the batch.
pub(crate) fn unrepeatable(expr: &Expr) -> Option<&str> {
    match expr {
        Expr::ScalarFunction(call)
            if call.func.signature().volatility != Volatility::Immutable
                && !call.func.inner().is::<BatchTime>()
                && !predict::asks(expr) =>
        {
            Some(call.func.name())
        }
        _ => None,
    }
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct BatchTime {
    name: &'static str,
    aliases: Vec<String>,
    signature: Signature,
    data_type: DataType,
}

impl ScalarUDFImpl for BatchTime {
    fn name(&self) -> &str {
        self.name
    }

    fn aliases(&self) -> &[String] {
        &self.aliases
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(self.data_type.clone())
    }

    fn invoke_with_args(&self, _: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let millis = BATCH_TIME
            .try_with(|millis| *millis)
            .map_err(|_| exec_datafusion_err!("`{}` outside of a batch", self.name))?;
        let out_of_range = || exec_datafusion_err!("the batch time {millis} ms is out of range");
        Ok(ColumnarValue::Scalar(if self.data_type == DataType::Date32 {
            let days = i32::try_from(millis.div_euclid(MILLIS_PER_DAY));
            ScalarValue::Date32(Some(days.map_err(|_| out_of_range())?))
        } else {
            let micros = millis.checked_mul(1000).ok_or_else(out_of_range)?;
            ScalarValue::TimestampMicrosecond(Some(micros), None)
        }))
    }
}
