//! Every split of recorded sessions gives the same octets to both sides.

use super::*;
use Side::{Downstream as C, Upstream as S};

/// What the peers say, in turns.
type Script = &'static [(Side, &'static str)];

const SCRIPTS: &[(&str, Script)] = &[
    (
        "mbsync and Dovecot",
        &[
            (S, "* OK [CAPABILITY IMAP4rev1 LITERAL+ AUTH=PLAIN] ready.\r\n"),
            (C, "1 LOGIN \"fred\" \"se\\\"cret\"\r\n"),
            (S, "1 OK [CAPABILITY IMAP4rev1 COMPRESS=DEFLATE] Logged in\r\n"),
            (C, "2 SELECT \"INBOX\"\r\n"),
            (S, "* FLAGS (\\Seen)\r\n* 2 EXISTS\r\n* OK [UIDVALIDITY 5] x\r\n2 OK [READ-WRITE] done\r\n"),
            (C, "3 UID FETCH 5 (BODY.PEEK[])\r\n"),
            (
                S,
                "* 1 FETCH (UID 5 BODY[] {22}\r\nSubject: x\r\n\r\n)\r\n{3}\r\n)\r\n3 OK Fetch completed.\r\n",
            ),
            (C, "4 APPEND \"Sent\" (\\Seen) {6}\r\n"),
            (C, "a\r\n\r\nb\r\n"),
            (S, "+ OK\r\n4 OK [APPENDUID 5 6] done\r\n"),
        ],
    ),
    (
        "K-9 and Cyrus",
        &[
            (C, "9 UID FETCH 2,1 (UID BODY.PEEK[]<0.4>)\r\nz NOOP\r\n"),
            (
                S,
                "* 1 FETCH (FLAGS (\\Seen) UID 1 BODY[] \"a\\\\\\\"bcd\")\r\n* 2 FETCH (FLAGS ())\r\n* 2 FETCH (UID 2 BODY[] {0}\r\n)\r\n9 OK x\r\n",
            ),
            (S, "z OK x\r\n"),
            (C, "12 UID FETCH 2 (UID BODY.PEEK[2.MIME] BODY.PEEK[2]<1.2>)\r\n"),
            (
                S,
                "* 2 FETCH (UID 2 BODY[2.MIME] {2}\r\n\r\n BODY[2] {4}\r\nabcd BODYSTRUCTURE (\"a\" \"b\" NIL NIL NIL \"7bit\" 4))\r\n12 OK x\r\n",
            ),
            (C, "18 IDLE\r\n"),
            (S, "+ idling\r\n* 3 EXISTS\r\n"),
            (C, "DONE\n"),
            (S, "18 OK x\r\n"),
        ],
    ),
    (
        "Thunderbird and Exchange",
        &[
            (C, "2 authenticate PLAIN\r\n"),
            (S, "+\r\n"),
            (C, "AGZyZWQAc2VjcmV0\r\n"),
            (S, "2 OK in\r\n"),
            (C, "12 UID fetch 6 (UID BODY.PEEK[]<0.3>)\r\n"),
            (S, "* 1 FETCH (UID 6 BODY[] {5}\r\nhello)\r\n12 OK x\r\n"),
            (C, "13 UID fetch 6 (UID BODY.PEEK[]<3.3>)\r\n"),
            (S, "* 1 FETCH (UID 6 BODY[]<0> {1}\r\nh)\r\n13 OK x\r\n"),
            (C, "14 UID fetch 6 (UID BODY.PEEK[]<3.3>)\r\n"),
            (S, "* 1 FETCH (UID 6 BODY[]<0> {1}\r\nx)\r\n14 OK x\r\n"),
            (S, "* 1 FETCH (BODY[] {2}\r\nxy UID 6)\r\n14 OK x\r\n"),
            (C, "16 append \"Sent\" (\\Seen) {3+}\r\nx\n\n\r\n17 XYZZY\r\n"),
            (S, "+ go\r\n16 NO [OVERQUOTA] x\r\n"),
            (
                S,
                "* 1 FETCH (BODYSTRUCTURE (\"malformed\" \"plain\" (\"name\" \"a \"b\" c.txt\") NIL NIL \"7bit\" 5 1) PREVIEW NIL)\r\n* XYZZY\r\n* BYE x {3}\r\n",
            ),
        ],
    ),
    (
        "Gmail and a hostile message",
        &[
            (C, "a FETCH 1 (X-GM-LABELS RFC822.TEXT)\r\n"),
            (
                S,
                "* 1 FETCH (X-GM-LABELS (\"\\\\Inbox\") UID 1 RFC822.TEXT {70}\r\n\r\nX5O!P%@AP[4\\PZX54(P^)7CC)7}$EICAR-STANDARD-ANTIVIRUS-TEST-FILE!$H+H* BODY[HEADER] {2}\r\n\r\n)\r\na OK x\r\n",
            ),
            (
                C,
                "b APPEND x {68+}\r\nX5O!P%@AP[4\\PZX54(P^)7CC)7}$EICAR-STANDARD-ANTIVIRUS-TEST-FILE!$H+H*\r\n",
            ),
            (S, "* 1 FETCH (BODY[]<0> {1}\r\nx)\r\n"),
            (C, "c LOGOUT\r\n"),
            (S, "* BYE x\r\nc OK x\r\n"),
        ],
    ),
];

/// What both sides get, when the octets of each turn come in these pieces.
fn got(script: Script, room: usize, pieces: impl Fn(usize, &[u8]) -> Vec<Vec<u8>>) -> (String, String) {
    let mut dialogue = Dialogue::new();
    dialogue.room_bytes = room;
    let mut at = 0;
    for (side, text) in script {
        for piece in pieces(at, text.as_bytes()) {
            dialogue.says(*side, &piece).unwrap();
        }
        at += text.len();
    }
    (dialogue.client_got(), dialogue.server_got())
}

fn each_script(check: impl Fn(&str, Script, &(String, String))) {
    for (name, script) in SCRIPTS {
        let whole = got(script, 4096, |_, text| vec![text.to_vec()]);
        units(Speaker::Server, whole.0.as_bytes());
        assert!(!whole.0.contains("EICAR-STANDARD") && !whole.1.contains("EICAR-STANDARD"));
        check(name, script, &whole);
    }
}

#[test]
fn every_split_position_gives_the_same() {
    each_script(|name, script, whole| {
        let octets: usize = script.iter().map(|(_, text)| text.len()).sum();
        for split in 1..octets {
            let cut = got(script, 4096, |at, text| {
                let (before, behind) = text.split_at(split.saturating_sub(at).min(text.len()));
                [before, behind].into_iter().filter(|piece| !piece.is_empty()).map(<[u8]>::to_vec).collect()
            });
            assert_eq!(cut, *whole, "{name} at {split}");
        }
    });
}

#[test]
fn small_batches_and_small_room_give_the_same() {
    each_script(|name, script, whole| {
        for size in [1, 2, 3, 7, 16] {
            for room in [1, 2, 5, 64] {
                let cut = got(script, room, |_, text| text.chunks(size).map(<[u8]>::to_vec).collect());
                assert_eq!(cut, *whole, "{name}, batches of {size}, room of {room}");
            }
        }
    });
}
