use std::borrow::Cow;
use std::cell::Cell;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::account::{AccountNames, folded};
use super::bodies::Draw;
use super::guessing::{DELAY_FIRST, GuessDecision, GuessLimits, LoginAttempt, LoginParties};
use super::tenant::Tenancy;
use super::{Guard, GuardRule, Mark, MarkOf};
use crate::accept::counted_as;
use crate::config::GuardSettings;
use crate::record::{GuardRecord, VerdictLines};

const FOREIGN: &str =
    "[AUTHENTICATIONFAILED] The mail gateway lets only accounts of certain domains log in at this server";
const UNREADABLE: &str = "[AUTHENTICATIONFAILED] The mail gateway cannot read the account of this login, and lets only \
                          certain accounts log in at this server: use PLAIN or LOGIN";
const SURPLUS: &str =
    "[AUTHENTICATIONFAILED] The mail gateway has ended this login: its mechanism has no answer here";
const WAITED: &str =
    "[UNAVAILABLE] Other logins wait for the server's answer, and this one waits for them; try again later";
const GUESSED: &str = "[AUTHENTICATIONFAILED] Too many logins have failed; try again in some minutes";

/// What a login becomes.
pub(crate) enum LoginDecision {
    /// It goes to the server.
    Go(GuardedLogin),
    /// It is asked about again at this time.
    Wait(Instant),
    /// It does not go to the server.
    Refuse(GuardRefusal),
}

/// A login that the server has.
pub(crate) struct GuardedLogin {
    /// The account at its server, where it can be read.
    pub(crate) account: Option<Mark>,
    /// Where guessing is limited.
    pub(crate) attempt: Option<LoginAttempt>,
}

/// How a login that is refused is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct GuardRefusal {
    /// What stands behind the tagged NO.
    pub(crate) words: &'static str,
    /// After this.
    pub(crate) delay: Duration,
}

/// What one session may do.
pub struct SessionGuard {
    guard: Arc<Guard>,
    client: Mark,
    /// By the first name that its certificate proves.
    server: Mark,
    /// By its address: it shows certificates as clients ask for names.
    address: Mark,
    tenancy: Option<Tenancy>,
    guessing: Option<GuessLimits>,
    bodies_per_hour: Option<u32>,
    lines: VerdictLines,
    /// Logins that the tenant rule refused in this session.
    foreign: Cell<u64>,
}

impl SessionGuard {
    /// Of a client at a server, which proved these names by its certificate, or none. `None` where nothing is limited there.
    pub(crate) fn new(
        guard: &Arc<Guard>,
        settings: &GuardSettings,
        (client, server): (IpAddr, IpAddr),
        proven: Option<&[String]>,
        lines: VerdictLines,
    ) -> Option<Self> {
        let tenancy = Tenancy::at(&settings.tenants, server, proven);
        let (guessing, bodies_per_hour) = (GuessLimits::of(settings), settings.bodies_per_hour);
        if tenancy.is_none() && guessing.is_none() && bodies_per_hour.is_none() {
            return None;
        }
        let client = guard.key.mark(MarkOf::Client, &[&octets(counted_as(client))]);
        let address = guard.key.mark(MarkOf::Server, &[&octets(server), b"address"]);
        let server = match proven.and_then(|names| names.iter().map(|name| name.to_lowercase()).min()) {
            Some(name) => guard.key.mark(MarkOf::Server, &[name.as_bytes()]),
            None => address,
        };
        let (guard, foreign) = (Arc::clone(guard), Cell::new(0));
        Some(Self { guard, client, server, address, tenancy, guessing, bodies_per_hour, lines, foreign })
    }

    /// Whether only some accounts may log in, so that nothing passes before one of them has.
    pub(crate) const fn is_restricted(&self) -> bool {
        self.tenancy.is_some()
    }

