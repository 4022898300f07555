//! Listing files in the order in which S3 lists keys.
//!
//! Must not follow symbolic links to folders: a link upwards would never end. Such files can be read by name all the
//! same. Names that are not valid paths (not UTF-8, too long) are left out, as are unfinished files.

use std::io;

use cap_std::fs::Dir;

use super::{FolderStore, reading};
use crate::path::UNFINISHED;
use crate::{ListCursor, ListEntry, ListLimit, ListPage, ObjectPath, ObjectPrefix, StorageError};

impl FolderStore {
    /// A page costs the reading and sorting of every folder on its way, but no folder that lies wholly before the
    /// cursor or outside the prefix is entered.
    pub(crate) async fn list(
        &self,
        prefix: &ObjectPrefix,
        after: Option<&ListCursor>,
        limit: ListLimit,
    ) -> Result<ListPage, StorageError> {
        let prefix = prefix.as_str().to_owned();
        let after = after.map(|cursor| cursor.as_str().to_owned()).unwrap_or_default();
        self.blocking(move |root| {
            Walk { root: &root.dir, prefix: &prefix, after: &after, limit: usize::from(limit.get()) }.page()
        })
        .await
    }
}

struct Walk<'a> {
    root: &'a Dir,
    prefix: &'a str,
    after: &'a str,
    limit: usize,
}

/// A name still to be visited. That of a folder ends with a slash: sorted so, a depth-first walk meets the names of
/// all files in the order of their bytes.
type Name = String;

impl Walk<'_> {
    fn page(&self) -> Result<ListPage, StorageError> {
        let mut entries: Vec<ListEntry> = Vec::new();
        let mut to_visit = self.names_in("")?;
        while let Some(name) = to_visit.pop() {
            if name.ends_with('/') {
                to_visit.extend(self.names_in(&name)?);
            } else if let Some(entry) = self.entry(name)? {
                if entries.len() == self.limit {
                    let next = entries.last().map(|last| ListCursor::from(&last.path));
                    return Ok(ListPage { entries, next });
                }
                entries.push(entry);
            }
        }
        Ok(ListPage { entries, next: None })
    }

    /// The names in a folder that may lead to matches, last first: the next to visit is at the end.
    fn names_in(&self, folder: &str) -> Result<Vec<Name>, StorageError> {
        let read = if folder.is_empty() { self.root.entries() } else { self.root.read_dir(folder) };
        let Some(read) = gone_is_none(read)? else { return Ok(Vec::new()) };
        let mut names = Vec::new();
        for entry in read {
            let entry = entry.map_err(reading)?;
            let Some(kind) = gone_is_none(entry.file_type())? else { continue };
            let Ok(mut name) = entry.file_name().into_string().map(|name| format!("{folder}{name}")) else { continue };
            if kind.is_dir() {
                name.push('/');
            }
            if self.leads_to_matches(&name) {
                names.push(name);
            }
        }
        names.sort_unstable_by(|a, b| b.cmp(a));
        Ok(names)
    }

    fn leads_to_matches(&self, name: &str) -> bool {
        match name.strip_suffix('/') {
            Some(UNFINISHED) => false,
            Some(_) => {
                (name.starts_with(self.prefix) || self.prefix.starts_with(name))
                    && (name > self.after || self.after.starts_with(name))
            }
            None => name.starts_with(self.prefix) && name > self.after,
        }
    }

    fn entry(&self, name: Name) -> Result<Option<ListEntry>, StorageError> {
        // Resolves links to files; those that lead out, in circles or nowhere are no objects.
        let Ok(path) = ObjectPath::new(name) else { return Ok(None) };
        match self.root.metadata(path.as_str()).map_err(reading) {
            Ok(meta) if meta.is_file() => {
                let last_modified = meta.modified().ok().map(cap_std::time::SystemTime::into_std);
                Ok(Some(ListEntry { path, size: meta.len(), last_modified }))
            }
            Ok(_) | Err(StorageError::NotFound | StorageError::OutsideStore) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// Files come and go during a walk: what is gone when its turn comes is not an error.
fn gone_is_none<T>(outcome: io::Result<T>) -> Result<Option<T>, StorageError> {
    match outcome.map_err(reading) {
        Ok(value) => Ok(Some(value)),
        Err(StorageError::NotFound) => Ok(None),
        Err(error) => Err(error),
    }
}
