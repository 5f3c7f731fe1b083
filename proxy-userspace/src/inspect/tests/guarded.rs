//! The account guard: which logins reach the server, and which messages the client.

use super::*;
use crate::config::{Config, parse};
use crate::guard::{Guard, SessionGuard};

const TENANT: &str = "[[guard.tenant]]\ndomains = [\"example.com\"]\nservers = [\"198.51.100.0/24\"]\n";
const GUESSING: &str = "[guard]\nfailed_logins = 3\n";
const BODIES: &str = "[guard]\nbodies_per_hour = 10\n";
const FOREIGN: &str = "NO [AUTHENTICATIONFAILED] The mail gateway lets only accounts of certain domains log in at this server\r\n";
const UNREADABLE: &str = "NO [AUTHENTICATIONFAILED] The mail gateway cannot read the account of this login, and lets only \
                          certain accounts log in at this server: use PLAIN or LOGIN\r\n";
const GUESSED: &str = "NO [AUTHENTICATIONFAILED] Too many logins have failed; try again in some minutes\r\n";

/// `\0joe@example.com\0secret`, and the same of mallory@other.example.
const JOE: &str = "AGpvZUBleGFtcGxlLmNvbQBzZWNyZXQ=";
const MALLORY: &str = "AG1hbGxvcnlAb3RoZXIuZXhhbXBsZQBzZWNyZXQ=";
/// `mallory@other.example\0joe@example.com\0secret`, and the other way round.
const JOE_FOR_MALLORY: &str = "bWFsbG9yeUBvdGhlci5leGFtcGxlAGpvZUBleGFtcGxlLmNvbQBzZWNyZXQ=";
const MALLORY_FOR_JOE: &str = "am9lQGV4YW1wbGUuY29tAG1hbGxvcnlAb3RoZXIuZXhhbXBsZQBzZWNyZXQ=";

fn config(text: &str) -> Config {
    let file = format!(
        "[steering]\ningress = [\"lan0\"]\negress = [\"wan0\"]\n[certificates]\nauthority = {{ cert = \"a\", key = \"b\" }}\n\
         {text}"
    );
    parse(&file, std::path::Path::new("/etc/postern/postern.toml")).unwrap()
}

/// Sessions of clients under one guard.
struct Lab(Arc<Guard>, Config);

impl Lab {
    fn new(text: &str) -> Self {
        Self(Arc::new(Guard::new().unwrap()), config(text))
    }

    fn of(&self, client: &str) -> Dialogue {
        let Self(guard, config) = self;
        Dialogue::guarded(|lines| {
            let peers = (client.parse().unwrap(), "198.51.100.1".parse().unwrap());
            SessionGuard::new(guard, &config.guard, peers, None, lines)
        })
    }
}

fn alone(text: &str) -> Dialogue {
    Lab::new(text).of("192.0.2.1")
}

impl Dialogue {
    /// The delay of so many seconds, which began behind `since`, is over: what the client is told.
    fn after_delay(&mut self, since: Instant, seconds: u64) -> String {
        assert_eq!(self.client_got(), "", "it is told later");
        let (due, delay) = (self.session.wake_at().expect("a delay"), Duration::from_secs(seconds));
        assert!((since + delay..=Instant::now() + delay).contains(&due), "{seconds} s");
        self.tick(due - Duration::from_millis(1));
        assert_eq!(self.client_got(), "");
        self.tick(due).settle().unwrap();
        self.client_got()
    }

    /// A login that the server refuses.
    fn fails(&mut self, login: &str) {
        self.client(&format!("f {login}\r\n"));
        assert_ne!(self.server_got(), "", "the server is asked");
        self.server("f NO [AUTHENTICATIONFAILED] no\r\n");
        self.client_got();
    }
}

