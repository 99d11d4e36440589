//! What a condition decides does not depend on what stands beside it in a block.
//!
//! DataFusion evaluates `and` and `or` over whole blocks, and whether it asks the right side of a row that the left side
//! has decided depends on the other rows. Its optimiser moves conditions, too. Neither matters as long as nothing can
//! fail. What can ([`fallible`]) is asked in order here:
//!
//! - The operands of `and` and `or` are asked from left to right, each only for the rows that are undecided ([`chain`]).
//! - Of the conditions of a query, those that cannot fail come first, as joins are made of them; the others stay where
//!   they are ([`placed`]).
//! - The arguments of an aggregate with `filter` are computed for the rows that it takes.

mod chain;
mod fallible;
mod placed;

pub(crate) use chain::{as_operators, lazily};
pub(crate) use placed::{KeepInPlace, Planner};
