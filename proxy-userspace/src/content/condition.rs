//! What is found in content beside what a rule names: each has an action of the configuration's.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What was found, or why something could not be judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Condition {
    /// An archive or a document that opens with a password only.
    EncryptedFile,
    /// S/MIME `enveloped-data` or PGP: for the recipient's eyes.
    EncryptedMail,
    /// `message/partial`: a piece of a message (RFC 2046 section 5.2.2).
    PartialMessage,
    /// `message/external-body`: content that the reader fetches elsewhere (RFC 2046 section 5.2.3).
    ExternalBody,
    /// The mail's structure is beyond the bounds of [`super::walk`].
    MimeLimits,
    /// An archive is beyond the bounds of [`super::open`]: ratio, size, depth, count.
    ArchiveLimits,
    /// An archive or a document that is damaged, so that it opens in part only or not at all.
    BrokenFile,
    /// An archive of a kind that is not opened here.
    UnknownArchive,
    /// A document with macros.
    Macro,
    /// A document that loads a template or an object from elsewhere.
    ExternalReference,
    /// A PDF with scripts, launch actions or embedded files; OneNote with embedded files.
    ActiveContent,
    /// HTML that builds a file in the reader's browser.
    Smuggling,
    /// The judge died of it, twice, or was ended by its bounds.
    CannotScan,
}

impl Condition {
    /// All of them.
    pub const ALL: [Self; 13] = [
        Self::EncryptedFile,
        Self::EncryptedMail,
        Self::PartialMessage,
        Self::ExternalBody,
        Self::MimeLimits,
        Self::ArchiveLimits,
        Self::BrokenFile,
        Self::UnknownArchive,
        Self::Macro,
        Self::ExternalReference,
        Self::ActiveContent,
        Self::Smuggling,
        Self::CannotScan,
    ];

    /// The token in records and in the configuration.
    #[must_use]
    pub const fn token(self) -> &'static str {
        match self {
            Self::EncryptedFile => "encrypted_file",
            Self::EncryptedMail => "encrypted_mail",
            Self::PartialMessage => "partial_message",
            Self::ExternalBody => "external_body",
            Self::MimeLimits => "mime_limits",
            Self::ArchiveLimits => "archive_limits",
            Self::BrokenFile => "broken_file",
            Self::UnknownArchive => "unknown_archive",
            Self::Macro => "macro",
            Self::ExternalReference => "external_reference",
            Self::ActiveContent => "active_content",
            Self::Smuggling => "smuggling",
            Self::CannotScan => "cannot_scan",
        }
    }
}

impl fmt::Display for Condition {
    /// The reason, in words that the reader of a mail understands.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::EncryptedFile => "it opens with a password only, so that it cannot be checked",
            Self::EncryptedMail => "it is encrypted, so that it cannot be checked",
            Self::PartialMessage => "it is a piece of a mail, which cannot be checked without the others",
            Self::ExternalBody => "it is fetched from elsewhere, where it cannot be checked",
            Self::MimeLimits => "the mail is built in a way that cannot be checked",
            Self::ArchiveLimits => "it holds more than can be checked",
            Self::BrokenFile => "it is damaged, so that it cannot be checked",
            Self::UnknownArchive => "it is an archive of a kind that cannot be checked",
            Self::Macro => "it is a document with macros",
            Self::ExternalReference => "it is a document that loads content from elsewhere",
            Self::ActiveContent => "it is a document with scripts or embedded files",
            Self::Smuggling => "it is a page that builds a file on your computer",
            Self::CannotScan => "it could not be checked",
        })
    }
}
