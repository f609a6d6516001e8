//! Files that something was made of, and whether there is something else in them now.
//!
//! They are read again and compared whole: a handful of small files, so that nothing depends on
//! how they are replaced. Times of modification lie after a restored backup, and notifications
//! follow the file rather than the name, where files are mounted as links to links.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

/// Files that only make sense together, and what was in them when they were last used.
#[derive(Clone, Debug, Default)]
pub struct Files {
    known: Vec<(PathBuf, Digest)>,
    /// What was in them a look ago, if that was something else.
    seen: Option<Content>,
}

/// Of what is in a file, or of why that cannot be read.
type Digest = [u8; 32];

/// What is in some files, one digest each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Content(Vec<Digest>);

impl Files {
    /// These, with what is in them now.
    pub fn of(paths: impl IntoIterator<Item = PathBuf>) -> Self {
        let known = paths.into_iter().map(|path| {
            let digest = digest(&fs::read(&path).map(Zeroizing::new));
            (path, digest)
        });
        Self {
            known: known.collect(),
            seen: None,
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// Reads one more, as text. What was read is what is known of it.
    pub(super) fn read(&mut self, path: &Path) -> io::Result<String> {
        let bytes = fs::read(path);
        if !self.known.iter().any(|(known, _)| known == path) {
            self.known.push((path.to_owned(), digest(&bytes)));
        }
        String::from_utf8(bytes?).map_err(|error| {
            let error = error.utf8_error();
            io::Error::new(io::ErrorKind::InvalidData, error)
        })
    }

    /// What is in them, if it is neither known nor just being written: it was there at the last
    /// look as well. Files that belong together are rarely replaced in one step, and one beside
    /// the other's predecessor is nothing to complain about yet.
    pub fn changed(&mut self) -> Option<Content> {
        let content = self.content();
        let seen = self.seen.replace(content.clone());
        let known = self.known.iter().map(|(_, known)| known);
        (!known.eq(&content.0) && seen.as_ref() == Some(&content)).then_some(content)
    }

    /// Takes note that this was used, unless the files have changed meanwhile.
    pub fn settle(&mut self, used: Content) -> bool {
        let settled = self.content() == used;
        if settled {
            for ((_, known), used) in self.known.iter_mut().zip(used.0) {
                *known = used;
            }
        }
        settled
    }

    fn content(&self) -> Content {
        let digests = self
            .known
            .iter()
            .map(|(path, _)| digest(&fs::read(path).map(Zeroizing::new)));
        Content(digests.collect())
    }
}

fn digest<B: AsRef<[u8]>>(read: &io::Result<B>) -> Digest {
    match read {
        Ok(bytes) => Sha256::digest(bytes.as_ref()).into(),
        // Of the words and not of a file: nobody writes one that says this by chance.
        Err(error) => Sha256::digest(format!("usher cannot read it, {:?}", error.kind())).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two files in a folder, as they are at the first look.
    fn two() -> (tempfile::TempDir, [PathBuf; 2], Files) {
        let folder = tempfile::tempdir().unwrap();
        let paths = ["one", "two"].map(|name| folder.path().join(name));
        for path in &paths {
            fs::write(path, "first").unwrap();
        }
        let mut files = Files::of(paths.clone());
        assert_eq!(files.changed(), None);
        (folder, paths, files)
    }

    #[test]
    fn a_change_counts_at_the_second_look_and_once() {
        let (_folder, paths, mut files) = two();
        for next in ["second", "first"] {
            fs::write(&paths[1], next).unwrap();
            assert_eq!(files.changed(), None);
            let changed = files.changed().unwrap();
            assert!(files.settle(changed));
            assert_eq!(files.changed(), None);
        }
    }

    #[test]
    fn what_changes_while_it_is_used_is_used_again() {
        let (_folder, paths, mut files) = two();
        fs::write(&paths[0], "second").unwrap();
        assert_eq!(files.changed(), None);
        let changed = files.changed().unwrap();
        fs::write(&paths[1], "second").unwrap();
        assert!(!files.settle(changed.clone()));
        assert_eq!(files.changed(), None);
        assert!(files.changed().is_some_and(|again| again != changed));
    }

    #[test]
    fn a_change_taken_back_is_none() {
        let (_folder, paths, mut files) = two();
        fs::write(&paths[0], "second").unwrap();
        assert_eq!(files.changed(), None);
        fs::write(&paths[0], "first").unwrap();
        assert_eq!((files.changed(), files.changed()), (None, None));
    }

    #[test]
    fn files_are_told_apart_and_so_are_those_that_are_not_there() {
        let (folder, paths, mut files) = two();
        let first = files.content();
        // The same bytes, divided in another way.
        fs::write(&paths[0], "firstfir").unwrap();
        fs::write(&paths[1], "st").unwrap();
        assert_ne!(files.content(), first);
        fs::remove_file(&paths[1]).unwrap();
        let missing = files.content();
        fs::write(&paths[1], "").unwrap();
        assert_ne!(files.content(), missing);
        drop(folder);
        assert_eq!(files.changed(), None);
        assert!(files.changed().is_some());
    }

    #[test]
    fn what_was_read_is_what_is_known() {
        let (_folder, paths, _) = two();
        let mut files = Files::default();
        assert_eq!(files.read(&paths[0]).unwrap(), "first");
        // Between the reading and the first look.
        fs::write(&paths[0], "second").unwrap();
        assert_eq!(files.changed(), None);
        let changed = files.changed().unwrap();
        assert!(files.settle(changed));
        let missing = paths[0].with_file_name("three");
        files.read(&missing).unwrap_err();
        assert_eq!((files.changed(), files.changed()), (None, None));
        fs::write(&missing, "there").unwrap();
        assert_eq!(files.changed(), None);
        assert!(files.changed().is_some());
    }
}
