//! Where the demo keeps its files.

use std::fs::{self, DirBuilder, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tempfile::{NamedTempFile, TempDir};
use zeroize::Zeroizing;

use super::DemoError;

/// A folder that only its owner can read, removed at the end unless it is to be kept.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    temporary: Option<TempDir>,
}

impl Folder {
    /// Makes a temporary folder, or uses `kept`: a new one, or one with the files of an earlier
    /// demo, whose store is continued.
    pub(super) fn open(kept: Option<&Path>) -> Result<Self, DemoError> {
        let Some(path) = kept else {
            let parent = std::env::temp_dir();
            let temporary = tempfile::Builder::new()
                .prefix("usher-demo-")
                .permissions(Permissions::from_mode(0o700))
                .tempdir_in(&parent)
                .map_err(|source| failed(&parent, source))?;
            return Ok(Self {
                path: temporary.path().to_owned(),
                temporary: Some(temporary),
            });
        };
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .map_err(|source| failed(path, source))?;
        // So that the commands in the guide work from wherever they are pasted.
        let path = fs::canonicalize(path).map_err(|source| failed(path, source))?;
        let folder = Self {
            path,
            temporary: None,
        };
        folder.refuse_foreign_files()?;
        Ok(folder)
    }

    /// Where a file is, or would be.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// The folder itself.
    pub(super) fn root(&self) -> &Path {
        &self.path
    }

    /// A folder in it, as private as itself.
    pub(super) fn within(&self, name: &str) -> Result<PathBuf, DemoError> {
        let path = self.path(name);
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&path)
            .map_err(|source| failed(&path, source))?;
        Ok(path)
    }

    /// Whether it outlives the demo.
    pub(super) fn is_kept(&self) -> bool {
        self.temporary.is_none()
    }

    /// Writes a file that only its owner can read, whole or not at all.
    pub(super) fn write(&self, name: &str, text: &str) -> Result<(), DemoError> {
        let path = self.path(name);
        let written = self.private(text).and_then(|file| {
            file.persist(&path)
                .map(drop)
                .map_err(|refused| refused.error)
        });
        written.map_err(|source| failed(&path, source))
    }

    /// Makes the seal key, unless a store of an earlier demo is sealed with the one that is there.
    pub(super) fn provide_seal_key(&self) -> Result<(), DemoError> {
        let mut key = Zeroizing::new([0; 32]);
        getrandom::fill(&mut *key)?;
        let text = Zeroizing::new(STANDARD.encode(*key));
        let path = self.path(SEAL_KEY);
        let written = self.private(&text).and_then(|file| {
            match file.persist_noclobber(&path).map_err(|e| e.error) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
                other => other.map(drop),
            }
        });
        written.map_err(|source| failed(&path, source))
    }

    /// Removes it, unless it is to be kept.
    pub(super) fn close(self) -> Result<(), DemoError> {
        let Some(temporary) = self.temporary else {
            return Ok(());
        };
        temporary
            .close()
            .map_err(|source| failed(&self.path, source))
    }

    /// A new file beside the others, readable by its owner only.
    fn private(&self, text: &str) -> io::Result<NamedTempFile> {
        let mut file = NamedTempFile::new_in(&self.path)?;
        file.write_all(text.as_bytes())?;
        Ok(file)
    }

    /// A folder is the demo's if the configuration in it is, or if none of its files is there yet.
    fn refuse_foreign_files(&self) -> Result<(), DemoError> {
        let config = self.path(CONFIG);
        match fs::read(&config) {
            Ok(text) if text.starts_with(MARK.as_bytes()) => return Ok(()),
            Ok(_) => return Err(DemoError::Foreign { path: config }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(failed(&config, source)),
        }
        for name in [FIELDS, STORE, SEAL_KEY, TOKENS, SSH] {
            let path = self.path(name);
            match path.try_exists() {
                Ok(false) => {}
                Ok(true) => return Err(DemoError::Foreign { path }),
                Err(source) => return Err(failed(&path, source)),
            }
        }
        Ok(())
    }
}

fn failed(path: &Path, source: io::Error) -> DemoError {
    DemoError::Folder {
        path: path.to_owned(),
        source,
    }
}

/// The configuration.
pub(super) const CONFIG: &str = "usher.yaml";
/// What each field of GraphQL asks for; named in the configuration too.
pub(super) const FIELDS: &str = "graphql.yaml";
/// The tokens: an object of header values by kind.
pub(super) const TOKENS: &str = "tokens.json";
/// A folder for the keys and the configuration of the SSH server.
pub(super) const SSH: &str = "ssh";
/// The store; named in the configuration too.
pub(super) const STORE: &str = "usher.db";
/// The seal key; named in the configuration too.
pub(super) const SEAL_KEY: &str = "seal.key";
/// How the demo's configuration begins.
const MARK: &str = "# Written by `usher demo`";

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn a_temporary_folder_is_private_and_goes() {
        let folder = Folder::open(None).unwrap();
        let path = folder.root().to_owned();
        folder.provide_seal_key().unwrap();
        assert_eq!(mode(&path), 0o700);
        assert_eq!(mode(&folder.path(SEAL_KEY)), 0o600);
        folder.close().unwrap();
        assert!(!path.exists());
    }

    #[test]
    fn a_kept_folder_is_continued() {
        let parent = tempfile::tempdir().unwrap();
        let dir = parent.path().join("a/b");
        let first = Folder::open(Some(&dir)).unwrap();
        assert_eq!(mode(&dir), 0o700);
        first.write(CONFIG, super::super::PLATFORM).unwrap();
        first.write(TOKENS, "1").unwrap();
        first.provide_seal_key().unwrap();
        let key = fs::read(first.path(SEAL_KEY)).unwrap();
        first.close().unwrap();
        let second = Folder::open(Some(&dir)).unwrap();
        second.provide_seal_key().unwrap();
        second.write(TOKENS, "2").unwrap();
        assert_eq!(fs::read(second.path(SEAL_KEY)).unwrap(), key);
        assert_eq!(fs::read_to_string(second.path(TOKENS)).unwrap(), "2");
        assert_eq!(mode(&second.path(TOKENS)), 0o600);
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 3);
    }

    #[test]
    fn files_of_others_stay_as_they_are() {
        for name in [CONFIG, FIELDS, TOKENS, STORE, SEAL_KEY] {
            let dir = tempfile::tempdir().unwrap();
            fs::write(dir.path().join(name), "mine").unwrap();
            let refused = Folder::open(Some(dir.path())).unwrap_err();
            assert!(
                matches!(&refused, DemoError::Foreign { path } if path.ends_with(name)),
                "{refused}"
            );
        }
    }
}
