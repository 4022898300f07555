//! One connection for one command.

use std::fmt;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

use crate::{Address, BoxError, ClamdError, Verdict, Version, reply};

/// For the name and the connection.
const CONNECT_LIMIT: Duration = Duration::from_secs(3);

/// For an answer that nothing has to be looked at for.
const SMALL_LIMIT: Duration = Duration::from_secs(5);

/// Longest answer that is read, in bytes.
const REPLY_BYTES_MAX: u64 = 4096;

/// Largest piece that is sent, in bytes: the daemon keeps one at a time.
const PIECE_BYTES_MAX: usize = 64 * 1024;

/// A daemon. Cheap to clone; nothing is kept open.
#[derive(Debug, Clone)]
pub struct Clamd {
    address: Arc<Address>,
    bytes_max: u64,
}

impl Clamd {
    /// The one at this address, which is sent at most so many bytes at a time: `StreamMaxLength` of its `clamd.conf`.
    #[must_use]
    pub fn new(address: Address, bytes_max: u64) -> Self {
        Self { address: Arc::new(address), bytes_max }
    }

    /// Has these bytes judged; `length` is how many they are. They are sent as they come, and the daemon may answer before it has all.
    ///
    /// # Errors
    /// [`ClamdError`]: then nothing is known of them.
    pub async fn scan<S, E>(&self, body: S, length: u64, limit: Duration) -> Result<Verdict, ClamdError>
    where
        S: Stream<Item = Result<Bytes, E>>,
        E: Into<BoxError>,
    {
        if length > self.bytes_max {
            return Err(ClamdError::TooLarge);
        }
        let judged = async {
            let (mut from, mut to) = self.connect().await?;
            let body = pin!(body);
            let answer = tokio::select! {
                // An answer that comes before the end is one all the same, and then the daemon reads no more.
                answer = read(&mut from) => answer?,
                sent = send(&mut to, body) => match sent {
                    Ok(()) => read(&mut from).await?,
                    // The daemon may have answered before it has ended the connection.
                    Err(ClamdError::Closed(why)) => read(&mut from).await.map_err(|_| ClamdError::Closed(why))?,
                    Err(error) => return Err(error),
                }
            };
            reply::verdict(&answer)
        };
        timeout(limit, judged).await.unwrap_or(Err(ClamdError::TimedOut { limit }))
    }

    /// Which daemon it is: it answers this while it can judge.
    ///
    /// # Errors
    /// [`ClamdError`].
    pub async fn version(&self) -> Result<Version, ClamdError> {
        let told = async {
            let (mut from, mut to) = self.connect().await?;
            to.write_all(b"zVERSION\0").await.map_err(closed)?;
            reply::version(&read(&mut from).await?)
        };
        timeout(SMALL_LIMIT, told).await.unwrap_or(Err(ClamdError::TimedOut { limit: SMALL_LIMIT }))
    }

    async fn connect(&self) -> Result<(Reading, Writing), ClamdError> {
        let connected = async {
            Ok::<(Reading, Writing), io::Error>(match &*self.address {
                Address::Unix(path) => {
                    let (from, to) = UnixStream::connect(path).await?.into_split();
                    (Box::new(from), Box::new(to))
                }
                Address::Tcp(address) => {
                    let (from, to) = TcpStream::connect(address).await?.into_split();
                    (Box::new(from), Box::new(to))
                }
            })
        };
        let connected = timeout(CONNECT_LIMIT, connected).await.unwrap_or_else(|late| Err(late.into()));
        connected.map_err(ClamdError::Unreachable)
    }
}

impl fmt::Display for Clamd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.address.fmt(f)
    }
}

type Reading = Box<dyn AsyncRead + Send + Unpin>;
type Writing = Box<dyn AsyncWrite + Send + Unpin>;

/// Sends the command and the bytes, each piece behind its length, and a length of zero at the end.
async fn send<S, E>(to: &mut Writing, mut body: std::pin::Pin<&mut S>) -> Result<(), ClamdError>
where
    S: Stream<Item = Result<Bytes, E>>,
    E: Into<BoxError>,
{
    to.write_all(b"zINSTREAM\0").await.map_err(closed)?;
    while let Some(piece) = body.next().await {
        let piece = piece.map_err(|error| ClamdError::Input(error.into()))?;
        for piece in piece.chunks(PIECE_BYTES_MAX) {
            let length = u32::try_from(piece.len()).expect("a piece is small");
            to.write_all(&length.to_be_bytes()).await.map_err(closed)?;
            to.write_all(piece).await.map_err(closed)?;
        }
    }
    to.write_all(&[0; 4]).await.map_err(closed)
}

/// Reads one answer. What does not end with a zero was cut off: half of a verdict is none.
async fn read(from: &mut Reading) -> Result<String, ClamdError> {
    let mut bytes = Vec::new();
    let mut limited = from.take(REPLY_BYTES_MAX);
    loop {
        if let Some(end) = bytes.iter().position(|byte| *byte == 0) {
            bytes.truncate(end);
            return String::from_utf8(bytes).map_err(|_| ClamdError::Nonsense);
        }
        if limited.limit() == 0 {
            return Err(ClamdError::Nonsense);
        }
        if limited.read_buf(&mut bytes).await.map_err(closed)? == 0 {
            return Err(if bytes.is_empty() { ClamdError::Closed(None) } else { ClamdError::Nonsense });
        }
    }
}

fn closed(error: io::Error) -> ClamdError {
    ClamdError::Closed(Some(error))
}