#[test]
fn a_foreign_account_is_refused_before_the_server_sees_anything_of_its_login() {
    let since = Instant::now();
    for login in [
        "LOGIN mallory@other.example secret",
        "login \"mallory@other.example\" \"secret\"",
        "LOGIN \"MALLORY@OTHER.EXAMPLE\" secret",
        "LOGIN {21+}\r\nmallory@other.example {6+}\r\nsecret",
        "LOGIN mallory secret",
        "LOGIN \"joe@other.example@example.com\" secret",
        "LOGIN \"OTHER\\\\joe@example.com\" secret",
        &format!("AUTHENTICATE PLAIN {MALLORY}"),
        &format!("AUTHENTICATE plain {JOE_FOR_MALLORY}"),
        &format!("AUTHENTICATE PLAIN {MALLORY_FOR_JOE}"),
        // user=mallory@other.example^Aauth=Bearer t^A^A
        "AUTHENTICATE XOAUTH2 dXNlcj1tYWxsb3J5QG90aGVyLmV4YW1wbGUBYXV0aD1CZWFyZXIgdAEB",
    ] {
        let mut dialogue = alone(TENANT);
        dialogue.client(&format!("a {login}\r\nb NOOP\r\n"));
        assert_eq!(dialogue.server_got(), "", "{login}");
        let told = dialogue.after_delay(since, 1);
        assert_eq!(told, format!("a {FOREIGN}"), "{login}");
        // What came behind it goes on.
        assert_eq!(dialogue.server_got(), "b NOOP\r\n", "{login}");
        let [line] = &dialogue.verdicts()[..] else { panic!("one line: {login}") };
        assert_eq!(line["event.action"], "guard_refused");
        assert_eq!((&line["rule.name"], &line["postern.guard.refused"]), (&"guard.tenant".into(), &1.into()));
        assert!(!line.to_string().contains("secret"));
    }
}

#[test]
fn an_account_whose_name_cannot_be_read_is_refused_where_only_some_log_in() {
    let since = Instant::now();
    for login in [
        "AUTHENTICATE NTLM",
        "AUTHENTICATE NTLM TlRMTVNTUAABAAAA",
        // n,,^Aauth=Bearer t^A^A
        "AUTHENTICATE OAUTHBEARER biwsAWF1dGg9QmVhcmVyIHQBAQ==",
        "AUTHENTICATE PLAIN am9lQGV4YW1wbGUuY29t",
        "AUTHENTICATE PLAIN AGpvZUBleGFtcGxlLmNvbQBzZWNyZXQ",
        // The server asks first: one that does not know of an initial response asks for the account again.
        "AUTHENTICATE LOGIN am9lQGV4YW1wbGUuY29t",
        "AUTHENTICATE LOGIN =",
        "AUTHENTICATE CRAM-MD5 am9lQGV4YW1wbGUuY29tIDAxMjM0NTY3ODlhYmNkZWYwMTIzNDU2Nzg5YWJjZGVm",
    ] {
        let mut dialogue = alone(TENANT);
        dialogue.client(&format!("a {login}\r\n"));
        assert_eq!(dialogue.server_got(), "", "{login}");
        assert_eq!(dialogue.after_delay(since, 1), format!("a {UNREADABLE}"), "{login}");
        assert!(alone(GUESSING).client(&format!("a {login}\r\n")).server_got().contains("AUTHENTICATE"));
    }
}

#[test]
fn accounts_of_the_domains_log_in_by_each_mechanism_as_before() {
    for (login, turns) in [
        ("LOGIN Joe@Example.COM secret", &[][..]),
        (&format!("AUTHENTICATE PLAIN {JOE}"), &[]),
        ("AUTHENTICATE PLAIN", &[JOE]),
        ("AUTHENTICATE PLAIN =", &[JOE]),
        ("AUTHENTICATE LOGIN", &["am9lQGV4YW1wbGUuY29t", "c2VjcmV0"]),
        // n,,n=joe@example.com,r=x, the proof, and what ends the dialogue.
        ("AUTHENTICATE SCRAM-SHA-256", &["biwsbj1qb2VAZXhhbXBsZS5jb20scj14", "Yz1iaXdz", ""]),
        // What is said to an error, which some servers show before they change their minds.
        ("AUTHENTICATE XOAUTH2", &["dXNlcj1qb2VAZXhhbXBsZS5jb20BYXV0aD1CZWFyZXIgdAEB", ""]),
        ("AUTHENTICATE OAUTHBEARER", &["bixhPWpvZUBleGFtcGxlLmNvbSwBYXV0aD1CZWFyZXIgdAEB", "AQ=="]),
        ("AUTHENTICATE OAUTHBEARER", &["bixhPWpvZUBleGFtcGxlLmNvbSwBYXV0aD1CZWFyZXIgdAEB"]),
        // joe@example.com and a digest
        ("AUTHENTICATE CRAM-MD5", &["am9lQGV4YW1wbGUuY29tIDAxMjM0NTY3ODlhYmNkZWYwMTIzNDU2Nzg5YWJjZGVm"]),
    ] {
        let mut dialogue = alone(TENANT);
        dialogue.server("* OK [CAPABILITY IMAP4rev1] hi\r\n").client_got();
        dialogue.client(&format!("a {login}\r\n"));
        assert_eq!(dialogue.server_got(), format!("a {login}\r\n"));
        for turn in turns {
            assert_eq!(dialogue.server("+ Z28=\r\n").client_got(), "+ Z28=\r\n");
            assert_eq!(
                dialogue.client(&format!("{turn}\r\n")).server_got(),
                format!("{turn}\r\n"),
                "{login}"
            );
        }
        assert_eq!(dialogue.server("a OK in\r\n").client_got(), "a OK in\r\n");
        assert_eq!(dialogue.client("b SELECT INBOX\r\n").server_got(), "b SELECT INBOX\r\n", "{login}");
        assert_eq!(dialogue.verdicts().len(), 0);
    }
}

