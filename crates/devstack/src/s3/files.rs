//! `s3s-fs` made to answer as S3 does where it differs in ways that a client notices: conditional reads, suffix ranges,
//! names of folders, encoded listings, bodies in more than crumbs, uploads in parts that are over, tags of parts.
//!
//! Must not offer more operations than the project uses.

use std::collections::HashMap;
use std::io::{self, SeekFrom};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use futures_util::stream;
use s3s::dto::{
    AbortMultipartUploadInput, AbortMultipartUploadOutput, CompleteMultipartUploadInput, CompleteMultipartUploadOutput,
    CompletedPart, CopyObjectInput, CopyObjectOutput, CopySource, CreateMultipartUploadInput,
    CreateMultipartUploadOutput, DeleteObjectInput, DeleteObjectOutput, ETag, ETagCondition, EncodingType,
    GetObjectInput, GetObjectOutput, HeadBucketInput, HeadBucketOutput, HeadObjectInput, HeadObjectOutput,
    IfModifiedSince, ListObjectsV2Input, ListObjectsV2Output, ListPartsInput, ListPartsOutput, PutObjectInput,
    PutObjectOutput, Range, StreamingBlob, UploadPartCopyInput, UploadPartCopyOutput, UploadPartInput,
    UploadPartOutput,
};
use s3s::{S3, S3Error, S3ErrorCode, S3Request, S3Response, S3Result, s3_error};
use s3s_fs::FileSystem;
use tokio::fs::File;
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};

/// Bytes of a body read at once. `s3s-fs` reads 4 KiB at a time, each by way of another thread: a client measured
/// against that is measured by its wake-ups.
const CHUNK_BYTES: usize = 256 * 1024;

pub(super) struct Files {
    inner: FileSystem,
    folder: PathBuf,
    /// What parts of uploads were answered with, which `s3s-fs` forgets.
    tags: Mutex<HashMap<(String, i32), ETag>>,
}

impl Files {
    pub(super) fn open(folder: &Path) -> anyhow::Result<Self> {
        let inner = FileSystem::new(folder).map_err(|error| anyhow::anyhow!("{error:?}"))?;
        Ok(Self { inner, folder: folder.to_owned(), tags: Mutex::default() })
    }

    fn path(&self, bucket: &str, key: &str) -> PathBuf {
        self.folder.join(bucket).join(key.trim_start_matches('/'))
    }

    /// A folder is no object; `s3s-fs` would try to read it.
    fn refuse_folder(&self, bucket: &str, key: &str) -> S3Result<()> {
        if self.path(bucket, key).is_dir() { Err(s3_error!(NoSuchKey)) } else { Ok(()) }
    }

    fn refuse_folder_as_source(&self, source: &CopySource) -> S3Result<()> {
        match source {
            CopySource::Bucket { bucket, key, .. } => self.refuse_folder(bucket, key),
            CopySource::AccessPoint { .. } | CopySource::Outpost { .. } => Err(s3_error!(NotImplemented)),
        }
    }

    /// An upload that was completed or aborted, or never begun; `s3s-fs` calls that forbidden.
    fn refuse_gone(&self, upload: &str) -> S3Result<()> {
        let is_there = !upload.contains('/') && self.folder.join(format!(".upload-{upload}.json")).exists();
        if is_there { Ok(()) } else { Err(s3_error!(NoSuchUpload)) }
    }

    fn tags(&self) -> MutexGuard<'_, HashMap<(String, i32), ETag>> {
        self.tags.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Parts have to be as they are named: `s3s-fs` takes whatever there is.
    fn refuse_other_parts(&self, upload: &str, named: &[CompletedPart]) -> S3Result<()> {
        let tags = self.tags();
        let is_there = |part: &CompletedPart| {
            let found = part.part_number.and_then(|number| tags.get(&(upload.to_owned(), number)));
            found.is_some() && found == part.e_tag.as_ref()
        };
        if named.iter().all(is_there) { Ok(()) } else { Err(s3_error!(InvalidPart)) }
    }

    /// A suffix range as an ordinary one: `s3s-fs` fails on suffixes longer than the object.
    fn without_suffix(&self, bucket: &str, key: &str, range: Range) -> S3Result<Range> {
        let Range::Suffix { length } = range else { return Ok(range) };
        let size = std::fs::metadata(self.path(bucket, key)).map_err(|error| s3_error!(error, NoSuchKey))?.len();
        if size == 0 || length == 0 {
            return Err(s3_error!(InvalidRange));
        }
        Ok(Range::Int { first: size.saturating_sub(length), last: None })
    }
}

