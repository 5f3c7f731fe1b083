//! Why Postern refuses: a command, a response, or the session.

/// Why a command is answered NO here, and what belongs to it is left out. Each may be different tomorrow or with another
/// message; a final verdict about content is no refusal but a fill.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Refused {
    /// An uploaded message holds forbidden content.
    Content,
    /// A message over `limits.message`.
    TooLarge,
    /// The server gave a part of what it was asked for whole, so that nobody can judge it.
    Incomplete,
    /// A response that does not follow its syntax.
    Malformed,
    /// No thread judged it in time, or none could.
    NotJudged,
    /// `limits.held` is used up.
    NoRoom,
    /// The account has fetched as much as `guard.bodies_per_hour` allows.
    TooMany,
    /// Something else than DONE came in IDLE (RFC 2177). It ends IDLE all the same.
    NotDone,
}

impl Refused {
    /// The token in records.
    pub(super) const fn rule(self) -> &'static str {
        match self {
            Self::Content => "content_forbidden",
            Self::TooLarge => "message_too_large",
            Self::Incomplete => "content_incomplete",
            Self::Malformed => "response_malformed",
            Self::NotJudged => "not_judged",
            Self::NoRoom => "no_room_to_judge",
            Self::TooMany => "guard.bodies",
            Self::NotDone => "done_expected",
        }
    }

    /// The response code and the words behind a tagged NO (RFC 5530 section 3 for UNAVAILABLE and LIMIT).
    pub(super) const fn words(self) -> &'static str {
        match self {
            Self::Content => "[CANNOT] The mail gateway refuses this message: it holds forbidden content",
            Self::TooLarge => "[LIMIT] The message is larger than the mail gateway can inspect",
            Self::Incomplete => {
                "[UNAVAILABLE] The mail server gave a part of a message only, which cannot be inspected"
            }
            Self::Malformed => "[UNAVAILABLE] The mail server's answer could not be read by the mail gateway",
            Self::NotJudged => {
                "[UNAVAILABLE] The mail gateway could not inspect a message now; try again later"
            }
            Self::NoRoom => {
                "[UNAVAILABLE] The mail gateway has no room to inspect a message now; try again later"
            }
            Self::TooMany => {
                "[LIMIT] This account has fetched more mail than the mail gateway lets through in an hour; try again later"
            }
            Self::NotDone => "DONE was expected",
        }
    }
}