#[test]
fn a_dialogue_in_which_a_foreign_account_comes_is_cancelled_at_the_server() {
    let since = Instant::now();
    for (mechanism, turn) in [
        ("PLAIN", MALLORY),
        ("PLAIN", JOE_FOR_MALLORY),
        ("LOGIN", "bWFsbG9yeUBvdGhlci5leGFtcGxl"),
        ("PLAIN", "am9l"),
        // n,,n=mallory@other.example,r=x
        ("SCRAM-SHA-256", "biwsbj1tYWxsb3J5QG90aGVyLmV4YW1wbGUscj14"),
    ] {
        let mut dialogue = alone(TENANT);
        dialogue.server("* OK [CAPABILITY IMAP4rev1] hi\r\n").client_got();
        dialogue.client(&format!("a AUTHENTICATE {mechanism}\r\n")).server("+ \r\n");
        dialogue.server_got();
        dialogue.client_got();
        assert_eq!(dialogue.client(&format!("{turn}\r\nb NOOP\r\n")).server_got(), "*\r\n", "{mechanism}");
        // A server that goes on asking is not answered, and the client hears nothing of it.
        assert_eq!(dialogue.server("+ once more\r\n").client_got(), "");
        dialogue.server("a OK in after all\r\n");
        let told = dialogue.after_delay(since, 1);
        assert!(told == format!("a {FOREIGN}") || told == format!("a {UNREADABLE}"), "{told}");
        assert_eq!(dialogue.server_got(), "b NOOP\r\n");
        let got = dialogue.server("b OK\r\n").client("c SELECT INBOX\r\n").client_got();
        assert!(got.contains("c NO Log in first"), "it is logged in at the server, and not here: {got}");
        assert_eq!(dialogue.server_got(), "");
    }
}

/// A server that refuses the first answer inside the dialogue, and takes another: nobody has read whose it is.
#[test]
fn answers_behind_the_one_that_names_the_account_are_no_more_than_the_mechanism_has() {
    const OAUTH: &str = "bixhPWpvZUBleGFtcGxlLmNvbSwBYXV0aD1CZWFyZXIgdAEB";
    let since = Instant::now();
    for (login, turns, surplus) in [
        (format!("PLAIN {JOE}"), &[][..], MALLORY),
        ("PLAIN".to_owned(), &[JOE][..], MALLORY),
        ("LOGIN".to_owned(), &["am9lQGV4YW1wbGUuY29t", "eA=="], "bWFsbG9yeUBvdGhlci5leGFtcGxl"),
        ("OAUTHBEARER".to_owned(), &[OAUTH, OAUTH], OAUTH),
        (format!("OAUTHBEARER {OAUTH}"), &["AQ=="], "AQ=="),
        ("SCRAM-SHA-1".to_owned(), &["biwsbj1qb2VAZXhhbXBsZS5jb20scj14", "Yz1iaXdz", ""], ""),
        (
            "CRAM-MD5".to_owned(),
            &["am9lQGV4YW1wbGUuY29tIDAxMjM0NTY3ODlhYmNkZWYwMTIzNDU2Nzg5YWJjZGVm"],
            "eA==",
        ),
    ] {
        let mut dialogue = alone(TENANT);
        dialogue.server("* OK [CAPABILITY IMAP4rev1] hi\r\n").client_got();
        dialogue.client(&format!("a AUTHENTICATE {login}\r\n"));
        for turn in turns {
            dialogue.server("+ \r\n").client(&format!("{turn}\r\n"));
        }
        dialogue.server_got();
        dialogue.server("+ \r\n").client_got();
        assert_eq!(dialogue.client(&format!("{surplus}\r\n")).server_got(), "*\r\n", "{login}");
        let told = dialogue.server("a OK in\r\n").after_delay(since, 1);
        assert!(told.starts_with("a NO [AUTHENTICATIONFAILED] The mail gateway has ended"), "{told}");
        dialogue.client("b SELECT INBOX\r\n");
        assert_eq!(dialogue.server_got(), "", "nobody is logged in: {login}");
        let lines = dialogue.verdicts();
        assert_eq!((lines.len(), &lines[0]["rule.name"]), (1, &"guard.tenant".into()));
    }
}

