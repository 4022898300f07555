//! The same done to many media, step by step.
//!
//! A step is one transaction: it looks at some media, changes what is not as it is to be, and notes how far it has come. Whoever is killed
//! between two steps, or in one, has done all of a step or nothing, and whoever goes on begins behind the last. So what is counted is
//! counted once, and a medium is changed once. What is small is done in the request that orders it, what is not by a job.
//!
//! Media come by their ids, the newest first, and each is looked at once more when it is locked: one that comes meanwhile is not seen, one that
//! has become another is left out, and every order ends.

use isolation::TenantTransaction;
use serde::{Deserialize, Serialize};
use uploads::PublicId;
use utoipa::ToSchema;
use uuid::Uuid;

use super::Library;
use super::edits::{Edit, Words};
use super::fields;
use super::filter::{self, Filter};
use super::folders;
use super::orders::{Batch, FolderMove, Selection};
use super::record::{remove, rewrite};
use super::row::{Row, lock_all};
use crate::events::EventKind;
use crate::problem::ApiError;

/// Media of a step: all of them are locked until it ends, and uploads of the tenant wait for it.
const STEP_MEDIA: usize = 100;

/// Most media that are changed in the request that orders it.
pub const NOW_MEDIA_MAX: u64 = STEP_MEDIA as u64;

/// What is done to which media.
#[derive(Debug)]
pub enum Bulk {
    /// The same to each.
    Media(Selection, Edit),
    /// A folder goes from here to there, with all that is in it.
    Folder(String, String),
}

/// What has come of it.
#[derive(Debug, Default, Clone, Copy, Serialize, Deserialize, ToSchema)]
pub struct Tally {
    /// Media that are as they were to be.
    done: u64,
    /// Ids that are none of a medium, or not any more.
    missing: u64,
    /// Media of which it would have been more than may be said.
    refused: u64,
}

/// How far it has come.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Checkpoint {
    /// Media that were looked at, or are gone.
    pub seen: u64,
    /// How many there were at the beginning.
    pub total: Option<u64>,
    /// The folder that is being moved, or was moved last.
    folder: Option<String>,
    /// The medium that was looked at last, in that folder if there is one; `None` before the first.
    after: Option<Uuid>,
    /// What has come of it so far.
    pub tally: Tally,
    /// Whether there is nothing left.
    pub is_over: bool,
}

impl From<(Selection, Edit)> for Bulk {
    fn from((selection, edit): (Selection, Edit)) -> Self {
        Self::Media(selection, edit)
    }
}

impl Bulk {
    /// What a batch orders.
    ///
    /// # Errors
    /// Those of [`Batch::check`].
    pub fn of_batch(batch: &Batch) -> Result<Self, ApiError> {
        batch.check().map(Self::from)
    }

    /// What a move of a folder orders.
    ///
    /// # Errors
    /// Those of [`FolderMove::check`].
    pub fn of_move(order: &FolderMove) -> Result<Self, ApiError> {
        order.check().map(|(from, to)| Self::Folder(from.to_owned(), to.to_owned()))
    }

    /// How many things it is about at most.
    ///
    /// # Errors
    /// [`ApiError::NotFound`] and [`ApiError::Field`] when it cannot be done as things are.
    pub async fn size(&self, transaction: &mut TenantTransaction) -> Result<u64, ApiError> {
        match self {
            Self::Media(Selection::Ids(ids), _) => Ok(ids.len() as u64),
            Self::Media(Selection::Filter(filter), _) => filter::at_most(transaction, filter).await,
            Self::Folder(from, to) => {
                let size = folders::moved(transaction, from, to).await?;
                Ok(size.folders + size.media)
            }
        }
    }

    /// All of it, if `transaction` commits; what has come of it, and whose pointers have to be written then. For what is small.
    ///
    /// # Errors
    /// Those of [`Self::step`].
    pub async fn all(
        &self,
        library: &Library,
        transaction: &mut TenantTransaction,
    ) -> Result<(Tally, Vec<PublicId>), ApiError> {
        if let Self::Folder(from, _) = self {
            folders::close_all(transaction, from).await?;
        }
        let (mut checkpoint, mut unpublished) = (Checkpoint::default(), Vec::new());
        while !checkpoint.is_over {
            unpublished.extend(self.step(library, transaction, &mut checkpoint).await?);
        }
        Ok((checkpoint.tally, unpublished))
    }

    /// The next of it, if `transaction` commits; whose pointers have to be written then. `checkpoint` is how far it is from then on.
    ///
    /// # Errors
    /// [`ApiError::Conflict`] when a folder was deleted at this moment, and [`ApiError::Database`].
    pub async fn step(
        &self,
        library: &Library,
        transaction: &mut TenantTransaction,
        checkpoint: &mut Checkpoint,
    ) -> Result<Vec<PublicId>, ApiError> {
        let mut step = Step { library, transaction, checkpoint };
        match self {
            Self::Media(Selection::Ids(ids), edit) => step.named(ids, edit).await,
            Self::Media(Selection::Filter(filter), edit) => {
                let (unpublished, is_last) = step.listed(filter, edit).await?;
                step.checkpoint.is_over = is_last;
                Ok(unpublished)
            }
            Self::Folder(from, to) => step.folder(from, to).await,
        }
    }
}

