//! Which registered functions a job uses: noted while its expressions are read.

use super::FunctionRef;
use super::aggregate::UserAggregate;
use super::scalar::UserScalar;
use crate::in_order::unordered;
use datafusion::logical_expr::{Expr, ScalarUDF};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

/// Whether it is a registered function.
pub(crate) fn is_users(function: &ScalarUDF) -> bool {
    function.inner().is::<UserScalar>()
}

/// The functions used so far; clones share them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Uses(Arc<Mutex<BTreeSet<FunctionRef>>>);

impl Uses {
    /// Notes a function.
    pub(crate) fn add(&self, function: &FunctionRef) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(function.clone());
    }

    /// Notes the function that this node of an expression calls, if it is a registered one.
    pub(crate) fn note(&self, node: &Expr) {
        match node {
            Expr::ScalarFunction(call) => {
                if let Some(scalar) = call.func.inner().downcast_ref::<UserScalar>() {
                    self.add(&scalar.function_ref);
                }
            }
            Expr::AggregateFunction(call) => {
                if let Some(aggregate) = unordered(&call.func).inner().downcast_ref::<UserAggregate>() {
                    self.add(&aggregate.function_ref);
                }
            }
            _ => {}
        }
    }

    /// All of them, in order.
    pub(crate) fn all(&self) -> Vec<FunctionRef> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }
}