/// As Python's imaplib does, whose callback knows nothing but the token.
#[test]
fn a_client_that_sends_its_token_again_ends_the_dialogue_and_hears_why_the_server_refuses() {
    const OAUTH: &str = "bixhPWpvZUBleGFtcGxlLmNvbSwBYXV0aD1CZWFyZXIgdAEB";
    const XOAUTH2: &str = "dXNlcj1qb2VAZXhhbXBsZS5jb20BYXV0aD1CZWFyZXIgdAEB";
    for (mechanism, token, end) in [("OAUTHBEARER", OAUTH, "AQ==\r\n"), ("XOAUTH2", XOAUTH2, "\r\n")] {
        let mut dialogue = alone(TENANT);
        dialogue.server("* OK [CAPABILITY IMAP4rev1] hi\r\n").client_got();
        dialogue
            .client(&format!("a AUTHENTICATE {mechanism}\r\n"))
            .server("+ \r\n")
            .client(&format!("{token}\r\n"));
        dialogue.server_got();
        dialogue.server("+ eyJzdGF0dXMiOiI0MDEifQ==\r\n").client_got();
        assert_eq!(dialogue.client(&format!("{token}\r\n")).server_got(), end, "{mechanism}");
        assert_eq!(
            dialogue.server("a NO [AUTHENTICATIONFAILED] expired\r\n").client_got(),
            "a NO [AUTHENTICATIONFAILED] expired\r\n"
        );
        assert!(dialogue.verdicts().is_empty(), "an honest client with an old token");
    }
}

/// A server takes an empty answer for the account, and asks for the password next.
#[test]
fn a_password_behind_an_empty_account_is_never_taken_for_an_account() {
    for (login, turns) in
        [("LOGIN", &["", "c2VjcmV0"][..]), ("LOGIN", &["=", "c2VjcmV0"]), ("LOGIN =", &["c2VjcmV0"])]
    {
        let lab = Lab::new(GUESSING);
        // What fails counts for the client, whose account is unknown: 15 failures.
        for _ in 0..15 {
            let mut dialogue = lab.of("192.0.2.1");
            dialogue.client(&format!("a AUTHENTICATE {login}\r\n"));
            for turn in turns {
                dialogue.server("+ \r\n").client(&format!("{turn}\r\n"));
            }
            assert!(dialogue.server_got().ends_with("c2VjcmV0\r\n"), "{login}");
            dialogue.server("a NO no\r\n");
            assert!(!format!("{:?}", dialogue.verdicts()).contains("secret"));
        }
        let mut dialogue = lab.of("192.0.2.1");
        dialogue.client(&format!("a AUTHENTICATE {login}\r\n"));
        for turn in turns {
            dialogue.server("+ \r\n").client(&format!("{turn}\r\n"));
        }
        let lines = dialogue.verdicts();
        assert!(lines.len() == 1 && lines[0]["user.name"].is_null(), "{lines:?}");
    }
}

/// One session would fill the tables, and push out what was counted of others.
#[test]
fn a_session_logs_in_once() {
    let mut dialogue = alone(GUESSING);
    dialogue.client("a LOGIN joe x\r\n").server("a OK in\r\n").client_got();
    dialogue.server_got();
    for login in ["LOGIN anna x", "AUTHENTICATE PLAIN", "login {4+}\r\nanna x"] {
        dialogue.client(&format!("b {login}\r\n"));
        assert!(dialogue.client_got().starts_with("b BAD This session is logged in already"), "{login}");
        assert_eq!(dialogue.server_got(), "", "{login}");
    }
    assert_eq!(dialogue.client("c NOOP\r\n").server_got(), "c NOOP\r\n");
}

