//! A name server that says what it is told, over UDP, and misbehaves on request.
//!
//! It knows TXT records only (RFC 1035). Everything here panics when it fails.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use tokio::net::UdpSocket;
use tokio::task::AbortHandle;

/// A question's type and class: TXT, IN.
const TXT_IN: [u8; 4] = [0, 16, 0, 1];

/// What is said of a name.
#[derive(Debug, Clone)]
pub enum Said {
    /// These texts, each a record of its own.
    Texts(Vec<String>),
    /// That the server has failed (SERVFAIL).
    Failure,
    /// Nothing at all.
    Silence,
    /// Bytes that are no message.
    Garbage,
}

/// A name server. Dropping it ends it.
#[derive(Debug)]
pub struct NameServer {
    /// Where it is.
    pub address: SocketAddr,
    names: Arc<Mutex<HashMap<String, Said>>>,
    task: AbortHandle,
}

impl NameServer {
    /// Starts one that knows no name.
    ///
    /// # Panics
    /// When no port is free.
    pub async fn start() -> Self {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port is free");
        let address = socket.local_addr().expect("it is bound");
        let names = Arc::new(Mutex::new(HashMap::new()));
        let task = tokio::spawn(serve(socket, Arc::clone(&names))).abort_handle();
        Self { address, names, task }
    }

    /// Lets it say this of a name from now on.
    ///
    /// # Panics
    /// Never.
    pub fn say(&self, name: &str, said: Said) {
        self.names.lock().expect("nobody panics with it").insert(name.to_lowercase(), said);
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(socket: UdpSocket, names: Arc<Mutex<HashMap<String, Said>>>) {
    let mut buffer = [0; 1500];
    while let Ok((length, client)) = socket.recv_from(&mut buffer).await {
        let Some((name, question)) = question(&buffer[..length]) else { continue };
        let said = names.lock().expect("nobody panics with it").get(&name).cloned();
        let is_txt = question.ends_with(&TXT_IN);
        let answer = match said {
            Some(Said::Texts(texts)) => message(&buffer, question, 0, if is_txt { &texts } else { &[] }),
            Some(Said::Failure) => message(&buffer, question, 2, &[]),
            Some(Said::Silence) => continue,
            Some(Said::Garbage) => vec![0xff; 7],
            // There is no such name.
            None => message(&buffer, question, 3, &[]),
        };
        // Whoever does not wait for it any more will ask again.
        let _ = socket.send_to(&answer, client).await;
    }
}

/// The name that is asked for, and the bytes of the question.
fn question(message: &[u8]) -> Option<(String, &[u8])> {
    let (mut at, mut labels) = (12, Vec::new());
    loop {
        let length = usize::from(*message.get(at)?);
        if length == 0 {
            break;
        }
        labels.push(String::from_utf8_lossy(message.get(at + 1..=at + length)?).to_lowercase());
        at += 1 + length;
    }
    Some((labels.join("."), message.get(12..at + 5)?))
}

fn message(asked: &[u8], question: &[u8], code: u8, texts: &[String]) -> Vec<u8> {
    // The id; an answer, recursion was and is to be had; one question.
    let mut message = vec![asked[0], asked[1], 0x81, 0x80 | code, 0, 1, 0, texts.len() as u8, 0, 0, 0, 0];
    message.extend(question);
    for text in texts {
        // Strings of up to 255 bytes, each after its length.
        let strings: Vec<u8> =
            text.as_bytes().chunks(255).flat_map(|part| [&[part.len() as u8], part].concat()).collect();
        // The name of the question; not to be kept.
        message.extend([0xc0, 12].iter().chain(&TXT_IN).chain(&[0, 0, 0, 0]));
        message.extend((strings.len() as u16).to_be_bytes());
        message.extend(strings);
    }
    message
}
