use serde::{Deserialize, Serialize};

use super::fault::Reason;
use super::kinds::{TextValue, list, text};
use super::setting::{settings, words};

/// Each is compared with the account of each login.
const ACCOUNT_PATTERNS_MAX: usize = 1000;
/// Octets of a pattern for accounts: records keep no more of an account either.
const ACCOUNT_PATTERN_BYTES_MAX: usize = 255;

settings! {
    /// `[action.privacy]`: whose mail nobody looks at, and what records say of people.
    #[derive(Default)]
    pub struct PrivacySettings {
        /// Accounts whose mail is not judged, as patterns: `*` stands for any characters, `?` for one, and upper and lower case
        /// are the same. Their mail passes as it came, the EICAR test file and what header rules remove too, in downloads and uploads; the allow-list of
        /// commands and `limits.message` hold for them as for others. The session's record says so. An account counts once the server has
        /// said OK to its login. It is never exempt where its name cannot be read in the login, where the login names a
        /// second account, or where the name has characters in which servers may find another one (`*`, `%`, `/`, `\`, a second `@`),
        /// and not by XOAUTH2 or OAUTHBEARER, whose account a server need not compare with the token. Any server that the policy
        /// admits and that takes such a name exempts the session: give the policy `to`, or use `guard.tenant`.
        exempt_accounts: Vec<AccountPattern> = list(text::<AccountPattern>(), Some(ACCOUNT_PATTERNS_MAX), None)
            .default(Vec::new()).such_as(r#"["works-council@example.org"]"#);
        /// Accounts that records call by a pseudonym (`user.hash`, a keyed hash) in place of their name, as such patterns; `["*"]`
        /// is for all. What tells of the account in other ways (mailbox, message id, sender, subject) is left out. An
        /// account that cannot be read in its login is treated alike. An account has the same
        /// pseudonym as long as the file `verdicts` in `state.directory` is kept, which holds the key.
        pseudonymize_accounts: Vec<AccountPattern> =
            list(text::<AccountPattern>(), Some(ACCOUNT_PATTERNS_MAX), None)
                .default(Vec::new()).such_as(r#"["*@example.org"]"#);
        /// What records of verdicts say of a message's subject.
        subject: SubjectForm = text::<SubjectForm>().default(SubjectForm::Plain);
    }
}

words! {
    /// What records of verdicts say of a message's subject.
    #[derive(Default)]
    pub enum SubjectForm as "form of subjects in records" {
        /// The subject itself (`email.subject`).
        Plain => "plain" default,
        /// A keyed hash of it (`postern.email.subject_hash`), by which mail with the same subject is found. The key is that of
        /// `pseudonymize_accounts`.
        Hash => "hash",
        /// Nothing.
        None => "none",
    }
}

impl PrivacySettings {
    /// Whether mail of this account is not judged.
    #[must_use]
    pub fn exempts(&self, account: &str) -> bool {
        self.exempt_accounts.iter().any(|pattern| pattern.covers(account))
    }

    /// Whether records call the account by a pseudonym. `None` is one that nobody could read.
    #[must_use]
    pub fn pseudonymizes(&self, account: Option<&str>) -> bool {
        let mut patterns = self.pseudonymize_accounts.iter();
        account.map_or(!self.pseudonymize_accounts.is_empty(), |account| {
            patterns.any(|pattern| pattern.covers(account))
        })
    }
}

/// A pattern for accounts: 1 to 255 octets, no white space, no control characters.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct AccountPattern(String);

impl AccountPattern {
    /// Whether the pattern means this account.
    #[must_use]
    pub fn covers(&self, account: &str) -> bool {
        let [pattern, account] = [self.0.as_str(), account].map(|text| text.chars().map(folded).collect());
        is_match::<Vec<char>>(&pattern, &account)
    }
}

/// A character without its case. A letter that only looks like one of ASCII (U+212A, whose lower case is `k`) stays another.
fn folded(letter: char) -> char {
    let mut lower = letter.to_lowercase();
    match (lower.next(), lower.next()) {
        (Some(lower), None) if letter.is_ascii() || !lower.is_ascii() => lower,
        _ => letter,
    }
}

/// Goes back to the last `*` only: at worst the product of both lengths, and both are bounded.
fn is_match<T: AsRef<[char]>>(pattern: &T, text: &T) -> bool {
    let (pattern, text) = (pattern.as_ref(), text.as_ref());
    let (mut at, mut with) = (0usize, 0usize);
    let mut star: Option<(usize, usize)> = None;
    while let Some(letter) = text.get(at) {
        match pattern.get(with) {
            Some('*') => {
                star = Some((with.saturating_add(1), at));
                with = with.saturating_add(1);
            }
            Some(wanted) if *wanted == '?' || wanted == letter => {
                at = at.saturating_add(1);
                with = with.saturating_add(1);
            }
            _ => {
                let Some((behind, from)) = star else { return false };
                at = from.saturating_add(1);
                star = Some((behind, at));
                with = behind;
            }
        }
    }
    pattern.get(with..).unwrap_or_default().iter().all(|rest| *rest == '*')
}

impl TextValue for AccountPattern {
    type Value = Self;
    const WHAT: &'static str = "a pattern for accounts";

    fn parse(text: &str) -> Result<Self, Reason> {
        let remedy = "write an account as clients log in with it, in which `*` stands for any characters and `?` for one, such as \
                      \"*@example.org\"";
        let refuse = |why| Err(Reason::unfit(format!("not a pattern for accounts: {why}"), remedy));
        if text.is_empty() {
            return Err(Reason::Empty { remedy: "write an account such as \"*@example.org\"" });
        }
        if text.len() > ACCOUNT_PATTERN_BYTES_MAX {
            return refuse("longer than 255 octets");
        }
        if text.contains(|letter: char| letter.is_control() || letter.is_whitespace()) {
            return refuse("it has white space or a control character");
        }
        Ok(Self(text.to_owned()))
    }

    fn show(value: &Self) -> String {
        value.0.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(patterns: &[&str]) -> Vec<AccountPattern> {
        patterns.iter().map(|text| AccountPattern::parse(text).unwrap()).collect()
    }

    #[test]
    fn a_pattern_covers_an_account_whole_and_in_any_case() {
        for (pattern, covered, others) in [
            (
                "*@example.org",
                &["joe@example.org", "Joe@EXAMPLE.ORG"][..],
                &["joe@example.org.net", "joe"][..],
            ),
            ("joe", &["joe", "JOE"], &["joey", "xjoe", ""]),
            ("jo?@*.example", &["joe@a.example", "jo?@a.b.example"], &["jo@a.example", "joe@example"]),
            ("*a*b*", &["ab", "xaxbx"], &["ba", "a"]),
            ("*", &["", "joe"], &[]),
            ("MÜLLER", &["müller"], &["muller"]),
            ("kiwi", &["KIWI"], &["\u{212a}iwi"]),
        ] {
            let pattern = AccountPattern::parse(pattern).unwrap();
            assert!(covered.iter().all(|account| pattern.covers(account)), "{pattern:?} {covered:?}");
            assert!(!others.iter().any(|account| pattern.covers(account)), "{pattern:?} {others:?}");
        }
    }

    #[test]
    fn an_account_that_nobody_could_read_is_hidden_where_any_is_and_exempt_nowhere() {
        let mut privacy = PrivacySettings::default();
        assert!(!privacy.pseudonymizes(None) && !privacy.pseudonymizes(Some("joe")));
        privacy.pseudonymize_accounts = of(&["anna"]);
        assert!(privacy.pseudonymizes(None) && privacy.pseudonymizes(Some("anna")));
        assert!(!privacy.pseudonymizes(Some("joe")) && !privacy.exempts("anna"));
    }

    proptest::proptest! {
        /// The time is bounded by the product of the lengths, and each text is covered by itself with stars between.
        #[test]
        fn a_text_with_stars_anywhere_covers_the_text(text in "[a-z@.]{1,40}", stars in proptest::collection::vec(0..40usize, 0..6)) {
            let mut pattern: Vec<char> = text.chars().collect();
            for star in stars {
                pattern.insert(star.min(pattern.len()), '*');
            }
            let pattern = AccountPattern(pattern.into_iter().collect());
            proptest::prop_assert!(pattern.covers(&text));
            let longer = text + "#";
            proptest::prop_assert!(pattern.0.ends_with('*') || !pattern.covers(&longer));
        }
    }
}
