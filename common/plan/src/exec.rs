//! Our own physical operators: what DataFusion's leave to chance, or take from files.

mod batch_map;
mod concat;
mod fixed;
mod leaf;
mod one_batch;
mod stable_sort;

pub(crate) use batch_map::BatchMapExec;
pub(crate) use concat::ConcatExec;
pub(crate) use fixed::{FixedExec, FixedTable};
pub(crate) use leaf::{LeafExec, LeafTable, TaskInputs};
pub(crate) use one_batch::OneBatchExec;
pub(crate) use stable_sort::{RECOMPUTE, StableSortExec};
