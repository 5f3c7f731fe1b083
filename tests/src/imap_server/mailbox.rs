//! Messages and who waits for them.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use crate::corpus::make::{base64, noise};

/// The one mailbox, INBOX. Messages are never removed, so numbers and UIDs agree.
#[derive(Debug)]
pub struct Mailbox {
    messages: Mutex<Vec<Arc<Vec<u8>>>>,
    count: watch::Sender<usize>,
}

impl Mailbox {
    /// With these messages in it.
    #[must_use]
    pub fn new(messages: Vec<Arc<Vec<u8>>>) -> Self {
        let count = watch::Sender::new(messages.len());
        Self { messages: Mutex::new(messages), count }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Arc<Vec<u8>>>> {
        self.messages.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Put a message at the end; returns its number.
    pub fn add(&self, message: Vec<u8>) -> usize {
        let count = {
            let mut messages = self.lock();
            messages.push(Arc::new(message));
            messages.len()
        };
        self.count.send_replace(count);
        count
    }

    /// Put other octets under a message's number and UID, as no honest server does.
    pub fn replace(&self, number: usize, message: Vec<u8>) -> Option<()> {
        *self.lock().get_mut(number.checked_sub(1)?)? = Arc::new(message);
        Some(())
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lock().len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A message by its number, from 1.
    #[must_use]
    pub fn message(&self, number: usize) -> Option<Arc<Vec<u8>>> {
        self.lock().get(number.checked_sub(1)?).cloned()
    }

    /// Tells whenever the count changes.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<usize> {
        self.count.subscribe()
    }
}

/// A message of about this many octets whose lines all differ: what is lost, doubled or swapped changes its hash.
#[must_use]
pub fn large_message(octets: usize) -> Vec<u8> {
    let mut message = b"From: lab@lab.test\r\nTo: alice@lab.test\r\nSubject: large\r\n\r\n".to_vec();
    message.reserve(octets + 80);
    // Xorshift: not random, only never the same line twice.
    let mut state: u64 = 0x9E37_79B9_7F4A_7C15;
    while message.len() < octets {
        for _ in 0..4 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            message.extend_from_slice(format!("{state:016x}").as_bytes());
        }
        message.extend_from_slice(b"\r\n");
    }
    message
}

/// A message of about this many octets, nearly all of them an attachment in base64, as large mail mostly is. Another
/// seed makes another attachment.
#[must_use]
pub fn attached_message(octets: usize, seed: u64) -> Vec<u8> {
    let text = "--cut\r\nContent-Type: text/plain; charset=utf-8\r\n\r\nThe papers, as promised.\r\n";
    let header = "Content-Type: application/octet-stream; name=\"papers.bin\"\r\n\
                  Content-Transfer-Encoding: base64\r\nContent-Disposition: attachment; filename=\"papers.bin\"\r\n";
    let mut message = format!(
        "From: lab@lab.test\r\nTo: alice@lab.test\r\nSubject: papers\r\nMIME-Version: 1.0\r\n\
         Content-Type: multipart/mixed; boundary=cut\r\n\r\n{text}--cut\r\n{header}\r\n"
    )
    .into_bytes();
    // A line of 76 letters and its end stands for 57 octets.
    message.extend(base64(&noise(octets.saturating_sub(message.len()) * 57 / 78, seed)));
    message.extend_from_slice(b"--cut--\r\n");
    message
}
