//! Our own physical operators: what DataFusion's leave to chance, or take from files.

mod batch_map;
mod concat;
mod fixed;
mod leaf;
mod of_stream;
mod one_batch;
mod over;
mod read;
mod stable_sort;

pub(crate) use concat::Concat;
pub(crate) use fixed::{FixedExec, FixedTable};
pub(crate) use leaf::{LeafExec, LeafTable, TaskInputs};
pub(crate) use of_stream::OfStream;
pub(crate) use one_batch::OneBatch;
pub(crate) use over::{OverExec, OverInput, at_the_end};
pub(crate) use stable_sort::{StableSort, stable_order};
