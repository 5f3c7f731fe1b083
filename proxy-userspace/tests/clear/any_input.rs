use proptest::prelude::*;

use super::*;

/// Dialogues in which every kind of step and most faults occur.
const CLIENTS: [&str; 9] = [
    "a CAPABILITY\r\nb ID (\"name\" \"x\")\r\nc NOOP\r\nd STARTTLS\r\n",
    "a LOGIN {3+}\r\njoe {9+}\r\nHunter2Zq\r\nb AUTHENTICATE PLAIN =\r\nc LOGOUT\r\nd NOOP\r\n",
    "a STARTTLS \r\nb STARTTLS {0+}\r\n\r\nc starttls\r\nd NOOP\r\n",
    "a NOOP {8}\r\nb NOOP\r\nbad\r\n\r\n\nc NOOP\r\n",
    "GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    "a NOOP\r\n\u{16}\u{3}\u{1}",
    "a NOOP\r\nb LOGIN x \"\u{e9}\"\r\nc \u{e9}",
    "{8+}\r\nSTARTTLS\r\na NOOP\r\0",
    "a ID {9000+}\r\n",
];

/// What a server may send once STARTTLS was asked for.
const SERVERS: [&str; 6] = [
    "* CAPABILITY IMAP4rev1\r\nP1 OK go\r\n",
    "P1 NO [UNAVAILABLE] no\r\n* OK still here\r\n",
    "* OK [ALERT] {3}\r\nP1 BAD what\r\n* BYE\r\n",
    "P1 OK go\r\nP1 OK go\r\n",
    "* X {3}\r\nabcP1 OK\r\n",
    "* \u{e9}\r\nP1 OK\r\n",
];

#[test]
fn every_split_and_every_prefix_says_the_same() {
    for dialogue in CLIENTS.map(str::as_bytes) {
        for end in 0..=dialogue.len() {
            let prefix = &dialogue[..end];
            let whole = says(prefix);
            assert_eq!(client(&mut ClientDialogue::new(), prefix.chunks(1)), whole);
            for split in 0..=end {
                let (head, tail) = prefix.split_at(split);
                assert_eq!(client(&mut ClientDialogue::new(), [head, tail]), whole);
            }
            assert!(says(dialogue).output.starts_with(&whole.output), "a reply was taken back");
        }
    }
    let last = |steps: Result<Vec<ServerStep>, ServerFault>| steps.map(|steps| steps.last().copied());
    let greeting = &b"* OK hi\r\n"[..];
    for dialogue in SERVERS.map(str::as_bytes) {
        for end in 0..=dialogue.len() {
            let prefix = &dialogue[..end];
            let whole = last(server([greeting, prefix]));
            assert_eq!(last(server(greeting.chunks(1).chain(prefix.chunks(1)))), whole);
            for split in 0..=end {
                let (head, tail) = prefix.split_at(split);
                assert_eq!(last(server([greeting, head, tail])), whole);
            }
        }
    }
}

/// A stand-in for the driver of both sockets. Returns what the client sees, and everything that could be logged.
fn session(greeting: &[u8], answer: &[u8], mut commands: &[u8]) -> (Vec<u8>, String) {
    let (mut server, mut client) = (ServerDialogue::new(), ClientDialogue::new());
    match server.receive(greeting) {
        Ok(ServerStep::Ready) => {}
        Ok(step) => return (Vec::new(), format!("{step:?} {server:?}")),
        Err(fault) => return (bye("no"), format!("{fault} {fault:?} {server:?}")),
    }
    let mut seen = ClientDialogue::GREETING.to_vec();
    let mut log = String::new();
    while let Some(step) = client.step(&mut commands) {
        match step {
            ClientStep::Reply(reply) | ClientStep::End { reply, .. } => seen.extend(reply),
            ClientStep::Capability { .. } | ClientStep::HandOver { .. } => {
                unreachable!("clear text is refused")
            }
            ClientStep::StartTls => {
                assert!(server.starttls().is_some());
                let outcome = server.receive(answer);
                log += &format!("{outcome:?} {server:?}");
                if outcome == Ok(ServerStep::Accepted) {
                    seen.extend(client.starttls_ready().unwrap());
                    return (seen, log);
                }
                seen.extend(client.starttls_refused("no").unwrap());
            }
        }
        log += &format!("{client:?} {server:?}");
    }
    (seen, log)
}

