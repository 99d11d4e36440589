//! What the log says of a source that watches a directory.

use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, VecDeque};

/// A file as it is told from others: another size or time makes it another file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceFile {
    /// Its name within the directory.
    pub name: String,
    /// Bytes.
    pub size: u64,
    /// When it was changed last, in nanoseconds since 1970.
    pub modified_ns: i64,
}

/// What a receiver wants to be remembered before it reads on.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileChoice {
    /// The file it reads next, with the offset of its first record.
    pub file: Option<(SourceFile, u64)>,
    /// Files that are never to be read.
    pub skipped: Vec<SourceFile>,
    /// Names that are in the directory no more.
    pub gone: Vec<String>,
}

/// All choices of a receiver.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceFiles {
    /// Size and time of every file that was chosen or skipped and is still in the directory, by name.
    pub known: BTreeMap<String, (u64, i64)>,
    /// Files whose records may not all be logged, in the order in which they are read, with the offset of the first
    /// record of each.
    pub open: VecDeque<(SourceFile, u64)>,
}

impl SourceFiles {
    /// Folds a choice in. All records before `next_offset` are logged.
    pub fn apply(&mut self, choice: &FileChoice, next_offset: u64) {
        for name in &choice.gone {
            self.known.remove(name);
        }
        for file in choice.skipped.iter().chain(choice.file.iter().map(|(file, _)| file)) {
            self.known.insert(file.name.clone(), (file.size, file.modified_ns));
        }
        if let Some((file, first_offset)) = &choice.file {
            match self.open.iter_mut().find(|(open, _)| open == file) {
                // A receiver that starts again asks for the rest of the files once more, in the same order.
                Some(open) => open.1 = *first_offset,
                None => self.open.push_back((file.clone(), *first_offset)),
            }
        }
        // The last one may have records that did not come in yet.
        while self.open.get(1).is_some_and(|(_, first_offset)| *first_offset <= next_offset) {
            self.open.pop_front();
        }
    }

    /// Whether a choice would change nothing.
    pub fn has(&self, choice: &FileChoice) -> bool {
        let known = |file: &SourceFile| self.known.get(&file.name) == Some(&(file.size, file.modified_ns));
        choice.file.as_ref().is_none_or(|file| self.open.contains(file))
            && choice.skipped.iter().all(known)
            && choice.gone.iter().all(|name| !self.known.contains_key(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choice(name: &str, first_offset: u64) -> FileChoice {
        let file = SourceFile { name: name.into(), size: 1, modified_ns: 1 };
        FileChoice { file: Some((file, first_offset)), ..FileChoice::default() }
    }

    fn open(files: &SourceFiles) -> Vec<(&str, u64)> {
        files.open.iter().map(|(file, first)| (file.name.as_str(), *first)).collect()
    }

    #[test]
    fn files_are_open_until_their_records_are_logged() {
        let mut files = SourceFiles::default();
        files.apply(&choice("a", 0), 0);
        files.apply(&choice("b", 10), 5);
        assert_eq!(open(&files), [("a", 0), ("b", 10)]);
        assert!(files.has(&choice("b", 10)) && !files.has(&choice("b", 9)));
        files.apply(&choice("c", 12), 11);
        assert_eq!(open(&files), [("b", 10), ("c", 12)]);
        files.apply(&FileChoice { gone: vec!["a".into()], ..FileChoice::default() }, 11);
        assert_eq!(files.known.keys().collect::<Vec<_>>(), ["b", "c"]);
    }

    #[test]
    fn a_file_that_is_chosen_again_keeps_its_place() {
        let mut files = SourceFiles::default();
        for (name, first) in [("a", 0), ("b", 10), ("c", 20)] {
            files.apply(&choice(name, first), 3);
        }
        files.apply(&choice("b", 7), 3);
        assert_eq!(open(&files), [("a", 0), ("b", 7), ("c", 20)]);
        // Another file that is called like the first one is read behind the others.
        let mut other = choice("a", 30);
        other.file.iter_mut().for_each(|(file, _)| file.modified_ns = 2);
        files.apply(&other, 3);
        assert_eq!(open(&files), [("a", 0), ("b", 7), ("c", 20), ("a", 30)]);
    }
}