struct Step<'a> {
    library: &'a Library,
    transaction: &'a mut TenantTransaction,
    checkpoint: &'a mut Checkpoint,
}

impl Step<'_> {
    /// The next of these ids.
    async fn named(&mut self, ids: &[Uuid], edit: &Edit) -> Result<Vec<PublicId>, ApiError> {
        let rest = ids.get(usize::try_from(self.checkpoint.seen).unwrap_or(usize::MAX)..).unwrap_or_default();
        let some = &rest[..rest.len().min(STEP_MEDIA)];
        let rows = lock_all(self.transaction, some).await?;
        self.checkpoint.seen += some.len() as u64;
        self.checkpoint.tally.missing += (some.len() - rows.len()) as u64;
        self.checkpoint.is_over = some.len() == rest.len();
        self.edit(rows, edit).await
    }

    /// The next that a filter has; whether they are the last.
    async fn listed(&mut self, filter: &Filter, edit: &Edit) -> Result<(Vec<PublicId>, bool), ApiError> {
        let found = filter::list(self.transaction, filter, self.checkpoint.after, STEP_MEDIA as i64).await?;
        let ids: Vec<_> = found.iter().map(|row| row.id).collect();
        self.checkpoint.seen += ids.len() as u64;
        self.checkpoint.after = ids.last().copied().or(self.checkpoint.after);
        let mut rows = lock_all(self.transaction, &ids).await?;
        rows.retain(|row| filter.has(row));
        Ok((self.edit(rows, edit).await?, ids.len() < STEP_MEDIA))
    }

    /// The next of a folder that is moved: media of one folder, after empty ones. What holds media is closed before the first medium is
    /// changed, because an upload waits for its folder before it waits for what counts it.
    async fn folder(&mut self, from: &str, to: &str) -> Result<Vec<PublicId>, ApiError> {
        for _ in 0..STEP_MEDIA {
            let folder = match (&self.checkpoint.folder, self.checkpoint.after) {
                (Some(folder), Some(_)) => folder.clone(),
                (before, _) => match folders::next(self.transaction, from, before.as_deref()).await? {
                    Some(folder) => folder,
                    None => {
                        self.checkpoint.is_over = true;
                        return Ok(Vec::new());
                    }
                },
            };
            let place = format!("{to}{}", folder.strip_prefix(from).unwrap_or_default());
            // Made after it was looked whether all fit.
            if fields::folder(&place).is_err() {
                let left = filter::at_most(self.transaction, &Filter::in_folder(Some(&folder))).await?;
                self.checkpoint.tally.refused += left;
                self.checkpoint.folder = Some(folder);
                continue;
            }
            folders::close(self.transaction, &folder).await?;
            folders::make_folder(self.transaction, Some(&place)).await?;
            let edit = Edit::Say(Words { folder: Some(Some(place)), ..Words::default() });
            let before = self.checkpoint.seen;
            let (unpublished, is_last) = self.listed(&Filter::in_folder(Some(&folder)), &edit).await?;
            if is_last {
                folders::delete_empty(self.transaction, &folder).await?;
                self.checkpoint.after = None;
            }
            self.checkpoint.folder = Some(folder);
            if self.checkpoint.seen > before {
                return Ok(unpublished);
            }
        }
        Ok(Vec::new())
    }

    /// Makes media that are locked what they are to be.
    async fn edit(&mut self, rows: Vec<Row>, edit: &Edit) -> Result<Vec<PublicId>, ApiError> {
        let words = match edit {
            Edit::Delete => {
                remove(self.library, self.transaction, EventKind::MediaDeleted, &rows).await?;
                self.checkpoint.tally.done += rows.len() as u64;
                return rows.iter().map(|row| name(&row.public_id)).collect();
            }
            Edit::Say(words) => words,
        };
        let mut changes = Vec::new();
        for row in rows {
            match words.change(&row) {
                Ok(change) => {
                    self.checkpoint.tally.done += 1;
                    changes.extend(change.map(|change| (row, change)));
                }
                Err(ApiError::Field { .. }) => self.checkpoint.tally.refused += 1,
                Err(error) => return Err(error),
            }
        }
        if changes.is_empty() {
            return Ok(Vec::new());
        }
        rewrite(self.library, self.transaction, &changes).await?;
        let concern_edges = changes.iter().filter(|(_, change)| change.tags.is_some() || change.expires_at.is_some());
        concern_edges.map(|(row, _)| name(&row.public_id)).collect()
    }
}

/// A public id of the database, which has only what was checked when it went in.
fn name(public_id: &str) -> Result<PublicId, ApiError> {
    PublicId::new(public_id).map_err(|_| ApiError::Internal)
}