#[test]
fn a_server_that_leaves_before_its_answer_makes_nobody_wait_and_a_client_does() {
    let since = Instant::now();
    let lab = Lab::new(GUESSING);
    let begun = || {
        let mut dialogue = lab.of("192.0.2.1");
        dialogue.client("a LOGIN joe x\r\n");
        assert_ne!(dialogue.server_got(), "");
        dialogue
    };
    for _ in 0..4 {
        begun().server("* BYE too busy\r\n").client_got();
        begun().session.ended(Side::Upstream, StreamEnd::Truncated).unwrap();
    }
    // A server that says why, and then answers, has answered.
    begun().server("* BYE no\r\na NO no\r\n").client_got();
    for _ in 0..2 {
        let mut dialogue = begun();
        dialogue.session.ended(Side::Downstream, StreamEnd::Closed).unwrap();
        dialogue.session.ended(Side::Upstream, StreamEnd::Closed).unwrap();
    }
    let mut refused = lab.of("192.0.2.1");
    refused.client("a LOGIN joe x\r\n");
    assert_eq!(
        (refused.server_got(), refused.after_delay(since, 1)),
        (String::new(), format!("a {GUESSED}"))
    );
}

#[test]
fn a_login_that_waits_for_others_is_refused_after_15_seconds() {
    let lab = Lab::new(GUESSING);
    let held: Vec<Dialogue> = (0..3)
        .map(|_| {
            let mut dialogue = lab.of("192.0.2.1");
            dialogue.client("a LOGIN joe x\r\n");
            dialogue
        })
        .collect();
    let (mut waits, mut asked) = (lab.of("192.0.2.1"), 0);
    waits.client("a LOGIN joe x\r\nb NOOP\r\n");
    while let Some(due) = waits.session.wake_at() {
        assert_eq!(waits.client_got(), "");
        asked += 1;
        assert!(asked <= 62, "it waits without end");
        waits.tick(due).settle().unwrap();
    }
    assert!(asked > 59, "{asked}");
    let told = waits.client_got();
    assert!(told.starts_with("a NO [UNAVAILABLE] Other logins wait"), "{told}");
    assert_eq!(waits.server_got(), "b NOOP\r\n");
    drop(held);
}

#[test]
fn a_dialogue_that_ends_before_the_secret_is_no_failure() {
    let mut dialogue = alone(GUESSING);
    dialogue.server("* OK [CAPABILITY IMAP4rev1] hi\r\n").client_got();
    for _ in 0..4 {
        for (login, turns) in [
            ("AUTHENTICATE LOGIN", &["am9l", "*"][..]),
            ("AUTHENTICATE LOGIN am9l", &[]),
            ("AUTHENTICATE SCRAM-SHA-1", &["biwsbj1qb2Uscj14"]),
        ] {
            dialogue.client(&format!("a {login}\r\n"));
            for turn in turns {
                dialogue.server("+ \r\n").client(&format!("{turn}\r\n"));
            }
            assert_ne!(dialogue.server_got(), "", "{login}");
            dialogue.server("a NO no\r\n").client_got();
        }
    }
    for _ in 0..3 {
        dialogue.client("a AUTHENTICATE LOGIN\r\n").server("+ \r\n").client("am9l\r\n").server("+ \r\n");
        dialogue.client("eA==\r\n").server("a NO no\r\n").client_got();
    }
    dialogue.server_got();
    dialogue.client("b LOGIN joe x\r\n");
    assert_eq!(dialogue.server_got(), "", "with a password they are");
}

/// Addresses of one farm are one server, and so is each name that its certificate has.
#[test]
fn failures_count_together_at_all_addresses_of_a_server_that_proves_its_name() {
    let Lab(guard, config) = Lab::new(GUESSING);
    let at = |client: &str, server: &str, proven: Option<&[String]>| {
        Dialogue::guarded(|lines| {
            let peers = (client.parse().unwrap(), server.parse().unwrap());
            SessionGuard::new(&guard, &config.guard, peers, proven, lines)
        })
    };
    let names = |names: [&str; 2]| names.map(str::to_owned);
    let (farm, other) = (names(["b.example", "A.example"]), names(["c.example", "d.example"]));
    for server in ["198.51.100.1", "198.51.100.2", "2001:db8::3"] {
        at("192.0.2.1", server, Some(&farm)).fails("LOGIN joe x");
    }
    let asks = |server: &str, proven: Option<&[String]>| {
        let mut dialogue = at("192.0.2.1", server, proven);
        dialogue.client("a LOGIN joe x\r\n");
        !dialogue.server_got().is_empty()
    };
    assert!(!asks("198.51.100.4", Some(&names(["a.example", "b.example"]))));
    assert!(asks("198.51.100.1", Some(&other)), "another server");
    assert!(asks("198.51.100.1", None), "one that proves no name is its address");
}