/// `@` stands for words of the server's choice, `|` for the moment when STARTTLS is asked for.
const HOSTILE_SERVERS: [&str; 10] = [
    "* OK @\r\n|P1 OK @\r\n",
    "* OK [@] @\r\n* @\r\n|* @ @\r\nP1 NO [@] @\r\n",
    "* OK\r\n|P1 OK\r\n@",
    "* BYE @\r\n|",
    "* PREAUTH @\r\n|",
    "@\r\n|",
    "* @\r\n|",
    "* OK @\r\n|@",
    "* OK @\r\n|@ OK\r\n",
    "* OK @\r\n|P1 @\r\n",
];

proptest! {
    #[test]
    fn random_octets_in_random_reads_say_the_same(
        input in proptest::collection::vec(
            prop_oneof![Just(b'\r'), Just(b'\n'), Just(b' '), Just(b'{'), any::<u8>()], 0..300),
        cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..6),
    ) {
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(input.len() + 1)).collect();
        cuts.sort_unstable();
        let starts = std::iter::once(0).chain(cuts.iter().copied());
        let ends = cuts.iter().copied().chain([input.len()]);
        let reads: Vec<&[u8]> = starts.zip(ends).map(|(start, end)| &input[start..end]).collect();
        prop_assert_eq!(client(&mut ClientDialogue::new(), reads.clone()), says(&input));
        let greeting = &b"* OK hi\r\n"[..];
        prop_assert_eq!(server(std::iter::once(greeting).chain(reads)), server([greeting, &input]));
    }

    #[test]
    fn no_octet_of_the_server_reaches_the_client_or_a_log(
        words in "Zq7[a-zA-Z0-9=]{6,40}",
        template in prop::sample::select(HOSTILE_SERVERS.to_vec()),
    ) {
        let run = |words: &str| {
            let filled = template.replace('@', words);
            let (greeting, answer) = filled.split_once('|').unwrap();
            session(greeting.as_bytes(), answer.as_bytes(), b"a CAPABILITY\r\nb STARTTLS\r\n")
        };
        let (seen, log) = run(&words);
        prop_assert_eq!(seen, run("neutral").0);
        prop_assert!(!log.contains(&words), "{}", log);
    }

    #[test]
    fn no_argument_of_a_login_is_answered_or_logged(
        command in prop::sample::select(vec![
            "LOGIN joe @", "LOGIN @ x", "LOGIN \"joe\" \"@\"", "LOGIN {3+}\r\njoe {9+}\r\n@", "LOGIN joe {9}\r\n@",
            "AUTHENTICATE PLAIN @", "AUTHENTICATE PLAIN\r\n@", "AUTHENTICATE XOAUTH2\r\n@==",
        ]),
        end in prop::sample::select(vec!["\r\n", "\r\nb NOOP\r\n", "", "\r", "\n", "\0", "\r\nb STARTTLS\r\n"]),
    ) {
        let commands = format!("a {command}{end}").replace('@', SECRET);
        let (seen, log) = session(b"* OK\r\n", b"P1 OK\r\n", commands.as_bytes());
        prop_assert!(!String::from_utf8(seen).unwrap().contains(SECRET));
        prop_assert!(!log.contains(SECRET), "{}", log);
        let mut dialogue = ClientDialogue::new();
        let heard = client(&mut dialogue, [commands.as_bytes()]);
        let debug = format!("{heard:?} {dialogue:?}");
        prop_assert!(!debug.contains(SECRET));
    }
}
