//! A directory for every batch, in an object store.
//!
//! There is no rename: a batch counts from when its manifest `_SUCCESS` is there, which is put last. Objects that a
//! crash has left without one are put again, with the same bytes. Files are made on this side first, of the parts that
//! the tasks have put beside the batches.

use super::FileSink;
use super::batch::{self, WrittenFile};
use crate::sink::{Commit, Part, PutError};
use crate::staging::parts_dir;
use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::Path;
use std::thread;
use tidemill_store::{Objects, StoreError};

/// The manifest; other programs leave out names that begin with `_`.
const MANIFEST: &str = "_SUCCESS";
/// Parts that are fetched at the same time.
const AT_ONCE: usize = 8;
/// Bytes of a file that are looked at at once.
const CHUNK: usize = 64 << 10;

/// What belongs to a batch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Manifest {
    /// Of this format.
    version: u32,
    /// The job that wrote it, as `<cluster>.<number>`.
    writer: String,
    batch: u64,
    time_ms: i64,
    /// In the order of their rows.
    files: Vec<ManifestFile>,
}

/// A file of a batch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct ManifestFile {
    name: String,
    bytes: u64,
    rows: u64,
    /// CRC-32 (IEEE) of its bytes, in hexadecimal.
    crc32: String,
}

/// Puts a batch in place, unless it is there already, and removes what its tasks have left.
pub(super) fn place(objects: &Objects, sink: &FileSink, commit: &Commit) -> Result<(), PutError> {
    let batch = sink.place.batch_name(commit.time_ms);
    let parts = parts_dir(commit.job, commit.batch, commit.number);
    if objects.entry(&format!("{batch}/{MANIFEST}"))?.is_none() {
        let work = tempfile::tempdir()?;
        let (brought, staging) = (work.path().join("parts"), work.path().join("files"));
        fs::create_dir(&brought)?;
        fs::create_dir(&staging)?;
        for few in commit.parts.chunks(AT_ONCE) {
            fetch_all(objects, &parts, few, &brought)?;
        }
        // These files need not outlive this.
        let unsynced = Commit { sync: false, ..commit.clone() };
        let written = batch::write(sink, &unsynced, &brought, &staging, batch::FILE_BYTES)?;
        publish(objects, commit, &batch, &staging, written)?;
    }
    // The batch is in place. What stays of its parts is no loss, and must not end the job.
    if let Err(error) = objects.names_below(&parts).and_then(|names| objects.remove(names)) {
        tracing::warn!(%error, "what tasks have left could not be removed");
    }
    Ok(())
}

/// Fetches some parts at the same time: each costs little but a wait.
fn fetch_all(objects: &Objects, parts: &str, few: &[Part], to: &Path) -> Result<(), PutError> {
    thread::scope(|scope| {
        let begin = |part: &Part| {
            let Part::Staged(part) = part else { return None };
            let (name, to) = (format!("{parts}/{part}"), to.join(part));
            Some(scope.spawn(move || fetch(objects, &name, &to)))
        };
        let running: Vec<_> = few.iter().filter_map(begin).collect();
        let panicked = |_| Err(PutError::Disk(io::Error::other("a part could not be fetched")));
        running.into_iter().try_for_each(|fetched| fetched.join().unwrap_or_else(panicked))
    })
}

fn fetch(objects: &Objects, name: &str, to: &Path) -> Result<(), PutError> {
    let mut from = objects.reader(name)?;
    let mut file = File::create(to)?;
    while let Some(bytes) = from.next_bytes()? {
        file.write_all(&bytes)?;
    }
    Ok(())
}

fn publish(
    objects: &Objects,
    commit: &Commit,
    batch: &str,
    staging: &Path,
    written: Vec<WrittenFile>,
) -> Result<(), PutError> {
    let mut described = Vec::with_capacity(written.len());
    for WrittenFile { name, rows } in written {
        let file = staging.join(&name);
        objects.put_file(&format!("{batch}/{name}"), &file)?;
        let (bytes, crc32) = checksum(&file)?;
        described.push(ManifestFile { name, bytes, rows, crc32: format!("{crc32:08x}") });
    }
    remove_others(objects, batch, &described)?;
    let manifest = Manifest {
        version: 1,
        writer: commit.job_name(),
        batch: commit.batch.0,
        time_ms: commit.time_ms,
        files: described,
    };
    let text = serde_json::to_string_pretty(&manifest).map_err(io::Error::from)? + "\n";
    Ok(objects.put(&format!("{batch}/{MANIFEST}"), text)?)
}

/// Another version of this program may have begun the batch and made other files of it.
fn remove_others(objects: &Objects, batch: &str, files: &[ManifestFile]) -> Result<(), StoreError> {
    let ours: HashSet<String> = files.iter().map(|file| format!("{batch}/{}", file.name)).collect();
    let mut names = objects.names_below(batch)?;
    names.retain(|name| !ours.contains(name));
    objects.remove(names)
}

