//! Arms of bandits: from names to places, and back.

use super::matrix::matrix;
use crate::error::PlanError;
use crate::keys::encode_keys;
use datafusion::arrow::array::{Array, ArrayRef, AsArray, Float64Array, StringArray};
use datafusion::common::exec_datafusion_err;
use tidemill_ml::{Model, hashed};

/// The place of every row's arm; -1, which no model learns, for a name that is none.
pub(super) fn places(arms: &[String], names: &ArrayRef) -> Float64Array {
    let place = |name: &str| arms.iter().position(|arm| arm == name).map_or(-1.0, |place| place as f64);
    names.as_string::<i32>().iter().map(|name| name.map(place)).collect()
}

/// What tells rows apart when a bandit chooses: a hash of each value of a column. An error for a column of a type that is no key.
pub fn row_ids(ids: &ArrayRef) -> Result<Vec<u64>, PlanError> {
    let encoded = encode_keys(std::slice::from_ref(ids))?;
    Ok((0..ids.len()).map(|row| hashed(0, encoded.value(row))).collect())
}

/// The name of the arm that the model chooses for every row, by its id and its context; null where the context has a null.
pub(super) fn chosen(
    model: &Model,
    id: &ArrayRef,
    context: &[ArrayRef],
    rows: usize,
) -> datafusion::common::Result<StringArray> {
    let ids = row_ids(id).map_err(|error| exec_datafusion_err!("{error}"))?;
    let found = matrix(context, rows, |_| true)?;
    let ids: Vec<u64> = found.places.iter().map(|row| ids[*row]).collect();
    let chosen = model.choose(&ids, found.x.view()).map_err(|error| exec_datafusion_err!("{error}"))?;
    let arms = model.spec().arms().unwrap_or_default();
    let names = chosen.into_iter().map(|arm| arms.get(arm).map(String::as_str));
    Ok(super::predict::spread(&found.places, rows, names).map(Option::flatten).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn names_become_places() {
        let names: ArrayRef = Arc::new(StringArray::from(vec![Some("b"), None, Some("z"), Some("a")]));
        let places = places(&["a".to_owned(), "b".to_owned()], &names);
        assert_eq!(places.iter().collect::<Vec<_>>(), [Some(1.0), None, Some(-1.0), Some(0.0)]);
    }
}
