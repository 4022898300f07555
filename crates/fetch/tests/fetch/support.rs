//! A server that answers with the bytes it is told to, and a name server that answers as it likes.
#![allow(unreachable_pub, reason = "in a test, pub means: for the other modules")]

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fetch::{FetchConfig, FetchError, FetchLimits, Fetcher, GetOptions, PrivateHosts, Resolve, Resolving, Url};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// What a server does once it has read a request.
#[derive(Debug, Clone)]
pub enum Act {
    /// Sends bytes.
    Send(Vec<u8>),
    /// Sends a byte over and over, with pauses of so many milliseconds.
    Trickle(u8, u64),
    /// Says nothing more.
    Hang,
    /// Resets the connection.
    Reset,
}

pub fn send(text: impl AsRef<[u8]>) -> Act {
    Act::Send(text.as_ref().to_vec())
}

/// A plain answer with these header lines.
pub fn ok(lines: &str, body: impl AsRef<[u8]>) -> Vec<Act> {
    let body = body.as_ref();
    let head = format!("HTTP/1.1 200 OK\r\n{lines}content-length: {}\r\nconnection: close\r\n\r\n", body.len());
    vec![send(head), send(body)]
}

pub fn redirect_to(location: &str) -> Vec<Act> {
    vec![send(format!("HTTP/1.1 302 Found\r\nlocation: {location}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"))]
}

type Script = Arc<dyn Fn(&str) -> Vec<Act> + Send + Sync>;

/// A server on a loopback address. It closes each connection after one request.
pub struct Server {
    pub address: SocketAddr,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Server {
    pub async fn start(script: impl Fn(&str) -> Vec<Act> + Send + Sync + 'static) -> Self {
        Self::start_at("127.0.0.1:0", script).await
    }

    pub async fn start_at(address: &str, script: impl Fn(&str) -> Vec<Act> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind(address).await.expect("a loopback address");
        let address = listener.local_addr().expect("it is bound");
        let requests = Arc::<Mutex<Vec<String>>>::default();
        let (seen, script): (_, Script) = (Arc::clone(&requests), Arc::new(script));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&seen), Arc::clone(&script)));
            }
        });
        Self { address, requests }
    }

    /// The requests that came: their heads, and what was posted with them.
    pub fn requests(&self) -> Vec<String> {
        self.requests.lock().expect("no panic").clone()
    }

    pub fn url(&self, path: &str) -> Url {
        format!("http://{}{path}", self.address).parse().expect("a URL")
    }
}

async fn serve(mut stream: TcpStream, seen: Arc<Mutex<Vec<String>>>, script: Script) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return,
        }
    }
    let mut head = String::from_utf8(head).expect("our client writes text");
    let length = head.split("content-length: ").nth(1).and_then(|rest| rest.lines().next());
    let mut body = vec![0; length.map_or(0, |length| length.parse().expect("a number"))];
    if stream.read_exact(&mut body).await.is_err() {
        return;
    }
    head += &String::from_utf8(body).expect("tests post text");
    seen.lock().expect("no panic").push(head.clone());
    for act in script(&head) {
        match act {
            Act::Send(bytes) => {
                // A client that has had enough hangs up.
                if stream.write_all(&bytes).await.is_err() {
                    return;
                }
            }
            Act::Trickle(byte, pause_ms) => {
                while stream.write_all(&[byte]).await.is_ok() {
                    tokio::time::sleep(Duration::from_millis(pause_ms)).await;
                }
                return;
            }
            Act::Hang => {
                let _ = stream.read_u8().await;
                return;
            }
            Act::Reset => {
                stream.set_zero_linger().expect("a socket takes it");
                return;
            }
        }
    }
}

/// Gives the answers of each name in turn, the last one for ever.
#[derive(Debug, Default, Clone)]
pub struct Names(Arc<Mutex<HashMap<String, VecDeque<Vec<IpAddr>>>>>, Arc<Mutex<Vec<String>>>);

impl Names {
    pub fn new(names: &[(&str, &[&[&str]])]) -> Self {
        let addresses = |answer: &&[&str]| answer.iter().map(|address| address.parse().expect("an address")).collect();
        let answers = |answers: &&[&[&str]]| answers.iter().map(addresses).collect();
        let names = names.iter().map(|(name, all)| ((*name).to_owned(), answers(all))).collect();
        Self(Arc::new(Mutex::new(names)), Arc::default())
    }

    /// The names that were asked for.
    pub fn asked(&self) -> Vec<String> {
        self.1.lock().expect("no panic").clone()
    }
}

impl Resolve for Names {
    fn resolve(&self, host: &str) -> Resolving {
        self.1.lock().expect("no panic").push(host.to_owned());
        let mut names = self.0.lock().expect("no panic");
        let answer = names
            .get_mut(host)
            .and_then(|answers| if answers.len() > 1 { answers.pop_front() } else { answers.front().cloned() });
        Box::pin(async move { answer.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound)) })
    }
}

/// Everything is allowed but private addresses other than these; short limits.
pub fn config(server: &Server, private: &[&str], names: &Names) -> FetchConfig {
    FetchConfig {
        ports: vec![server.address.port()],
        private: PrivateHosts::new(private.iter().copied()),
        limits: FetchLimits {
            connect_timeout: Duration::from_millis(500),
            head_timeout: Duration::from_millis(800),
            stall_timeout: Duration::from_millis(300),
            header_bytes: 8192,
        },
        resolver: Arc::new(names.clone()),
        ..FetchConfig::new(Arc::new(|_| true))
    }
}

/// A client that may reach this server.
pub fn fetcher(server: &Server) -> Fetcher {
    Fetcher::new(config(server, &["127.0.0.1"], &Names::default()))
}

/// The whole body, up to a megabyte.
pub async fn body(fetcher: &Fetcher, url: &Url) -> Result<Vec<u8>, FetchError> {
    Ok(fetcher.get(url, &GetOptions::new(1 << 20)).await?.body.collect().await?.to_vec())
}
