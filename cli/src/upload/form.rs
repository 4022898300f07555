//! A form with a file in it (`multipart/form-data`, RFC 7578), read from disk while it is sent.
//!
//! Must not hold more of the file in memory than one piece.

use std::fmt::Write;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use hyper::body::{Body, Bytes, Frame, SizeHint};
use indicatif::ProgressBar;
use tokio::fs::File;
use tokio::io::{AsyncRead, ReadBuf};

/// Bytes of the file that are read at a time.
const PIECE_BYTES: usize = 128 * 1024;

/// What is sent before the file's bytes, and how its parts are told apart.
pub struct Form {
    boundary: String,
    head: String,
}

impl Form {
    /// A form without parts. `boundary` must be a word that is in none of them.
    pub fn new(boundary: String) -> Self {
        Self { boundary, head: String::new() }
    }

    /// The type of its body.
    pub fn content_type(&self) -> String {
        format!("multipart/form-data; boundary={}", self.boundary)
    }

    /// Adds a text.
    pub fn text(&mut self, name: &str, value: &str) {
        let boundary = &self.boundary;
        let part = format_args!("--{boundary}\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n");
        self.head.write_fmt(part).expect("writing to a text cannot fail");
    }

    /// The body, with so many bytes of a file as its last part. They are sent once `gate` is open and are counted by `progress`.
    pub fn file(mut self, file_name: &str, file: File, bytes: u64, gate: Gate, progress: ProgressBar) -> FormBody {
        let (boundary, name) = (&self.boundary, quoted(file_name));
        let part = format_args!(
            "--{boundary}\r\nContent-Disposition: form-data; name=\"file\"; filename=\"{name}\"\r\n\
             Content-Type: application/octet-stream\r\n\r\n"
        );
        self.head.write_fmt(part).expect("writing to a text cannot fail");
        let tail = format!("\r\n--{}--\r\n", self.boundary);
        FormBody {
            gate: Some(gate),
            head: Some(self.head.into()),
            file,
            left: bytes,
            piece: vec![0; PIECE_BYTES],
            tail: Some(tail.into()),
            progress,
        }
    }
}

/// A name as it stands between quotes (RFC 7578, section 2, as the HTML standard writes it).
fn quoted(name: &str) -> String {
    name.replace('"', "%22").replace('\r', "%0D").replace('\n', "%0A")
}

/// Ready once the body may be sent.
pub type Gate = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The body of a form.
pub struct FormBody {
    gate: Option<Gate>,
    head: Option<Bytes>,
    file: File,
    left: u64,
    piece: Vec<u8>,
    tail: Option<Bytes>,
    progress: ProgressBar,
}

impl FormBody {
    /// Bytes that are left to send.
    pub fn len(&self) -> u64 {
        let texts = [&self.head, &self.tail].into_iter().flatten().map(|text| text.len() as u64);
        texts.sum::<u64>() + self.left
    }

    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Bytes>> {
        let wanted = usize::try_from(self.left).unwrap_or(usize::MAX).min(PIECE_BYTES);
        let mut buffer = ReadBuf::new(&mut self.piece[..wanted]);
        ready!(Pin::new(&mut self.file).poll_read(cx, &mut buffer))?;
        let read = Bytes::copy_from_slice(buffer.filled());
        if read.is_empty() {
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the file became shorter meanwhile")));
        }
        self.left -= read.len() as u64;
        self.progress.inc(read.len() as u64);
        Poll::Ready(Ok(read))
    }
}

impl Body for FormBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        if let Some(gate) = &mut self.gate {
            ready!(gate.as_mut().poll(cx));
            self.gate = None;
        }
        if let Some(head) = self.head.take() {
            return Poll::Ready(Some(Ok(Frame::data(head))));
        }
        if self.left > 0 {
            return Poll::Ready(Some(ready!(self.poll_piece(cx)).map(Frame::data)));
        }
        Poll::Ready(self.tail.take().map(|tail| Ok(Frame::data(tail))))
    }

    fn is_end_stream(&self) -> bool {
        self.tail.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.len())
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    async fn body(file_name: &str, bytes: u64) -> (u64, io::Result<String>) {
        let folder = tempfile::tempdir().expect("a folder can be made");
        let path = folder.path().join("file");
        std::fs::write(&path, "bytes of it").expect("ours");
        let mut form = Form::new("word".to_owned());
        form.text("folder", "a/b");
        let file = File::open(&path).await.expect("there");
        let body = form.file(file_name, file, bytes, Box::pin(std::future::ready(())), ProgressBar::hidden());
        let told = body.len();
        let sent = body.collect().await.map(|sent| String::from_utf8(sent.to_bytes().to_vec()).expect("a text"));
        (told, sent)
    }

    #[tokio::test]
    async fn a_form_is_as_long_as_it_says_and_a_name_cannot_end_its_part() {
        let (told, sent) = body("a\".jpg\r\nX: y", 11).await;
        let sent = sent.expect("it is all there");
        assert_eq!(
            sent,
            "--word\r\nContent-Disposition: form-data; name=\"folder\"\r\n\r\na/b\r\n\
             --word\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a%22.jpg%0D%0AX: y\"\r\n\
             Content-Type: application/octet-stream\r\n\r\nbytes of it\r\n--word--\r\n"
        );
        assert_eq!(told, sent.len() as u64);
    }

    #[tokio::test]
    async fn a_file_that_grows_is_sent_as_it_was_and_one_that_shrinks_is_not() {
        let (told, sent) = body("a", 5).await;
        let sent = sent.expect("it is all there");
        assert!(sent.contains("\r\n\r\nbytes\r\n--word--") && told == sent.len() as u64, "{sent}");
        let shorter = body("a", 12).await.1.expect_err("a byte is missing");
        assert_eq!(shorter.kind(), io::ErrorKind::UnexpectedEof);
    }
}