/// Length and CRC-32 of a file.
fn checksum(file: &Path) -> io::Result<(u64, u32)> {
    let mut file = File::open(file)?;
    let (mut hash, mut length, mut chunk) = (crc32fast::Hasher::new(), 0, vec![0; CHUNK]);
    loop {
        match file.read(&mut chunk)? {
            0 => return Ok((length, hash.finalize())),
            read => {
                hash.update(&chunk[..read]);
                length += read as u64;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sinks::files::FilePlace;
    use crate::sinks::files::tests::{Output, part};
    use std::sync::Arc;
    use tidemill_common::location::Location;
    use tidemill_store::testkit::TestStore;

    /// An output whose folder is in a store, with the parts of one batch.
    fn output(store: &Arc<TestStore>, place: FilePlace) -> (Output, Objects) {
        let mut output = Output::new(None);
        output.place = place;
        let Location::Object(url) = output.place.folder(Path::new("")) else { panic!("a URL") };
        (output, Objects::over(store.clone(), url))
    }

    fn directory() -> FilePlace {
        FilePlace::Directory("s3://bucket/out".into())
    }

    fn bring(objects: &Objects) {
        objects.put(".tidemill/1-1-0/0001-7", part(&[(2, "three"), (5, "five")])).unwrap();
        objects.put(".tidemill/1-1-0/0001-8", part(&[(2, "three, of an attempt that does not count")])).unwrap();
        objects.put(".tidemill/1-1-0/0000-4", part(&[(0, "one")])).unwrap();
    }

    const PARTS: [&str; 2] = ["0000-4", "0001-7"];

    fn text(objects: &Objects, name: &str) -> String {
        String::from_utf8(objects.get(name, 1 << 20).unwrap().to_vec()).unwrap()
    }

    #[test]
    fn only_what_counts_appears_in_order_and_a_second_commit_changes_nothing() {
        let (output, objects) = output(&TestStore::new(), directory());
        bring(&objects);
        let commit = output.commit(1, 1000, &PARTS);
        place(&objects, &output.sink(), &commit).unwrap();
        let names = ["1000/_SUCCESS", "1000/part-00000.jsonl"];
        assert_eq!(objects.names_below("").unwrap(), names);
        assert_eq!(text(&objects, names[1]), "one\nthree\nfive\n");
        let manifest: Manifest = serde_json::from_str(&text(&objects, names[0])).unwrap();
        let file = ManifestFile {
            name: "part-00000.jsonl".into(),
            bytes: 15,
            rows: 3,
            crc32: format!("{:08x}", crc32fast::hash(b"one\nthree\nfive\n")),
        };
        assert_eq!((manifest.batch, manifest.time_ms, manifest.files), (1, 1000, vec![file]));
        // After a crash the batch runs again, and other tasks bring its parts.
        objects.put(".tidemill/1-1-0/0001-99", part(&[(0, "again")])).unwrap();
        place(&objects, &output.sink(), &output.commit(1, 1000, &["0001-99"])).unwrap();
        assert_eq!(objects.names_below("").unwrap(), names);
        assert_eq!(text(&objects, names[1]), "one\nthree\nfive\n");
    }

    #[test]
    fn wherever_a_request_fails_doing_it_again_leaves_the_same_objects() {
        let store = TestStore::new();
        let (output, objects) = output(&store, directory());
        let commit = output.commit(1, 1000, &PARTS);
        bring(&objects);
        place(&objects, &output.sink(), &commit).unwrap();
        let expected = store.contents();
        let mut failures = 0;
        loop {
            store.clear();
            bring(&objects);
            store.fail_at(failures);
            let first = place(&objects, &output.sink(), &commit);
            if store.requests() <= failures {
                first.unwrap();
                break;
            }
            // A batch that is not there as a whole does not count.
            let (contents, manifest) = (store.contents(), "out/1000/_SUCCESS");
            assert!(first.is_err() || contents.contains_key(manifest), "{failures}");
            assert!(!contents.contains_key(manifest) || contents[manifest] == expected[manifest], "{failures}");
            place(&objects, &output.sink(), &commit).unwrap();
            assert_eq!(store.contents(), expected, "{failures}");
            failures += 1;
        }
        assert!(failures > 8, "{failures}");
    }

    #[test]
    fn what_another_version_has_begun_goes() {
        let (output, objects) = output(&TestStore::new(), directory());
        bring(&objects);
        objects.put("1000/part-00001.jsonl", "half").unwrap();
        objects.put("10000/part-00001.jsonl", "of another batch").unwrap();
        place(&objects, &output.sink(), &output.commit(1, 1000, &PARTS)).unwrap();
        let names = ["1000/_SUCCESS", "1000/part-00000.jsonl", "10000/part-00001.jsonl"];
        assert_eq!(objects.names_below("").unwrap(), names);
    }

    #[test]
    fn a_prefix_and_a_suffix() {
        let place_of = FilePlace::Prefix { prefix: "gs://bucket/a/words".into(), suffix: Some("txt".into()) };
        let (output, objects) = output(&TestStore::new(), place_of);
        bring(&objects);
        place(&objects, &output.sink(), &output.commit(1, 1000, &PARTS)).unwrap();
        assert_eq!(text(&objects, "words-1000.txt/part-00000.jsonl"), "one\nthree\nfive\n");
    }
}
