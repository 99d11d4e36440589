//! Models as files or objects: one for every batch that is saved, and `latest.json`.

use crate::core::SavedModel;
use std::fs;
use std::io;
use tidemill_common::location::Location;
use tidemill_connect::{CommitError, PutError};
use tidemill_ml::Model;
use tidemill_store::Objects;

/// Writes the model as JSON if it is its turn. Each file appears as a whole; doing it again writes the same.
pub(super) fn save(model: &SavedModel) -> Result<(), CommitError> {
    write(model).map_err(|error| error.at(&model.directory))
}

fn write(model: &SavedModel) -> Result<(), PutError> {
    let SavedModel { name, directory, every, time_ms, bytes, sync } = model;
    let read = Model::from_bytes(bytes).map_err(io::Error::other)?;
    let (batches, ..) = read.seen();
    if !batches.is_multiple_of(*every) {
        return Ok(());
    }
    let text = serde_json::to_string_pretty(&read.to_json()).map_err(io::Error::from)? + "\n";
    let names = [format!("{name}-{time_ms}.json"), "latest.json".to_string()];
    match directory {
        Location::Object(url) => {
            let objects = Objects::new(url.clone());
            names.iter().try_for_each(|name| objects.put(name, text.clone()))?;
        }
        Location::Local(directory) => {
            fs::create_dir_all(directory)?;
            names.iter().try_for_each(|name| tidemill_store::replace(directory, name, text.as_bytes(), *sync))?;
            if *sync {
                tidemill_store::sync_dir(Some(directory))?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};
    use std::path::Path;

    fn read(path: &Path) -> String {
        fs::read_to_string(path).unwrap()
    }

    fn names(folder: &Path) -> Vec<String> {
        let entry = |entry: io::Result<fs::DirEntry>| entry.unwrap().file_name().to_string_lossy().into_owned();
        let mut names: Vec<String> = fs::read_dir(folder).unwrap().map(entry).collect();
        names.sort_unstable();
        names
    }

    fn model(directory: Location, every: u64, batches: u64) -> SavedModel {
        let document = json!({
            "format": "tidemill-model", "version": 1, "spec": { "kind": "linear_regression" },
            "counters": { "batches": batches },
        });
        let bytes = Model::from_json(&document).unwrap().to_bytes().into();
        let time_ms = batches as i64 * 1000;
        SavedModel { name: "m".into(), directory, every, time_ms, bytes, sync: true }
    }

    #[test]
    fn a_model_is_saved_whenever_it_has_learnt_so_much_more() {
        let folder = tempfile::tempdir().unwrap();
        let directory = folder.path().join("models/m");
        let place = Location::Local(directory.clone());
        for batches in 1..=5 {
            save(&model(place.clone(), 2, batches)).unwrap();
            save(&model(place.clone(), 2, batches)).unwrap();
        }
        assert_eq!(names(&directory), ["latest.json", "m-2000.json", "m-4000.json"]);
        assert_eq!(read(&directory.join("latest.json")), read(&directory.join("m-4000.json")));
        let saved: Value = serde_json::from_str(&read(&directory.join("latest.json"))).unwrap();
        assert_eq!(Model::from_json(&saved).unwrap().seen().0, 4);
    }
}