/// The client's limit is for one server: a server of the attacker's own, or of a neighbour's, makes nobody wait elsewhere.
#[test]
fn failures_of_a_client_at_another_server_count_for_nothing() {
    let Lab(guard, config) = Lab::new(GUESSING);
    let at = |server: &str| {
        Dialogue::guarded(|lines| {
            let peers = ("192.0.2.1".parse().unwrap(), server.parse().unwrap());
            SessionGuard::new(&guard, &config.guard, peers, None, lines)
        })
    };
    (0..15).for_each(|number| at("198.51.100.1").fails(&format!("LOGIN joe{number} x")));
    assert_eq!(at("198.51.100.1").client("a LOGIN anna x\r\n").server_got(), "");
    assert_ne!(at("198.51.100.2").client("a LOGIN anna x\r\n").server_got(), "");
}

#[test]
fn who_gives_up_a_login_may_begin_another() {
    let mut dialogue = alone(&format!("{TENANT}{GUESSING}"));
    dialogue.client("a AUTHENTICATE PLAIN\r\n").server("+ \r\n").server_got();
    assert_eq!(dialogue.client("*\r\n").server_got(), "*\r\n");
    dialogue.server("a BAD cancelled\r\n").client_got();
    assert_eq!(
        dialogue.client("b LOGIN joe@example.com x\r\n").server_got(),
        "b LOGIN joe@example.com x\r\n"
    );
    assert_eq!(dialogue.server("b OK in\r\n").client_got(), "b OK in\r\n");
}

/// A server that takes the client for logged in by itself, or by something that nobody has read.
#[test]
fn nothing_passes_before_a_login_where_only_some_accounts_log_in() {
    let mut dialogue = alone(TENANT);
    dialogue.server("* PREAUTH welcome\r\n").client_got();
    let early = "b CAPABILITY\r\nc ID NIL\r\nd NOOP\r\n";
    assert_eq!(dialogue.client(early).server_got(), early);
    for command in [
        "SELECT INBOX",
        "LIST \"\" *",
        "FETCH 1 BODY[]",
        "APPEND INBOX {4+}\r\nmail",
        "IDLE",
        "ENABLE CONDSTORE",
    ] {
        dialogue.client(&format!("e {command}\r\n"));
        let got = dialogue.client_got();
        assert!(got.starts_with("e NO Log in first"), "{command}: {got}");
    }
    dialogue.client("f LOGIN joe@example.com x\r\n");
    assert_eq!(dialogue.server_got(), "", "it waits for the answers to b, c and d");
    dialogue.server("b OK\r\nc OK\r\nd OK\r\n");
    assert_eq!(dialogue.server_got(), "f LOGIN joe@example.com x\r\n");
    dialogue.server("f BAD logged in already\r\n").client_got();
    dialogue.client("g SELECT INBOX\r\n");
    assert!(dialogue.client_got().starts_with("g NO Log in first"));
    let mut dialogue = alone(GUESSING);
    assert_eq!(
        dialogue.server("* PREAUTH x\r\n").client("b SELECT INBOX\r\n").server_got(),
        "b SELECT INBOX\r\n"
    );
}

#[test]
fn guessing_is_answered_later_and_later_without_the_server() {
    let since = Instant::now();
    let lab = Lab::new(GUESSING);
    let mut dialogue = lab.of("192.0.2.1");
    for login in ["LOGIN joe a", "LOGIN \"JOE\" b", "LOGIN {3+}\r\njoe {1+}\r\nc"] {
        dialogue.fails(login);
    }
    for (seconds, login) in
        [(1, "LOGIN joe d"), (2, "LOGIN Joe e"), (4, "AUTHENTICATE PLAIN AGpvZQBm"), (8, "LOGIN joe g")]
    {
        dialogue.client(&format!("g {login}\r\n"));
        assert_eq!(dialogue.server_got(), "", "{login}");
        assert_eq!(dialogue.after_delay(since, seconds), format!("g {GUESSED}"));
    }
    let lines = dialogue.verdicts();
    let counts: Vec<_> = lines.iter().map(|line| line["postern.guard.refused"].as_u64().unwrap()).collect();
    assert_eq!(counts, [1, 2, 4], "a flood makes few lines");
    assert!(lines.iter().all(|line| line["rule.name"] == "guard.guessing" && line["user.name"].is_string()));
    assert_eq!(lab.0.numbers().refused_guessing, 4);
    // Another session of the client is no other client, and another client is.
    let mut again = lab.of("192.0.2.1");
    assert_eq!(again.client("h LOGIN joe right\r\n").server_got(), "");
    let mut other = lab.of("192.0.2.2");
    assert_eq!(other.client("i LOGIN joe right\r\n").server_got(), "i LOGIN joe right\r\n");
    assert_eq!(other.server("i OK in\r\n").client_got(), "i OK in\r\n");
}

