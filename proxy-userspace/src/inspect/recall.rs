//! Mail that was judged before. The memory of verdicts names the digests of content in which nothing was forbidden: octets
//! that have them need no second judgement. It is a hint and releases nothing: what it names is compared with what came.

use std::future::Future as _;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use super::answer::Answer;
use super::terms::{MediationTerms, Subject};
use crate::content::{ContentPiece, Shape};
use crate::imap::fetch::Section;
use crate::imap::response::AnsweredForm;
use crate::vault::{DigestKey, GroupDigests, GroupVerifier, Lookup, MessageKey, RuleGeneration, Vault};

/// What content was judged under.
#[derive(Debug)]
pub(super) struct ContentName {
    server: Rc<str>,
    account: Option<Rc<str>>,
    mailbox: Option<Rc<str>>,
    uid_validity: u32,
    uid: u32,
    utf8: bool,
    section: Vec<u8>,
}

/// What the server said of the mailbox and the session.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct MailboxState {
    /// UIDVALIDITY of the mailbox that is, or is about to be, selected.
    pub(super) uid_validity: u32,
    /// UTF8=ACCEPT is enabled.
    pub(super) utf8: bool,
}

impl ContentName {
    /// Of a section; `reading` is all else that its verdict depends on.
    pub(super) fn of(
        terms: &MediationTerms,
        subject: &Subject,
        state: MailboxState,
        (form, section): (AnsweredForm, &Section),
        reading: &[u8],
    ) -> Option<Self> {
        let mut name = vec![match form {
            AnsweredForm::Body => b'B',
            AnsweredForm::Rfc822 => b'R',
            AnsweredForm::Rfc822Header => b'H',
            AnsweredForm::Rfc822Text => b'T',
        }];
        section.write(&mut name);
        name.extend_from_slice(reading);
        Some(Self {
            server: Rc::clone(&terms.server),
            account: subject.account.clone(),
            mailbox: subject.mailbox.clone(),
            uid_validity: state.uid_validity,
            uid: subject.uid?,
            utf8: state.utf8,
            section: name,
        })
    }

    fn key(&self) -> MessageKey<'_> {
        MessageKey {
            server: self.server.as_bytes(),
            account: self.account.as_deref().unwrap_or_default().as_bytes(),
            mailbox: self.mailbox.as_deref().unwrap_or_default().as_bytes(),
            uid_validity: self.uid_validity,
            uid: self.uid,
            utf8: self.utf8,
            section: &self.section,
        }
    }
}

/// The memory, as a session uses it.
#[derive(Clone)]
pub struct Recollection {
    vault: Arc<Vault>,
    generation: RuleGeneration,
}

impl Recollection {
    /// The memory of what these rules allowed.
    #[must_use]
    pub const fn new(vault: Arc<Vault>, generation: RuleGeneration) -> Self {
        Self { vault, generation }
    }

    /// The rules, by the name under which verdicts are remembered.
    #[must_use]
    pub const fn generation(&self) -> RuleGeneration {
        self.generation
    }

    /// What groups are hashed with.
    pub(super) fn key(&self) -> &DigestKey {
        self.vault.memory.key()
    }

    pub(super) fn lookup(&self, name: &ContentName) -> Lookup {
        self.vault.memory.lookup(&name.key(), self.generation)
    }

    pub(super) fn remember(&self, name: &ContentName, digests: GroupDigests) {
        self.vault.memory.remember(&name.key(), self.generation, Arc::new(digests));
    }

    pub(super) fn forget(&self, name: &ContentName) {
        self.vault.memory.forget(&name.key());
    }

    /// Whether octets are those that were judged.
    pub(super) fn knows(&self, expected: Arc<GroupDigests>, octets: &[u8]) -> bool {
        if expected.length() != octets.len() as u64 {
            return false;
        }
        let mut verifier = GroupVerifier::new(self.key(), expected);
        verifier.take(octets).is_ok() && verifier.is_complete()
    }
}

/// A question to the memory.
#[derive(Debug)]
pub(super) struct Recall {
    pub(super) name: ContentName,
    lookup: Lookup,
}

impl Recall {
    pub(super) fn begin(recollection: &Recollection, name: ContentName) -> Self {
        let lookup = recollection.lookup(&name);
        Self { name, lookup }
    }

    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Arc<GroupDigests>>> {
        Pin::new(&mut self.lookup).poll(cx)
    }
}

/// The name of the only content of a response; responses with more are judged.
pub(super) fn only_content(
    terms: &MediationTerms,
    subject: &Subject,
    state: MailboxState,
    answer: &Answer,
    pieces: &[ContentPiece],
) -> Option<ContentName> {
    let [ContentPiece { range, shape }] = pieces else { return None };
    if range.is_empty() {
        return None;
    }
    let mut reading = Vec::new();
    let hints = match shape {
        Shape::Message | Shape::Header => &[],
        Shape::Unknown { hints } => hints.as_slice(),
        Shape::Body { header, hints } => {
            reading.push(b'M');
            reading.extend_from_slice(header);
            hints.as_slice()
        }
    };
    for hint in hints {
        for word in [&hint.media.0, &hint.media.1, hint.name.as_ref().unwrap_or(&Vec::new()), &hint.encoding]
        {
            reading.extend_from_slice(&(word.len() as u64).to_le_bytes());
            reading.extend_from_slice(word);
        }
    }
    ContentName::of(terms, subject, state, answer.section_at(range)?, &reading)
}