/// Whether the client has this object already (RFC 9110 §13.1: the entity tag goes before the time).
fn is_known(
    if_none_match: Option<&ETagCondition>,
    if_modified_since: Option<&IfModifiedSince>,
    object: &GetObjectOutput,
) -> bool {
    match (if_none_match, if_modified_since) {
        (Some(ETagCondition::Any), _) => true,
        (Some(ETagCondition::ETag(theirs)), _) => object.e_tag.as_ref().is_some_and(|ours| ours.weak_cmp(theirs)),
        // HTTP dates have no fractions of a second, modification times of files do.
        (None, Some(since)) => {
            object.last_modified.as_ref().is_some_and(|ours| whole_seconds(ours) <= whole_seconds(since))
        }
        (None, None) => false,
    }
}

fn whole_seconds(time: &s3s::dto::Timestamp) -> i64 {
    time::OffsetDateTime::from(time.clone()).unix_timestamp()
}

/// Whether the path leads to this very file, which no write changes: writes replace files.
async fn is_still_at(file: &File, path: &Path) -> io::Result<bool> {
    let (ours, theirs) = (file.metadata().await?, tokio::fs::metadata(path).await?);
    Ok((ours.dev(), ours.ino()) == (theirs.dev(), theirs.ino()))
}

/// `len` bytes of a file from `first` on, in large chunks.
async fn body_of(mut file: File, first: u64, len: u64) -> io::Result<StreamingBlob> {
    file.seek(SeekFrom::Start(first)).await?;
    let chunks = stream::try_unfold((file, len), |(mut file, left)| async move {
        let mut chunk = vec![0; CHUNK_BYTES.min(usize::try_from(left).unwrap_or(CHUNK_BYTES))];
        if chunk.is_empty() {
            return Ok(None);
        }
        let got = file.read(&mut chunk).await?;
        if got == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof));
        }
        chunk.truncate(got);
        Ok(Some((chunk.into(), (file, left - got as u64))))
    });
    Ok(StreamingBlob::wrap::<_, io::Error>(Box::pin(chunks)))
}

#[async_trait::async_trait]
impl S3 for Files {
    async fn get_object(&self, mut request: S3Request<GetObjectInput>) -> S3Result<S3Response<GetObjectOutput>> {
        let input = &mut request.input;
        self.refuse_folder(&input.bucket, &input.key)?;
        if let Some(range) = input.range {
            input.range = Some(self.without_suffix(&input.bucket, &input.key, range)?);
        }
        let (if_none_match, if_modified_since) = (input.if_none_match.take(), input.if_modified_since.take());
        let path = self.path(&request.input.bucket, &request.input.key);
        let first = match request.input.range {
            Some(Range::Int { first, .. }) => first,
            _ => 0,
        };
        // Opened before `s3s-fs` opens it: if the name still means this file afterwards, both have opened the same.
        let file = File::open(&path).await.ok();
        let mut response = self.inner.get_object(request).await?;
        if is_known(if_none_match.as_ref(), if_modified_since.as_ref(), &response.output) {
            return Err(S3Error::new(S3ErrorCode::NotModified));
        }
        if let (Some(file), Some(len)) = (file, response.output.content_length)
            && is_still_at(&file, &path).await.unwrap_or(false)
        {
            let len = u64::try_from(len).unwrap_or(0);
            response.output.body = Some(body_of(file, first, len).await.map_err(|error| s3_error!(error, NoSuchKey))?);
        }
        Ok(response)
    }

    async fn head_object(&self, request: S3Request<HeadObjectInput>) -> S3Result<S3Response<HeadObjectOutput>> {
        self.refuse_folder(&request.input.bucket, &request.input.key)?;
        self.inner.head_object(request).await
    }

    async fn delete_object(&self, request: S3Request<DeleteObjectInput>) -> S3Result<S3Response<DeleteObjectOutput>> {
        if self.path(&request.input.bucket, &request.input.key).is_dir() {
            return Ok(S3Response::new(DeleteObjectOutput::default()));
        }
        self.inner.delete_object(request).await
    }