#[test]
fn logins_that_come_at_once_are_tried_one_by_one() {
    let since = Instant::now();
    let mut dialogue = alone(GUESSING);
    let many: String = (0..20).map(|number| format!("a{number} LOGIN joe {number}\r\n")).collect();
    dialogue.client(&many);
    for number in 0..3 {
        assert_eq!(dialogue.server_got(), format!("a{number} LOGIN joe {number}\r\n"));
        dialogue.server(&format!("a{number} NO no\r\n"));
    }
    assert_eq!(dialogue.client_got(), "a0 NO no\r\na1 NO no\r\na2 NO no\r\n");
    assert_eq!(dialogue.server_got(), "");
    assert_eq!(dialogue.after_delay(since, 1), format!("a3 {GUESSED}"));
    // The next one has its own delay.
    assert_eq!(dialogue.after_delay(since, 2), format!("a4 {GUESSED}"));
}

#[test]
fn a_dialogue_is_cancelled_and_its_answer_delayed_where_too_many_failed() {
    let since = Instant::now();
    let mut dialogue = alone(GUESSING);
    (0..3).for_each(|_| dialogue.fails("LOGIN joe x"));
    dialogue.client("a AUTHENTICATE PLAIN\r\n").server("+ \r\n");
    dialogue.client_got();
    dialogue.server_got();
    assert_eq!(dialogue.client("AGpvZQBm\r\n").server_got(), "*\r\n");
    assert_eq!(dialogue.server("a BAD cancelled\r\n").after_delay(since, 1), format!("a {GUESSED}"));
}

#[test]
fn sessions_that_guess_at_once_wait_for_the_first_answers() {
    let since = Instant::now();
    let lab = Lab::new(GUESSING);
    let mut sessions: Vec<Dialogue> = (0..4).map(|_| lab.of("192.0.2.1")).collect();
    for session in &mut sessions {
        session.client("a LOGIN joe x\r\n");
    }
    let asked: Vec<bool> = sessions.iter_mut().map(|session| !session.server_got().is_empty()).collect();
    assert_eq!(asked, [true, true, true, false]);
    let mut last = sessions.pop().unwrap();
    let due = last.session.wake_at().expect("it is asked again");
    last.tick(due).settle().unwrap();
    assert_eq!((last.server_got(), last.client_got()), (String::new(), String::new()), "still");
    sessions[0].server("a OK in\r\n");
    let due = last.session.wake_at().unwrap();
    last.tick(due).settle().unwrap();
    assert_eq!(last.server_got(), "a LOGIN joe x\r\n");
    // Who leaves without an answer has failed.
    drop((sessions, last));
    let mut next = lab.of("192.0.2.1");
    next.client("a LOGIN joe x\r\n");
    assert_eq!((next.server_got(), next.after_delay(since, 1)), (String::new(), format!("a {GUESSED}")));
}

#[test]
fn a_server_that_cannot_look_at_passwords_makes_nobody_wait() {
    let mut dialogue = alone(GUESSING);
    for _ in 0..30 {
        dialogue.client("a LOGIN joe x\r\n");
        assert_ne!(dialogue.server_got(), "");
        dialogue.server("a NO [UNAVAILABLE] the directory is down\r\n").client_got();
    }
}

#[test]
fn a_session_that_waits_is_not_over_and_what_comes_behind_waits_too() {
    let since = Instant::now();
    let mut dialogue = alone(TENANT);
    dialogue.client("a LOGIN x y\r\nb NOOP\r\n");
    dialogue.session.ended(Side::Downstream, StreamEnd::Closed).unwrap();
    assert!(!dialogue.session.is_drained(Side::Upstream) && !dialogue.session.is_drained(Side::Downstream));
    dialogue.after_delay(since, 1);
    assert!(dialogue.session.is_drained(Side::Downstream));
    assert_eq!(dialogue.server_got(), "b NOOP\r\n");
}

