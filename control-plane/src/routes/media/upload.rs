//! Files that come as a form: the bytes go to the store as they come, and what is said of them is checked where it stands.

use isolation::Mandate;
use rocket::Data;
use rocket::http::ContentType;
use serde_json::Value;
use sha2::{Digest, Sha256};
use time::OffsetDateTime;
use tokio::time::timeout;
use uuid::Uuid;

use crate::answer::Answer;
use crate::auth::Caller;
use crate::etag::Condition;
use crate::form::{self, Form, Part};
use crate::idempotency::{Begun, Fingerprint, Once};
use crate::media::{self, CopyOrder, Fields, Intake, Library, Media, NewMedia, Row, Taken};
use crate::problem::ApiError;
use crate::quotas;
use crate::sealing::Seal;

/// What a form has said.
#[derive(Default)]
struct Said {
    public_id: Option<String>,
    folder: Option<String>,
    tags: Vec<String>,
    metadata: Option<String>,
    expires_at: Option<String>,
}

/// What a form has brought.
#[derive(Default)]
struct Brought {
    fields: Fields,
    file: Option<(Taken, Option<String>)>,
}

impl Brought {
    /// Two forms that say and bring the same have the same one, whatever is between their parts.
    fn fingerprint(&self) -> Fingerprint {
        let Fields { public_id, folder, tags, metadata, expires_at } = &self.fields;
        let expires_at = expires_at.map(OffsetDateTime::unix_timestamp);
        let file = self.file.as_ref().map(|(taken, filename)| (taken.sha256, filename));
        let said = serde_json::json!([public_id, folder, tags, metadata, expires_at, file]);
        Sha256::digest(said.to_string()).into()
    }
}

/// A medium out of a form with the part `file` and what is said of it.
///
/// # Errors
/// Whatever is wrong with the form, the store or the database.
pub async fn create(
    library: &Library,
    caller: &Caller,
    (once, seal): (Once, &Seal),
    content_type: Option<&ContentType>,
    data: Data<'_>,
) -> Result<Answer, ApiError> {
    let form = Form::open(content_type, data, library.bytes_max)?;
    quotas::check_room(library.database(), caller.tenant).await?;
    let intake = Intake::begin(library, caller.tenant, Uuid::now_v7()).await?;
    let done = async {
        let brought = read(library, form, &intake, true).await?;
        let fingerprint = brought.fingerprint();
        let (taken, filename) = brought.file.ok_or_else(no_file)?;
        let new = NewMedia { intake: &intake, taken: &taken, fields: &brought.fields, filename: filename.as_deref() };
        let mut work = match once.begin(library.database(), seal, &caller.mandate, &fingerprint).await? {
            Begun::First(work) => work,
            Begun::Again(answer) => return Ok((answer, true)),
        };
        let row = media::insert(work.transaction(), &new).await?;
        // What is kept says that edges may not be told yet, because they are told afterwards.
        work.commit(made(library, caller, row.clone())?).await?;
        let row = media::published(library, caller.tenant, row, None).await?;
        Ok((made(library, caller, row)?, false))
    };
    let done = done.await;
    end(library, caller, intake, done).await
}

/// A medium out of another one.
///
/// # Errors
/// Whatever is wrong with the other one, the store or the database.
pub async fn copy(
    library: &Library,
    caller: &Caller,
    (once, seal): (Once, &Seal),
    fingerprint: &Fingerprint,
    order: &CopyOrder,
) -> Result<Answer, ApiError> {
    quotas::check_room(library.database(), caller.tenant).await?;
    let intake = Intake::begin(library, caller.tenant, Uuid::now_v7()).await?;
    let done = async {
        let revision = order.take(library, &intake).await?;
        let mut work = match once.begin(library.database(), seal, &caller.mandate, fingerprint).await? {
            Begun::First(work) => work,
            Begun::Again(answer) => return Ok((answer, true)),
        };
        let row = order.insert(work.transaction(), &intake, revision).await?;
        work.commit(made(library, caller, row.clone())?).await?;
        let row = media::published(library, caller.tenant, row, None).await?;
        Ok((made(library, caller, row)?, false))
    };
    let done = done.await;
    end(library, caller, intake, done).await
}

/// What is answered. Nothing comes of the bytes when it was answered before, or failed.
async fn end(
    library: &Library,
    caller: &Caller,
    intake: Intake<'_>,
    done: Result<(Answer, bool), ApiError>,
) -> Result<Answer, ApiError> {
    match done {
        Ok((answer, false)) => Ok(answer),
        Ok((answer, true)) => {
            intake.give_up(&ApiError::Conflict).await;
            again(library, caller, answer).await
        }
        Err(reason) => {
            intake.give_up(&reason).await;
            Err(reason)
        }
    }
}

