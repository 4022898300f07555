//! Forms with files (`multipart/form-data`, RFC 7578), read part by part as they come.
//!
//! The parser keeps whatever it is given until it has found the end of a part's header or the next boundary, and takes all that is
//! there. So it is given one piece at a time, and of everything but a file only so much. Must not know what the parts mean.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures_util::Stream;
use multer::{Field, Multipart};
use rocket::data::{Data, DataStream};
use rocket::http::ContentType;
use rocket::tokio::io::{AsyncRead, ReadBuf};
use storage::StorageError;
use tokio::time::{Instant, Sleep, sleep};

use crate::problem::ApiError;

/// Bytes of a piece.
const PIECE_BYTES: usize = 32 * 1024;

/// Bytes that the header of a part, and a part that is no file, may have together.
const PART_BYTES_MAX: usize = 128 * 1024;

/// Bytes of a part that is no file.
const TEXT_BYTES_MAX: usize = 64 * 1024;

/// Parts of a form.
const PARTS_MAX: usize = 100;

/// Longest boundary, by RFC 2046.
const BOUNDARY_BYTES_MAX: usize = 70;

/// How long a client may send nothing.
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// A form that is being read.
pub struct Form<'r> {
    parts: Multipart<'r>,
    allowance: Arc<Allowance>,
    count: usize,
}

/// A part of a form. It has to be read before the next one.
pub struct Part<'r> {
    /// What it is called.
    pub name: String,
    /// What its file is called by whoever sends it.
    pub filename: Option<String>,
    field: Field<'r>,
    allowance: Arc<Allowance>,
}

impl<'r> Form<'r> {
    /// The form in a body of this type, which has at most so many bytes.
    ///
    /// # Errors
    /// [`ApiError::NotFormType`].
    pub fn open(content_type: Option<&ContentType>, data: Data<'r>, bytes_max: u64) -> Result<Self, ApiError> {
        let content_type = content_type.ok_or(ApiError::NotFormType)?;
        let boundary = multer::parse_boundary(content_type.to_string()).map_err(|_| ApiError::NotFormType)?;
        if !(1..=BOUNDARY_BYTES_MAX).contains(&boundary.len()) {
            return Err(ApiError::NotFormType);
        }
        let allowance = Arc::new(Allowance::default());
        let all_parts = (PARTS_MAX * PART_BYTES_MAX) as u64;
        let pieces = Pieces {
            stream: data.open(bytes_max.saturating_add(all_parts).into()),
            allowance: Arc::clone(&allowance),
            has_given: false,
            pause: Box::pin(sleep(PAUSE_MAX)),
        };
        Ok(Self { parts: Multipart::new(pieces, boundary), allowance, count: 0 })
    }

    /// The next part.
    ///
    /// # Errors
    /// [`ApiError::Form`], [`ApiError::BodyCut`] and [`ApiError::UploadTime`].
    pub async fn next(&mut self) -> Result<Option<Part<'r>>, ApiError> {
        self.allowance.set(PART_BYTES_MAX);
        let Some(field) = self.parts.next_field().await.map_err(of_parser)? else { return Ok(None) };
        self.count += 1;
        if self.count > PARTS_MAX {
            return Err(ApiError::Form(format!("it has more than {PARTS_MAX} parts")));
        }
        let name = field.name().ok_or_else(|| ApiError::Form("a part has no name".to_owned()))?.to_owned();
        let filename = field.file_name().map(str::to_owned);
        Ok(Some(Part { name, filename, field, allowance: Arc::clone(&self.allowance) }))
    }
}

impl<'r> Part<'r> {
    /// All of it, as text.
    ///
    /// # Errors
    /// As [`Form::next`].
    pub async fn text(mut self) -> Result<String, ApiError> {
        let mut bytes = Vec::new();
        while let Some(piece) = self.field.chunk().await.map_err(of_parser)? {
            bytes.extend_from_slice(&piece);
            if bytes.len() > TEXT_BYTES_MAX {
                return Err(too_long());
            }
        }
        String::from_utf8(bytes).map_err(|_| ApiError::Form(format!("the part {:?} is not UTF-8", self.name)))
    }

    /// Its bytes, however many they are.
    pub fn file(self) -> Field<'r> {
        self.allowance.set(usize::MAX);
        self.field
    }
}

fn too_long() -> ApiError {
    ApiError::Form(format!("a part that is no file has more than {TEXT_BYTES_MAX} bytes"))
}

/// What is wrong with a form.
fn of_parser(error: multer::Error) -> ApiError {
    match error {
        multer::Error::StreamReadFailed(cause) => match cause.downcast::<io::Error>().map(|error| error.kind()) {
            Ok(io::ErrorKind::FileTooLarge) => too_long(),
            Ok(io::ErrorKind::TimedOut) => ApiError::UploadTime,
            _ => ApiError::BodyCut,
        },
        multer::Error::IncompleteStream
        | multer::Error::IncompleteFieldData { .. }
        | multer::Error::IncompleteHeaders => ApiError::BodyCut,
        error => ApiError::Form(error.to_string()),
    }
}

/// What went wrong with a file that was stored while it was read, if that was the form.
pub fn of_file(error: ApiError) -> ApiError {
    match error {
        ApiError::Store(StorageError::Input { source }) => match source.downcast::<multer::Error>() {
            Ok(error) => of_parser(*error),
            Err(source) => ApiError::Store(StorageError::Input { source }),
        },
        error => error,
    }
}

/// How many bytes the parser is still given.
#[derive(Debug, Default)]
struct Allowance(AtomicUsize);

impl Allowance {
    fn set(&self, bytes: usize) {
        self.0.store(bytes, Ordering::Relaxed);
    }

    /// Whether there is something left.
    fn take(&self, bytes: usize) -> bool {
        let left = self.0.load(Ordering::Relaxed);
        // That of a file has no end.
        let after = if left == usize::MAX { left } else { left.saturating_sub(bytes) };
        self.0.store(after, Ordering::Relaxed);
        left > 0
    }
}

/// A body in pieces: one, and then a pause in which the parser can give away what it has got.
struct Pieces<'r> {
    stream: DataStream<'r>,
    allowance: Arc<Allowance>,
    has_given: bool,
    pause: Pin<Box<Sleep>>,
}

impl Stream for Pieces<'_> {
    type Item = io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if std::mem::take(&mut self.has_given) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let mut piece = vec![0; PIECE_BYTES];
        let mut buffer = ReadBuf::new(&mut piece);
        let Poll::Ready(read) = Pin::new(&mut self.stream).poll_read(cx, &mut buffer) else {
            ready!(self.pause.as_mut().poll(cx));
            return Poll::Ready(Some(Err(io::ErrorKind::TimedOut.into())));
        };
        self.pause.as_mut().reset(Instant::now() + PAUSE_MAX);
        let bytes = match read {
            Ok(()) => buffer.filled().len(),
            Err(error) => return Poll::Ready(Some(Err(io::Error::new(io::ErrorKind::UnexpectedEof, error)))),
        };
        if bytes == 0 {
            return Poll::Ready(None);
        }
        if !self.allowance.take(bytes) {
            return Poll::Ready(Some(Err(io::ErrorKind::FileTooLarge.into())));
        }
        self.has_given = true;
        piece.truncate(bytes);
        Poll::Ready(Some(Ok(piece.into())))
    }
}
