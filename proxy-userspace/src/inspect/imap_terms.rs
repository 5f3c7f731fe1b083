//! What a policy says about IMAP itself: the tables of `allow`, narrowed, and what servers tell about themselves.

use std::borrow::Cow;

use super::allow::{self, Mechanism, Treatment, begins};
use super::uses::{of_verb, used};
use crate::config::Action;
use crate::imap::command::{ClientCommand, Verb};
use crate::imap::frame::CLIENT_TEXT_BYTES_MAX;

/// Why a capability, a mechanism or a command that could pass does not.
const HIDDEN: &str = "this gateway hides it";
/// What LOGIN is answered where it is switched off.
pub(super) const NO_LOGIN: &str = "LOGIN is switched off at this gateway: use AUTHENTICATE";

/// What a policy says about IMAP. It is made once for each policy, and the sessions of the policy share it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImapTerms {
    /// Capabilities, in capitals. One that ends in `=` or `-` stands for all that begin so.
    hidden: Vec<Box<str>>,
    /// SASL mechanisms that may be used; `None` for all that can pass.
    mechanisms: Option<Vec<Box<str>>>,
    /// The command LOGIN may be used.
    takes_login: bool,
    /// What servers tell about their software is hidden.
    hides_banner: bool,
    /// Octets of a command outside its literals.
    line_bytes_max: usize,
}

impl Default for ImapTerms {
    /// Everything passes that can pass.
    fn default() -> Self {
        Self {
            hidden: Vec::new(),
            mechanisms: None,
            takes_login: true,
            hides_banner: false,
            line_bytes_max: CLIENT_TEXT_BYTES_MAX,
        }
    }
}

impl ImapTerms {
    /// What this action says.
    #[must_use]
    pub fn of(action: &Action) -> Self {
        let Action { capabilities, general, .. } = action;
        let mut hidden: Vec<Box<str>> = Vec::new();
        for name in &capabilities.hide {
            let names = std::iter::once(name.as_str()).chain(allow::built_on(name).iter().copied());
            hidden.extend(names.map(Box::from));
        }
        let mechanisms = capabilities.mechanisms.iter().map(|name| name.as_str().into()).collect();
        Self {
            hidden,
            mechanisms: (!capabilities.pass_all_mechanisms()).then_some(mechanisms),
            takes_login: capabilities.login,
            hides_banner: general.hide_banner,
            line_bytes_max: usize::try_from(general.line_length).unwrap_or(CLIENT_TEXT_BYTES_MAX),
        }
    }

    /// Octets of a command outside its literals, line ends included.
    #[must_use]
    pub const fn line_bytes_max(&self) -> usize {
        self.line_bytes_max
    }

    /// Whether the command LOGIN may be used.
    #[must_use]
    pub const fn takes_login(&self) -> bool {
        self.takes_login
    }

    /// Whether clients must not be told which software a server is.
    #[must_use]
    pub const fn hides_banner(&self) -> bool {
        self.hides_banner
    }

    /// Whether the policy hides this capability.
    #[must_use]
    pub fn hides(&self, name: &[u8]) -> bool {
        self.hidden.iter().any(|hidden| match hidden.ends_with(['=', '-']) && &**hidden != LITERAL_MINUS {
            true => begins(name, hidden),
            false => name.eq_ignore_ascii_case(hidden.as_bytes()),
        })
    }

    /// What becomes of this capability.
    #[must_use]
    pub(super) fn capability(&self, name: &[u8]) -> Treatment {
        match allow::capability(name) {
            Treatment::LiteralMinus if self.hides(LITERAL_MINUS.as_bytes()) => Treatment::Hide(HIDDEN),
            Treatment::Pass if self.hides(name) => Treatment::Hide(HIDDEN),
            treatment => treatment,
        }
    }

    /// What becomes of this SASL mechanism.
    #[must_use]
    pub(super) fn mechanism(&self, name: &[u8]) -> Mechanism {
        let is_listed =
            |list: &Vec<Box<str>>| list.iter().any(|each| name.eq_ignore_ascii_case(each.as_bytes()));
        match allow::mechanism(name) {
            refused @ Mechanism::Refuse(_) => refused,
            _ if !self.mechanisms.as_ref().is_none_or(is_listed) => Mechanism::Refuse(HIDDEN),
            passes => passes,
        }
    }

    /// Whether ENABLE may name this.
    #[must_use]
    pub(super) fn enable(&self, name: &[u8]) -> bool {
        allow::enable(name) && !self.hides(name)
    }

    /// Why a literal of this verb's command is not taken, whatever else the command says; `None` where it may be. `is_asked`
    /// says that the client waits to be asked for it.
    #[must_use]
    pub(super) fn refuses_literal(&self, verb: Option<Verb>, is_asked: bool) -> Option<String> {
        if self.hidden.is_empty() {
            return None;
        }
        let literal = LITERAL_MINUS.as_bytes();
        if !is_asked && self.hides(literal) {
            return Some(words("a literal that nobody asked for", literal));
        }
        let hidden = of_verb(verb?).iter().find(|name| self.hides(name.as_bytes()))?;
        Some(words("this command", hidden.as_bytes()))
    }

    /// Why this command does not pass; `None` where it does. What nobody can make out of its arguments is refused.
    #[must_use]
    pub(super) fn refuses(&self, command: &ClientCommand<'_>, unit: &[u8]) -> Option<String> {
        if self.hidden.is_empty() {
            return None;
        }
        let Ok(names) = used(command, unit) else {
            return Some("its arguments cannot be read".to_owned());
        };
        let name: Cow<'_, [u8]> = names.into_iter().find(|name| self.hides(name))?;
        Some(words("this command", &name))
    }
}

/// The one name that ends in `-` and stands for itself alone.
const LITERAL_MINUS: &str = "LITERAL-";

fn words(what: &str, name: &[u8]) -> String {
    let name = name.to_ascii_uppercase();
    format!("{what} needs {}, which this gateway hides", super::request::echo(&name))
}