    /// Whether a login may go to the server. `None` stands for names that cannot be read.
    pub(crate) fn decide(&self, names: Option<&AccountNames>, now: Instant) -> LoginDecision {
        let shown = names.and_then(AccountNames::shown);
        if let Some(tenancy) = &self.tenancy
            && !names.is_some_and(|names| tenancy.admits(names))
        {
            self.foreign.set(self.foreign.get().saturating_add(1));
            self.tell(GuardRule::Tenant, shown.as_deref(), self.foreign.get());
            let words = if names.is_some() { FOREIGN } else { UNREADABLE };
            // A client that comes again at once is slowed.
            return LoginDecision::Refuse(GuardRefusal { words, delay: DELAY_FIRST });
        }
        let account = names.and_then(AccountNames::account).map(|account| self.account(account));
        let Some(limits) = self.guessing else {
            return LoginDecision::Go(GuardedLogin { account, attempt: None });
        };
        let pair = |account: Mark| (account, self.guard.key.mark(MarkOf::Pair, &[&self.client, &account]));
        let client = self.guard.key.mark(MarkOf::ClientAtServer, &[&self.client, &self.address]);
        let parties = LoginParties { client, account: account.map(pair) };
        match LoginAttempt::begin(&self.guard, limits, parties, now) {
            GuessDecision::Go(attempt) => LoginDecision::Go(GuardedLogin { account, attempt: Some(attempt) }),
            GuessDecision::Wait(until) => LoginDecision::Wait(until),
            GuessDecision::Refuse(delay, count) => {
                self.tell(GuardRule::Guessing, shown.as_deref(), u64::from(count));
                LoginDecision::Refuse(GuardRefusal { words: GUESSED, delay })
            }
        }
    }

    /// A client sends an answer that its mechanism does not have, so that nobody has read whose it is.
    pub(crate) fn refuse_surplus(&self, shown: Option<&str>) -> GuardRefusal {
        if self.is_restricted() {
            self.foreign.set(self.foreign.get().saturating_add(1));
            self.tell(GuardRule::Tenant, shown, self.foreign.get());
        }
        GuardRefusal { words: SURPLUS, delay: DELAY_FIRST }
    }

    /// A login has waited too long for the answers to others. It has waited enough to be answered at once.
    pub(crate) fn refuse_waiting(&self, names: Option<&AccountNames>) -> GuardRefusal {
        self.tell(GuardRule::Guessing, names.and_then(AccountNames::shown).as_deref(), 1);
        GuardRefusal { words: WAITED, delay: Duration::ZERO }
    }

    /// Whether content of a message may go to the client. `account` is the one that logged in, where its name could be read,
    /// and `message` names it within the account: mailbox, UIDVALIDITY, UID.
    pub(crate) fn draw(&self, account: Option<Mark>, message: (&[u8], u32, u32), now: Instant) -> bool {
        let Some(limit) = self.bodies_per_hour else { return true };
        let (mailbox, validity, uid) = message;
        let message =
            self.guard.key.mark(MarkOf::Message, &[mailbox, &validity.to_le_bytes(), &uid.to_le_bytes()]);
        self.guard.bodies.draw(self.drawer(account), message, limit, now) == Draw::Taken
    }

    /// A message was kept from the account.
    pub(crate) fn tell_body(&self, account: Option<Mark>, shown: Option<&str>, now: Instant) {
        let is_first = self.guard.bodies.is_first_over(self.drawer(account), now);
        self.tell(GuardRule::Bodies, shown, u64::from(is_first));
    }

    /// Whose account cannot be read is counted by the client's address.
    fn drawer(&self, account: Option<Mark>) -> Mark {
        account.unwrap_or(self.client)
    }

    /// An account belongs to its server: whoever runs another one may say OK to any password. A server is the first, in the
    /// order of letters, of the names that its certificate proves, so that all of its addresses are one; without a
    /// proof it is its address. One that has several certificates is several servers.
    fn account(&self, name: &[u8]) -> Mark {
        self.guard.key.mark(MarkOf::Account, &[&self.server, folded(name).as_bytes()])
    }

    /// Something was refused: it is counted, and a line is written at the 1st, 2nd, 4th, 8th and so on of its kind, so that a
    /// flood makes few lines. Everything that is to hear of refusals hears of them here.
    fn tell(&self, rule: GuardRule, user: Option<&str>, count: u64) {
        self.guard.count(rule);
        if count.is_power_of_two() {
            self.lines.write_guard(&GuardRecord { rule, user: user.map(Cow::Borrowed), count });
        }
    }
}

fn octets(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    }
}