/// What was answered before, but for what edges know: the answer was kept before they were told.
async fn again(library: &Library, caller: &Caller, answer: Answer) -> Result<Answer, ApiError> {
    let mut medium: Media = serde_json::from_slice(&answer.body).map_err(|_| ApiError::Internal)?;
    let mut transaction = library.database().begin(&caller.mandate).await?;
    medium.published = media::is_published(&mut transaction, &medium.public_id).await?;
    let body = serde_json::to_vec(&medium).map_err(|_| ApiError::Internal)?;
    Ok(Answer { body, ..answer })
}

fn made(library: &Library, caller: &Caller, row: Row) -> Result<Answer, ApiError> {
    let (version, location) = (row.version, format!("/v1/media/{}", row.id));
    Answer::created(version, location, &row.seen_by(library, &caller.slug))
}

/// Other bytes for a medium out of a form with the part `file` only.
///
/// # Errors
/// As [`create`].
pub async fn replace(
    library: &Library,
    mandate: &Mandate,
    (id, condition): (Uuid, Condition),
    content_type: Option<&ContentType>,
    data: Data<'_>,
) -> Result<Row, ApiError> {
    let form = Form::open(content_type, data, library.bytes_max)?;
    // Before all the bytes come; it counts again afterwards.
    let before = media::find(&mut library.database().begin(mandate).await?, id).await?;
    condition.check(Some(before.version))?;
    let intake = Intake::begin(library, mandate.tenant, id).await?;
    let done = async {
        let brought = read(library, form, &intake, false).await?;
        let (taken, filename) = brought.file.ok_or_else(no_file)?;
        media::replace(library, mandate, condition, &intake, &taken, filename.as_deref()).await
    };
    let done = done.await;
    if let Err(reason) = &done {
        intake.give_up(reason).await;
    }
    done
}

fn no_file() -> ApiError {
    ApiError::Form("it has no part \"file\"".to_owned())
}

async fn read(library: &Library, form: Form<'_>, intake: &Intake<'_>, may_say: bool) -> Result<Brought, ApiError> {
    let read = read_parts(form, intake, may_say);
    timeout(library.upload_time, read).await.map_err(|_| ApiError::UploadTime)?
}

async fn read_parts(mut form: Form<'_>, intake: &Intake<'_>, may_say: bool) -> Result<Brought, ApiError> {
    let (mut said, mut brought) = (Said::default(), Brought::default());
    while let Some(part) = form.next().await? {
        if part.name != "file" {
            if !may_say {
                return Err(ApiError::Form(format!("the part {:?} is not known: only \"file\" is", part.name)));
            }
            said.add(part).await?;
            continue;
        }
        if brought.file.is_some() {
            return Err(ApiError::Form("it has more than one part \"file\"".to_owned()));
        }
        // What is wrong with what was said so far is told before the bytes are taken.
        brought.fields = said.check()?;
        let filename = part.filename.as_deref().and_then(media::filename);
        let taken = intake.take(part.file()).await.map_err(form::of_file)?;
        brought.file = Some((taken, filename));
    }
    brought.fields = said.check()?;
    Ok(brought)
}

impl Said {
    async fn add(&mut self, part: Part<'_>) -> Result<(), ApiError> {
        let name = part.name.clone();
        let place = match name.as_str() {
            "public_id" => &mut self.public_id,
            "folder" => &mut self.folder,
            "metadata" => &mut self.metadata,
            "expires_at" => &mut self.expires_at,
            "tags" => {
                self.tags.push(part.text().await?);
                return Ok(());
            }
            _ => {
                let known = "\"public_id\", \"folder\", \"tags\", \"metadata\", \"expires_at\" and \"file\" are";
                let name: String = name.chars().take(64).collect();
                return Err(ApiError::Form(format!("the part {name:?} is not known: only {known}")));
            }
        };
        if place.is_some() {
            return Err(ApiError::Form(format!("it has more than one part {name:?}")));
        }
        *place = Some(part.text().await?);
        Ok(())
    }

    fn check(&self) -> Result<Fields, ApiError> {
        let tags = self.tags.iter().flat_map(|tags| tags.split(',')).filter(|tag| !tag.trim().is_empty());
        let folder = self.folder.as_deref().map(media::folder).transpose()?.flatten();
        let metadata = self.metadata.as_deref().map(metadata).transpose()?;
        Ok(Fields {
            public_id: self.public_id.as_deref().map(media::public_id).transpose()?,
            folder: folder.map(str::to_owned),
            tags: media::tags(tags)?,
            metadata: metadata.unwrap_or_default(),
            expires_at: self.expires_at.as_deref().map(media::expires_at).transpose()?,
        })
    }
}

fn metadata(text: &str) -> Result<serde_json::Map<String, Value>, ApiError> {
    let value = serde_json::from_str(text).map_err(|error| ApiError::field("metadata", error.to_string()))?;
    media::metadata(value)
}
