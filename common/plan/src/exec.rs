//! Our own physical operators: what DataFusion's leave to chance, or take from files.

mod concat;
mod leaf;
mod one_batch;
mod stable_sort;

pub(crate) use concat::ConcatExec;
pub(crate) use leaf::{LeafExec, LeafTable, TaskInputs};
pub(crate) use one_batch::OneBatchExec;
pub(crate) use stable_sort::StableSortExec;
