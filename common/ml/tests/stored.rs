//! Stored files of every format are read for ever; those of the format that is written are written again to the bit.

use std::path::{Path, PathBuf};
use tidemill_ml::drift::Detector;
use tidemill_ml::{Model, Watched};

/// The files of a format with this ending, with their bytes.
fn files(format: &str, ending: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/stored").join(format);
    let paths = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path());
    let mut paths: Vec<PathBuf> = paths.filter(|path| path.extension().is_some_and(|found| found == ending)).collect();
    paths.sort();
    paths.into_iter().map(|path| (path.clone(), std::fs::read(path).unwrap())).collect()
}

/// What stands in the file beside it: the model as its JSON when it was stored.
fn expected(path: &Path) -> String {
    std::fs::read_to_string(path.with_extension("json")).unwrap()
}

fn json(model: &Model) -> String {
    format!("{:#}\n", model.to_json())
}

#[test]
fn models_of_every_format_are_read() {
    for format in ["v1", "v2"] {
        let files = files(format, "model");
        assert!(files.len() >= 20, "{format}");
        for (path, bytes) in files {
            let model = if path.ends_with("watched.model") {
                let watched = Watched::from_bytes(&bytes).unwrap();
                assert_eq!(Watched::from_bytes(&watched.to_bytes()).unwrap(), watched);
                watched.model().clone()
            } else {
                Model::from_bytes(&bytes).unwrap()
            };
            assert_eq!(json(&model), expected(&path), "{}", path.display());
            assert_eq!(Model::from_bytes(&model.to_bytes()).unwrap(), model);
            assert_eq!(Model::from_json_text(&expected(&path)).unwrap(), model);
        }
    }
}

#[test]
fn a_place_of_format_1_is_one_of_its_definition() {
    let (_, bytes) = files("v1", "model").into_iter().find(|(path, _)| path.ends_with("softmax.model")).unwrap();
    // Behind the definition: there is a state (1), and it is of the family at place 6.
    let end = bytes.windows(2).position(|two| two == *b"}\x01").unwrap() + 2;
    assert_eq!(bytes[end], 6);
    for place in [7, 18] {
        let mut wrong = bytes[..bytes.len() - 4].to_vec();
        wrong[end] = place;
        wrong.extend(crc32fast::hash(&wrong).to_le_bytes());
        let error = Model::from_bytes(&wrong).unwrap_err().to_string();
        assert!(error.contains("the state is not one of a model of kind softmax"), "{error}");
    }
}

#[test]
fn the_format_that_is_written_is_the_newest_that_is_stored() {
    for (path, bytes) in files("v2", "model").iter().filter(|(path, _)| !path.ends_with("watched.model")) {
        assert_eq!(Model::from_bytes(bytes).unwrap().to_bytes(), *bytes, "{}", path.display());
    }
}

#[test]
fn detectors_are_read_and_written_again() {
    let files = files("v1", "detector");
    assert_eq!(files.len(), 5);
    for (path, bytes) in files {
        let detector = Detector::from_bytes(&bytes).unwrap();
        assert_eq!((detector.seen(), detector.to_bytes()), (300, bytes), "{}", path.display());
    }
}
