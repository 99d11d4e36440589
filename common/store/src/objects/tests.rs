//! The same over a store in memory and over one on a file system.

use super::*;
use crate::testkit::TestStore;
use object_store::local::LocalFileSystem;
use tidemill_common::location::Location;

fn url(text: &str) -> ObjectUrl {
    let Ok(Location::Object(url)) = Location::parse(text) else { panic!("{text}") };
    url
}

/// Does something in a directory of each kind of store.
fn everywhere(test: impl Fn(&Objects)) {
    test(&Objects::over(TestStore::new(), url("s3://bucket/some/where")));
    test(&Objects::over(TestStore::new(), url("s3://bucket")));
    let folder = tempfile::tempdir().unwrap();
    let local = LocalFileSystem::new_with_prefix(folder.path()).unwrap();
    test(&Objects::over(Arc::new(local), url("gs://bucket/some/where")));
}

#[test]
fn what_was_put_is_there() {
    everywhere(|objects| {
        assert_eq!((objects.entry("a b").unwrap(), objects.list().unwrap()), (None, vec![]));
        objects.put("a b", "one").unwrap();
        objects.put("a b", "two!").unwrap();
        objects.put("below/c", "three").unwrap();
        objects.put("below.too", "").unwrap();
        assert_eq!(objects.get("a b", 4).unwrap(), "two!");
        let found = objects.list().unwrap();
        assert_eq!(
            found.iter().map(|entry| (entry.name.as_str(), entry.size)).collect::<Vec<_>>(),
            [("a b", 4), ("below.too", 0)]
        );
        assert_eq!(objects.entry("a b").unwrap().as_ref(), found.first());
        assert_eq!(objects.names_below("").unwrap(), ["a b", "below.too", "below/c"]);
        assert_eq!(objects.names_below("below").unwrap(), ["below/c"]);
        objects.remove(vec!["a b".into(), "not there".into(), "below/c".into()]).unwrap();
        assert_eq!(objects.names_below("").unwrap(), ["below.too"]);
        assert_eq!(objects.get("below.too", 0).unwrap(), "");
        assert!(matches!(objects.get("a b", 4), Err(StoreError::NotFound { .. })));
    });
}

#[test]
fn long_objects_go_in_pieces() {
    everywhere(|objects| {
        let bytes: Vec<u8> = (0..PIECE * 2 + 7).map(|at| (at % 251) as u8).collect();
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), &bytes).unwrap();
        objects.put_file("long", file.path()).unwrap();
        assert!(objects.get("long", u64::MAX).unwrap() == bytes);
        let error = objects.get("long", 1000).unwrap_err();
        assert!(matches!(error, StoreError::TooLong { limit: 1000, .. }), "{error}");
    });
}

#[test]
fn an_object_that_is_replaced_while_it_is_read_is_no_mixture() {
    let objects = Objects::over(TestStore::new(), url("s3://bucket/x"));
    let long = vec![b'a'; (4 << 20) + 1];
    objects.put("long", long.clone()).unwrap();
    let mut reader = objects.reader("long").unwrap();
    assert_eq!(reader.next_bytes().unwrap().unwrap().len(), 4 << 20);
    let before = objects.entry("long").unwrap().unwrap();
    objects.put("long", long).unwrap();
    assert!(matches!(reader.next_bytes(), Err(StoreError::Changed { .. })));
    // The same length, most likely in the same second.
    assert_ne!(objects.entry("long").unwrap().unwrap(), before);
}

#[test]
fn a_store_that_is_away_is_there_again() {
    let store = TestStore::new();
    let objects = Objects::over(store.clone(), url("s3://bucket/x"));
    objects.put("a", "one").unwrap();
    let mut reader = objects.reader("a").unwrap();
    store.set_away(true);
    let error = reader.next_bytes().unwrap_err();
    assert!(error.is_passing(), "{error}");
    assert_eq!(error.to_string(), "s3://bucket/x/a: the store is away");
    assert!(objects.put("b", "two").unwrap_err().is_passing());
    assert!(objects.remove(vec!["a".into()]).unwrap_err().is_passing());
    store.set_away(false);
    assert_eq!(reader.next_bytes().unwrap().unwrap(), "one");
    assert_eq!(reader.next_bytes().unwrap(), None);
}

#[test]
fn times_are_whole_seconds_and_tags() {
    let found = |tag: Option<&str>| ObjectMeta {
        location: Key::from("x"),
        last_modified: "2026-01-31T12:00:00.987Z".parse().unwrap(),
        size: 1,
        e_tag: tag.map(str::to_owned),
        version: None,
    };
    let time = |tag| entry("x".into(), &found(tag)).modified_ns;
    assert_eq!(time(None), 1_769_860_800_000_000_000);
    assert_eq!(time(Some("\"abc\"")), time(Some("abc")));
    assert_ne!(time(Some("abc")), time(Some("abd")));
    // In the driver's log of every job that reads objects: it must not become another number.
    assert_eq!(time(Some("abc")) - time(None), 37_089_104);
}

#[tokio::test]
async fn callers_may_be_tasks() {
    everywhere(|objects| {
        objects.put("a", "one").unwrap();
        assert_eq!(objects.get("a", 3).unwrap(), "one");
    });
}
