//! What a policy says of content beside rules: what becomes of what is found, of signed mail, and the words for the
//! reader.

use std::sync::LazyLock;

use super::notice::DenyNotice;
use super::{Condition, LeafOutcome, RuleName};
use crate::config::{ContentSettings, SignedMail, VerdictChoice, VerdictSettings};

/// What a policy says beside rules.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ContentTerms {
    verdicts: VerdictSettings,
    /// What becomes of a signed mail of which a part is removed.
    pub(super) signed: SignedMail,
    /// What readers see in the place of what was removed.
    pub(super) notice: DenyNotice,
}

impl ContentTerms {
    /// Of a configuration.
    #[must_use]
    pub fn of(settings: &ContentSettings) -> Self {
        let notice = DenyNotice::new(settings.deny_message.as_ref(), settings.deny_language);
        Self { verdicts: settings.verdicts.clone(), signed: settings.signed, notice }
    }

    /// Those of a configuration that says nothing.
    #[must_use]
    pub fn standard() -> &'static Self {
        static STANDARD: LazyLock<ContentTerms> = LazyLock::new(ContentTerms::default);
        &STANDARD
    }

    /// What becomes of a file in which this was found.
    #[must_use]
    pub fn found(&self, condition: Condition) -> LeafOutcome {
        let verdicts = &self.verdicts;
        let verdict = match condition {
            Condition::EncryptedFile => verdicts.encrypted_file,
            Condition::EncryptedMail => verdicts.encrypted_mail,
            Condition::PartialMessage => verdicts.partial_message,
            Condition::ExternalBody => verdicts.external_body,
            Condition::MimeLimits => verdicts.mime_limits,
            Condition::ArchiveLimits => verdicts.archive_limits,
            Condition::BrokenFile => verdicts.broken_file,
            Condition::UnknownArchive => verdicts.unknown_archive,
            Condition::Macro => verdicts.r#macro,
            Condition::ExternalReference => verdicts.external_reference,
            Condition::ActiveContent => verdicts.active_content,
            Condition::Smuggling => verdicts.smuggling,
            Condition::CannotScan => verdicts.cannot_scan,
        };
        outcome(RuleName::Condition(condition), verdict)
    }

    /// What becomes of a file that a scanner knows by this signature.
    #[must_use]
    pub fn virus(&self, scanner: &str, signature: String) -> LeafOutcome {
        outcome(RuleName::Virus { scanner: scanner.to_owned(), signature }, self.verdicts.virus)
    }

    /// What becomes of a file whose hash is blocked.
    pub(super) fn blocked(&self, sha256: [u8; 32]) -> LeafOutcome {
        outcome(RuleName::Hash { sha256 }, self.verdicts.blocked_hash)
    }

    /// What becomes of the EICAR test file. It shows that mail is judged, so that it never passes.
    pub(super) fn eicar(&self) -> LeafOutcome {
        match self.verdicts.virus {
            VerdictChoice::Deny => LeafOutcome::Deny(RuleName::Eicar),
            VerdictChoice::Allow | VerdictChoice::Remove => LeafOutcome::Remove(RuleName::Eicar),
        }
    }
}

fn outcome(rule: RuleName, verdict: VerdictChoice) -> LeafOutcome {
    match verdict {
        VerdictChoice::Allow => LeafOutcome::Note(rule),
        VerdictChoice::Remove => LeafOutcome::Remove(rule),
        VerdictChoice::Deny => LeafOutcome::Deny(rule),
    }
}