#[test]
fn over_the_hours_share_a_fetch_of_another_message_is_answered_no_and_what_was_fetched_stays_there() {
    let lab = Lab::new(BODIES);
    let login = |client: &str, account: &str| {
        let mut dialogue = lab.of(client);
        dialogue.client(&format!("a LOGIN {account} x\r\nb SELECT INBOX\r\n")).server("a OK in\r\n");
        dialogue.server("* OK [UIDVALIDITY 5] x\r\nb OK done\r\n");
        dialogue.client_got();
        dialogue.server_got();
        dialogue
    };
    let mail =
        |uid: u32, item: &str| format!("* {uid} FETCH (UID {uid} {item} {})\r\n", literal("hello\r\n"));
    let no = "c NO [LIMIT] This account has fetched more mail than the mail gateway lets through in an hour; try again \
              later\r\n";
    let mut first = login("192.0.2.1", "joe");
    first.client("c UID FETCH 1:12 (BODY.PEEK[])\r\n");
    let all: String = (1..=12).map(|uid| mail(uid, "BODY[]")).collect();
    first.server(&format!("{all}c OK done\r\n"));
    let ten: String = (1..=10).map(|uid| mail(uid, "BODY[]")).collect();
    assert_eq!(first.client_got(), format!("{ten}{no}"));
    let fetch = |dialogue: &mut Dialogue, uid: u32, item: &str| {
        dialogue.client(&format!("c UID FETCH {uid} (BODY.PEEK{})\r\n", item.trim_start_matches("BODY")));
        dialogue.server(&format!("{}c OK done\r\n", mail(uid, item))).client_got()
    };
    // All sessions of the account count together, on each client; others have their own share.
    let mut second = login("192.0.2.2", "JOE");
    assert!(fetch(&mut second, 7, "BODY[1]").contains("hello"), "of a message that was fetched");
    assert_eq!(fetch(&mut second, 12, "BODY[TEXT]"), no);
    assert!(fetch(&mut login("192.0.2.1", "anna"), 12, "BODY[]").contains("hello"));
    // Known mail, which streams, too.
    assert!(fetch(&mut first, 3, "BODY[]").contains("hello"));
    let headers = "* 12 FETCH (UID 12 BODY[HEADER] {12}\r\nSubject: x\r\n)\r\n";
    first.client("c UID FETCH 12 (BODY.PEEK[HEADER])\r\n");
    assert!(first.server(&format!("{headers}c OK done\r\n")).client_got().contains("Subject: x"));
    let lines = [first.verdicts(), second.verdicts()].concat();
    let told: Vec<_> = lines.iter().filter(|line| line["event.action"] == "guard_refused").collect();
    assert_eq!(told.len(), 1, "told once: {told:#?}");
    assert_eq!((&told[0]["rule.name"], &told[0]["user.name"]), (&"guard.bodies".into(), &"joe".into()));
    assert_eq!(lab.0.numbers().refused_bodies, 3);
}

/// Octets that come in other pieces give the same to both sides.
#[test]
fn every_split_of_guarded_logins_gives_the_same() {
    let text = format!(
        "a LOGIN mallory@other.example x\r\nb AUTHENTICATE PLAIN {MALLORY}\r\nc LOGIN {{15+}}\r\njoe@example.com {{1}}\r\nx\r\n\
         d SELECT INBOX\r\n"
    );
    let run = |cut: usize| {
        let mut dialogue = alone(TENANT);
        let (before, behind) = text.split_at(cut);
        for part in [before, behind].into_iter().filter(|part| !part.is_empty()) {
            dialogue.client(part);
        }
        let mut told = String::new();
        for _ in 0..2 {
            let due = dialogue.session.wake_at().expect("a delay");
            dialogue.tick(due).settle().unwrap();
        }
        told.push_str(&dialogue.server("+ go\r\n+ go\r\nc OK in\r\n").client_got());
        (told, dialogue.server_got())
    };
    let whole = run(text.len());
    assert_eq!(whole.1, "c LOGIN {15}\r\njoe@example.com {1}\r\nx\r\nd SELECT INBOX\r\n");
    for cut in 1..text.len() {
        assert_eq!(run(cut), whole, "at {cut}");
    }
}
