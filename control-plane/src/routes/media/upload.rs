//! Files that come as a form: the bytes go to the store as they come, and what is said of them is checked where it stands.

use isolation::TenantKey;
use rocket::Data;
use rocket::http::ContentType;
use serde::Serialize;
use serde_json::Value;
use sha2::{Digest, Sha256};
use tokio::time::timeout;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::answer::Answer;
use crate::auth::Caller;
use crate::etag::Condition;
use crate::form::{self, Form, Part};
use crate::idempotency::{Begun, Fingerprint, Once};
use crate::media::{self, Fields, Intake, Library, Media, Row, Taken};
use crate::problem::ApiError;
use crate::sealing::Seal;

/// The form of a new medium, as it is described.
#[derive(ToSchema)]
#[allow(dead_code, reason = "forms are read part by part as they come")]
pub struct NewMedia {
    /// Its bytes. What they are is found in them.
    #[schema(value_type = String, content_media_type = "application/octet-stream")]
    file: Vec<u8>,
    /// Its name in URLs; the medium's id if there is none.
    public_id: Option<String>,
    /// A path; folders are made as needed.
    folder: Option<String>,
    /// With commas between them, or in several parts.
    tags: Option<String>,
    /// A JSON object.
    metadata: Option<String>,
    /// RFC 3339: from then on it is not served.
    expires_at: Option<String>,
}

/// The form of other bytes for a medium, as it is described.
#[derive(ToSchema)]
#[allow(dead_code, reason = "forms are read part by part as they come")]
pub struct NewFile {
    /// Its bytes.
    #[schema(value_type = String, content_media_type = "application/octet-stream")]
    file: Vec<u8>,
}

/// What a form has said, as it came.
#[derive(Default, Serialize)]
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
    said: Said,
    fields: Fields,
    file: Option<(Taken, Option<String>)>,
}

/// What came of a form.
enum Made {
    /// A medium.
    Now(Row),
    /// Nothing: it had come before, and was answered this.
    Before(Answer),
}

/// Makes media of forms.
pub struct Maker<'a> {
    /// Where they are kept.
    pub library: &'a Library,
    /// What kept answers would be sealed with.
    pub seal: &'a Seal,
    /// Whose they are.
    pub caller: &'a Caller,
}

impl Maker<'_> {
    /// A medium out of a form with the part `file` and what is said of it. All of the form is read before it is known whether it
    /// has come before.
    ///
    /// # Errors
    /// Whatever is wrong with the form, the store or the database, and as [`Once::begin`].
    pub async fn create(
        &self,
        once: Once,
        content_type: Option<&ContentType>,
        data: Data<'_>,
    ) -> Result<Answer, ApiError> {
        let form = Form::open(content_type, data, self.library.bytes_max)?;
        let intake = Intake::begin(self.library, self.caller.tenant, Uuid::now_v7()).await?;
        match self.make(once, form, &intake).await {
            Ok(Made::Now(row)) => {
                self.answer(media::published(self.library, self.caller.tenant, row, None).await?)
            }
            Ok(Made::Before(answer)) => {
                intake.give_up(&ApiError::Conflict).await;
                self.again(answer).await
            }
            Err(reason) => {
                intake.give_up(&reason).await;
                Err(reason)
            }
        }
    }

    async fn make(&self, once: Once, form: Form<'_>, intake: &Intake<'_>) -> Result<Made, ApiError> {
        let brought = read(self.library, form, intake, true).await?;
        let (taken, filename) = brought.file.ok_or_else(no_file)?;
        let fingerprint = fingerprint(&brought.said, filename.as_deref(), &taken)?;
        let mut work = match once.begin(self.library.database(), self.seal, self.caller.tenant, &fingerprint).await? {
            Begun::First(work) => work,
            Begun::Again(answer) => return Ok(Made::Before(answer)),
        };
        let row =
            media::insert(work.transaction(), intake, &taken, &brought.fields, filename.as_deref()).await?;
        work.commit(self.answer(row.clone())?).await?;
        Ok(Made::Now(row))
    }

    fn answer(&self, row: Row) -> Result<Answer, ApiError> {
        let (version, location) = (row.version, format!("/v1/media/{}", row.id));
        Answer::created(version, location, &row.seen_by(self.library, &self.caller.slug))
    }

    /// What was answered before, but for what edges know: the answer was kept before they were told.
    async fn again(&self, answer: Answer) -> Result<Answer, ApiError> {
        let mut medium: Media = serde_json::from_slice(&answer.body).map_err(|_| ApiError::Internal)?;
        let mut transaction = self.library.database().begin(self.caller.tenant).await?;
        medium.published = media::is_published(&mut transaction, &medium.public_id).await?;
        let body = serde_json::to_vec(&medium).map_err(|_| ApiError::Internal)?;
        Ok(Answer { body, ..answer })
    }
}

/// Of all that a form has brought, whatever stands between its parts.
fn fingerprint(said: &Said, filename: Option<&str>, taken: &Taken) -> Result<Fingerprint, ApiError> {
    let said = serde_json::to_vec(&(said, filename)).map_err(|_| ApiError::Internal)?;
    Ok(Sha256::new().chain_update(taken.sha256).chain_update(said).finalize().into())
}

/// Other bytes for a medium out of a form with the part `file` only.
///
/// # Errors
/// As [`create`].
pub async fn replace(
    library: &Library,
    tenant: TenantKey,
    (id, condition): (Uuid, Condition),
    content_type: Option<&ContentType>,
    data: Data<'_>,
) -> Result<Row, ApiError> {
    let form = Form::open(content_type, data, library.bytes_max)?;
    // Before all the bytes come; it counts again afterwards.
    let before = media::find(&mut library.database().begin(tenant).await?, id).await?;
    condition.check(Some(before.version))?;
    let intake = Intake::begin(library, tenant, id).await?;
    let done = async {
        let brought = read(library, form, &intake, false).await?;
        let (taken, filename) = brought.file.ok_or_else(no_file)?;
        media::replace(library, tenant, condition, &intake, &taken, filename.as_deref()).await
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
    let mut brought = Brought::default();
    while let Some(part) = form.next().await? {
        if part.name != "file" {
            if !may_say {
                return Err(ApiError::Form(format!("the part {:?} is not known: only \"file\" is", part.name)));
            }
            brought.said.add(part).await?;
            continue;
        }
        if brought.file.is_some() {
            return Err(ApiError::Form("it has more than one part \"file\"".to_owned()));
        }
        // What is wrong with what was said so far is told before the bytes are taken.
        brought.fields = brought.said.check()?;
        let filename = part.filename.as_deref().and_then(media::filename);
        let taken = intake.take(part.file()).await.map_err(form::of_file)?;
        brought.file = Some((taken, filename));
    }
    brought.fields = brought.said.check()?;
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