    async fn list_objects_v2(
        &self,
        request: S3Request<ListObjectsV2Input>,
    ) -> S3Result<S3Response<ListObjectsV2Output>> {
        let encode = request.input.encoding_type.as_ref().is_some_and(|kind| kind.as_str() == EncodingType::URL);
        let mut response = self.inner.list_objects_v2(request).await?;
        if encode {
            let output = &mut response.output;
            let keys = output.contents.iter_mut().flatten().map(|object| &mut object.key);
            for text in keys.chain([&mut output.prefix, &mut output.start_after]) {
                *text = text.take().map(|text| url_encode(&text));
            }
        }
        Ok(response)
    }

    async fn put_object(&self, request: S3Request<PutObjectInput>) -> S3Result<S3Response<PutObjectOutput>> {
        self.inner.put_object(request).await
    }

    async fn copy_object(&self, request: S3Request<CopyObjectInput>) -> S3Result<S3Response<CopyObjectOutput>> {
        self.refuse_folder_as_source(&request.input.copy_source)?;
        self.inner.copy_object(request).await
    }

    async fn upload_part_copy(
        &self,
        request: S3Request<UploadPartCopyInput>,
    ) -> S3Result<S3Response<UploadPartCopyOutput>> {
        self.refuse_gone(&request.input.upload_id)?;
        self.refuse_folder_as_source(&request.input.copy_source)?;
        let part = (request.input.upload_id.clone(), request.input.part_number);
        let response = self.inner.upload_part_copy(request).await?;
        if let Some(tag) = response.output.copy_part_result.as_ref().and_then(|copied| copied.e_tag.as_ref()) {
            self.tags().insert(part, tag.clone());
        }
        Ok(response)
    }

    async fn head_bucket(&self, request: S3Request<HeadBucketInput>) -> S3Result<S3Response<HeadBucketOutput>> {
        self.inner.head_bucket(request).await
    }

    async fn create_multipart_upload(
        &self,
        request: S3Request<CreateMultipartUploadInput>,
    ) -> S3Result<S3Response<CreateMultipartUploadOutput>> {
        self.inner.create_multipart_upload(request).await
    }

    async fn upload_part(&self, request: S3Request<UploadPartInput>) -> S3Result<S3Response<UploadPartOutput>> {
        self.refuse_gone(&request.input.upload_id)?;
        let part = (request.input.upload_id.clone(), request.input.part_number);
        let response = self.inner.upload_part(request).await?;
        if let Some(tag) = &response.output.e_tag {
            self.tags().insert(part, tag.clone());
        }
        Ok(response)
    }

    async fn list_parts(&self, request: S3Request<ListPartsInput>) -> S3Result<S3Response<ListPartsOutput>> {
        let upload = request.input.upload_id.clone();
        self.refuse_gone(&upload)?;
        let mut response = self.inner.list_parts(request).await?;
        let tags = self.tags();
        for part in response.output.parts.iter_mut().flatten() {
            part.e_tag = part.part_number.and_then(|number| tags.get(&(upload.clone(), number)).cloned());
        }
        Ok(response)
    }

    async fn complete_multipart_upload(
        &self,
        request: S3Request<CompleteMultipartUploadInput>,
    ) -> S3Result<S3Response<CompleteMultipartUploadOutput>> {
        let upload = request.input.upload_id.clone();
        self.refuse_gone(&upload)?;
        let named = request.input.multipart_upload.as_ref().and_then(|upload| upload.parts.as_deref());
        self.refuse_other_parts(&upload, named.unwrap_or_default())?;
        let response = self.inner.complete_multipart_upload(request).await?;
        self.tags().retain(|(of, _), _| *of != upload);
        Ok(response)
    }

    async fn abort_multipart_upload(
        &self,
        request: S3Request<AbortMultipartUploadInput>,
    ) -> S3Result<S3Response<AbortMultipartUploadOutput>> {
        let upload = request.input.upload_id.clone();
        self.refuse_gone(&upload)?;
        let response = self.inner.abort_multipart_upload(request).await?;
        self.tags().retain(|(of, _), _| *of != upload);
        Ok(response)
    }
}

/// As AWS writes keys in listings with `encoding-type=url`.
fn url_encode(key: &str) -> String {
    use std::fmt::Write as _;
    key.bytes().fold(String::with_capacity(key.len()), |mut encoded, byte| {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'*' | b'/' => encoded.push(byte.into()),
            b' ' => encoded.push('+'),
            _ => write!(encoded, "%{byte:02X}").expect("writing to a string cannot fail"),
        }
        encoded
    })
}
