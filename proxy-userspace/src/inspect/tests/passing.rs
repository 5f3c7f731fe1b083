//! What passes byte for byte: the commands and responses of every extension that is let through.

use super::*;
use crate::imap::tests::dialogues::SERVERS;

/// A command, and what the server says to it.
const EXCHANGES: &[(&str, &str)] = &[
    ("a NOOP\r\n", "* 23 EXISTS\r\n* 3 RECENT\r\n* 44 EXPUNGE\r\na OK done\r\n"),
    ("a CHECK\r\n", "a OK done\r\n"),
    ("a ID (\"name\" \"x\" \"version\" NIL)\r\n", "* ID (\"name\" \"Dovecot\")\r\na OK done\r\n"),
    ("a ID NIL\r\n", "* ID NIL\r\na OK done\r\n"),
    ("a ENABLE CONDSTORE QRESYNC UTF8=ACCEPT\r\n", "* ENABLED CONDSTORE QRESYNC\r\na OK done\r\n"),
    (
        "a NAMESPACE\r\n",
        "* NAMESPACE ((\"INBOX.\" \".\")) NIL ((\"#shared.\" \".\")(\"x\" \".\"))\r\na OK done\r\n",
    ),
    ("a LIST \"\" \"*\"\r\n", "* LIST (\\HasNoChildren \\Sent) \"/\" \"Sent Items\"\r\na OK done\r\n"),
    (
        "a LIST (SPECIAL-USE) \"\" (\"a\" \"b%\") RETURN (CHILDREN STATUS (MESSAGES SIZE))\r\n",
        "* LIST (\\HasChildren) \".\" {3}\r\na\"b (\"CHILDINFO\" (\"SUBSCRIBED\"))\r\n* STATUS a (MESSAGES 1 SIZE 7)\r\na OK done\r\n",
    ),
    (
        "a LIST \"\" \"*\" RETURN (MYRIGHTS METADATA (\"/private/comment\"))\r\n",
        "* MYRIGHTS INBOX lrs\r\n* METADATA INBOX (/private/comment NIL)\r\na OK done\r\n",
    ),
    ("a LSUB \"\" %\r\n", "* LSUB () NIL Inbox\r\na OK done\r\n"),
    ("a XLIST \"\" *\r\n", "* XLIST (\\HasNoChildren \\Inbox) \"/\" \"Inbox\"\r\na OK done\r\n"),
    ("a CREATE x (USE (\\Sent))\r\n", "a OK [MAILBOXID (F1)] done\r\n"),
    ("a DELETE x\r\n", "a NO [NONEXISTENT] none\r\n"),
    ("a RENAME x y\r\n", "a OK done\r\n"),
    ("a SUBSCRIBE x\r\n", "a OK done\r\n"),
    ("a UNSUBSCRIBE x\r\n", "a OK done\r\n"),
    (
        "a STATUS x (MESSAGES UIDNEXT SIZE HIGHESTMODSEQ DELETED APPENDLIMIT MAILBOXID)\r\n",
        "* STATUS x (MESSAGES 17 UIDNEXT 5 SIZE 1000 HIGHESTMODSEQ 9 MAILBOXID (F1))\r\na OK done\r\n",
    ),
    (
        "a SELECT INBOX (CONDSTORE)\r\n",
        "* FLAGS (\\Seen $x)\r\n* OK [PERMANENTFLAGS (\\Seen $x \\*)] Limited\r\n* 1 EXISTS\r\n* OK [UIDVALIDITY 5] x\r\n\
      * OK [UIDNEXT 6] x\r\n* OK [HIGHESTMODSEQ 9] x\r\n* OK [UNSEEN 1] x\r\na OK [READ-WRITE] done\r\n",
    ),
    (
        "a SELECT INBOX (QRESYNC (5 9 1:7 (1,3 4,6)))\r\n",
        "* OK [CLOSED] x\r\n* VANISHED (EARLIER) 1:2\r\n* 1 FETCH (UID 3 FLAGS (\\Seen) MODSEQ (9))\r\na OK [READ-ONLY] done\r\n",
    ),
    ("a EXAMINE INBOX\r\n", "* OK [NOMODSEQ] x\r\na OK [READ-ONLY] done\r\n"),
    ("a UNSELECT\r\n", "a OK done\r\n"),
    ("a CLOSE\r\n", "a OK done\r\n"),
    ("a EXPUNGE\r\n", "* VANISHED 3:5,8\r\na OK [HIGHESTMODSEQ 10] done\r\n"),
    ("a UID EXPUNGE 3:5\r\n", "* 3 EXPUNGE\r\na OK done\r\n"),
    (
        "a SEARCH RETURN (MIN MAX COUNT ALL SAVE) OLDER 60 NOT ($ OR SEEN 1:*) UID 5\r\n",
        "* ESEARCH (TAG \"a\") MIN 1 MAX 3 COUNT 2 ALL 1,3\r\na OK done\r\n",
    ),
    ("a UID SEARCH CHARSET UTF-8 X-GM-RAW \"x\" MODSEQ 5\r\n", "* SEARCH 1 2 (MODSEQ 9)\r\na OK done\r\n"),
    ("a SORT (REVERSE ARRIVAL DISPLAYFROM) UTF-8 ALL\r\n", "* SORT 3 2 1\r\na OK done\r\n"),
    (
        "a UID SORT RETURN (PARTIAL 1:5) (DATE) UTF-8 ALL\r\n",
        "* ESEARCH (TAG \"a\") UID ALL 1\r\na OK done\r\n",
    ),
    ("a UID THREAD REFERENCES UTF-8 SINCE 1-Jan-2026\r\n", "* THREAD (1)(2 3 (4)(5))\r\na OK done\r\n"),
    ("a COMPARATOR \"i;octet\"\r\n", "* COMPARATOR \"i;octet\"\r\na OK done\r\n"),
    ("a STORE 1:3 (UNCHANGEDSINCE 5) +FLAGS.SILENT (\\Seen)\r\n", "a OK [MODIFIED 1,3] some\r\n"),
    (
        "a UID STORE 1 -X-GM-LABELS (\\Inbox \"x y\")\r\n",
        "* 1 FETCH (X-GM-LABELS (\"\\\\Sent\") UID 3)\r\na OK done\r\n",
    ),
    ("a COPY $ x\r\n", "a OK [COPYUID 5 1:2 7:8] done\r\n"),
    ("a UID MOVE 1:* x\r\n", "* OK [COPYUID 5 1 7] moved\r\n* 1 EXPUNGE\r\na OK done\r\n"),
    ("a GETQUOTA \"\"\r\n", "* QUOTA \"\" (STORAGE 10 512)\r\na OK done\r\n"),
    ("a GETQUOTAROOT INBOX\r\n", "* QUOTAROOT INBOX \"\"\r\n* QUOTA \"\" (STORAGE 10 512)\r\na OK done\r\n"),
    ("a SETQUOTA \"\" (STORAGE 512)\r\n", "a NO [NOPERM] no\r\n"),
    ("a GETACL INBOX\r\n", "* ACL INBOX fred lrs\r\na OK done\r\n"),
    ("a SETACL INBOX fred +lrs\r\n", "a OK done\r\n"),
    ("a DELETEACL INBOX fred\r\n", "a OK done\r\n"),
    ("a LISTRIGHTS INBOX fred\r\n", "* LISTRIGHTS INBOX fred \"\" l r\r\na OK done\r\n"),
    ("a MYRIGHTS INBOX\r\n", "* MYRIGHTS INBOX lrs\r\na OK done\r\n"),
    (
        "a GETMETADATA (MAXSIZE 1024) INBOX (/private/comment)\r\n",
        "* METADATA INBOX (/private/comment {3}\r\nx\r\n)\r\na OK [METADATA LONGENTRIES 2199] done\r\n",
    ),
    ("a SETMETADATA INBOX (/private/comment \"x\")\r\n", "a OK done\r\n"),
    (
        "a XAPPLEPUSHSERVICE aps-version 2 aps-account-id x mailboxes (INBOX Notes)\r\n",
        "* XAPPLEPUSHSERVICE \"aps-version\" \"2\"\r\na OK done\r\n",
    ),
    (
        "a FETCH 1 FULL\r\n",
        "* 1 FETCH (FLAGS () INTERNALDATE \" 1-Jan-2026 00:00:00 +0000\" RFC822.SIZE 5 ENVELOPE (NIL \"x\" NIL NIL NIL NIL \
      NIL NIL NIL NIL) BODY (\"text\" \"plain\" NIL NIL NIL \"7bit\" 5 1))\r\na OK done\r\n",
    ),
    (
        "a FETCH 1 (EMAILID THREADID SAVEDATE X-GM-MSGID X-GM-THRID X-GM-LABELS MODSEQ BODYSTRUCTURE)\r\n",
        "* 1 FETCH (EMAILID (M1) THREADID NIL SAVEDATE NIL X-GM-MSGID 5 X-GM-THRID 5 X-GM-LABELS () MODSEQ (5) BODYSTRUCTURE \
      (\"text\" \"plain\" NIL NIL NIL \"7bit\" 5 1 NIL NIL NIL NIL))\r\na OK done\r\n",
    ),
    (
        "a UID FETCH 1:* (FLAGS) (CHANGEDSINCE 5 VANISHED)\r\n",
        "* VANISHED (EARLIER) 1:3\r\n* 1 FETCH (UID 5 FLAGS () MODSEQ (6))\r\na OK done\r\n",
    ),
    (
        "a UID FETCH $ BODY.PEEK[HEADER.FIELDS (subject \"From\")]\r\n",
        "* 1 FETCH (UID 5 BODY[HEADER.FIELDS (\"SUBJECT\" From)] {14}\r\nSubject: x\r\n\r\n)\r\na OK done\r\n",
    ),
    ("a UID FETCH 7 BODY[]\r\n", "* 1 FETCH (BODY[] {14}\r\nSubject: x\r\n\r\n UID 7)\r\na OK done\r\n"),
    ("a LOGOUT\r\n", "* BYE bye\r\na OK done\r\n"),
];

#[test]
fn each_command_and_response_of_the_extensions_passes_byte_for_byte() {
    for (command, responses) in EXCHANGES {
        let mut dialogue = Dialogue::new();
        assert_eq!(dialogue.client(command).server_got(), *command);
        assert_eq!(dialogue.server(responses).client_got(), *responses, "to {command}");
        assert_eq!(dialogue.verdicts(), Vec::<serde_json::Value>::new(), "{command}");
    }
}

#[test]
fn bare_line_feeds_of_a_client_reach_the_server_as_line_ends() {
    let mut dialogue = Dialogue::new();
    assert_eq!(dialogue.client("a NOOP\nb CHECK\r\n").server_got(), "a NOOP\r\nb CHECK\r\n");
}

/// Everything that recorded servers say, but for what is on no list.
#[test]
fn recorded_servers_reach_the_client_as_they_are() {
    for (name, text) in SERVERS {
        let text = text.replace('\n', "\r\n");
        for unit in units(Speaker::Server, text.as_bytes()) {
            let unit = String::from_utf8(unit).unwrap();
            // Tags, continuations and ranges belong to commands.
            let is_data = unit.starts_with("* ") && !unit.contains("BODY[]<");
            let is_changed = ["CAPABILITY", "URLMECH", "[MYRIGHTS"].iter().any(|word| unit.contains(word));
            if !is_data || is_changed {
                continue;
            }
            let mut dialogue = Dialogue::new();
            let got = dialogue.server(&unit).client_got();
            // Content in quotes becomes a literal, because it is judged without its escapes.
            if !unit.contains("BODY[02]") && !unit.contains("\"\"") {
                assert_eq!(got, unit, "{name}");
            }
            assert_eq!(units(Speaker::Server, got.as_bytes()).len(), 1, "{name}: {unit}");
        }
    }
}

#[test]
fn pipelined_commands_go_on_at_once_and_their_answers_in_any_order() {
    let mut dialogue = Dialogue::new();
    let commands =
        "a NOOP\r\nb STATUS x (MESSAGES)\r\nc UID FETCH 1:* (FLAGS)\r\nd UID FETCH 5 (BODY.PEEK[])\r\n";
    assert_eq!(dialogue.client(commands).server_got(), commands);
    let answers =
        "b OK done\r\na OK done\r\n* 1 FETCH (UID 5 BODY[] {4}\r\n\r\nx\r\n)\r\nd OK done\r\nc NO no\r\n"
            .replace("{4}\r\n\r\nx\r\n", "{5}\r\n\r\nx\r\n");
    assert_eq!(dialogue.server(&answers).client_got(), answers);
}

#[test]
fn a_session_without_mail_passes_as_it_is() {
    let mut dialogue = Dialogue::new();
    let greeting = "* OK ready\r\n";
    assert_eq!(dialogue.server(greeting).client_got(), greeting);
    for (command, answer) in [
        ("a NOOP\r\n", "a OK done\r\n"),
        ("b LOGIN joe secret\r\n", "b OK in\r\n"),
        ("c LIST \"\" *\r\n", "* LIST (\\HasNoChildren) \"/\" INBOX\r\nc OK done\r\n"),
        ("d SELECT INBOX\r\n", "* 3 EXISTS\r\n* OK [UIDVALIDITY 5] fine\r\nd OK [READ-WRITE] done\r\n"),
        ("e FETCH 1:* (FLAGS UID)\r\n", "* 1 FETCH (FLAGS (\\Seen) UID 7)\r\ne OK done\r\n"),
    ] {
        assert_eq!(dialogue.client(command).server_got(), command);
        assert_eq!(dialogue.server(answer).client_got(), answer);
    }
}

/// RFC 9051 section 7.1: the text may be missing, and some servers leave it out.
#[test]
fn a_status_without_text_passes_as_it_is() {
    for line in ["* OK\r\n", "* OK [ALERT]\r\n", "* OK [UIDNEXT 5]\r\n"] {
        let mut dialogue = Dialogue::new();
        assert_eq!(dialogue.server(line).client_got(), line);
    }
    let mut dialogue = Dialogue::new();
    assert_eq!(dialogue.client("a NOOP\r\n").server("a OK\r\n").client_got(), "a OK\r\n");
}

/// iCloud and SurgeMail send a space behind the last flag, DavMail two behind a list, maddy two between flags.
/// Clients take all of it, and would miss the message.
#[test]
fn spaces_that_servers_send_in_lists_pass_as_they_came() {
    for line in [
        "* 5 FETCH (FLAGS (\\Seen $NotJunk ) MODSEQ (445400410166781) UID 1 RFC822.SIZE 35943)\r\n",
        "* 5 FETCH (UID 1989 FLAGS (\\Seen)  RFC822.HEADER {14}\r\nSubject: x\r\n\r\n)\r\n",
        "* 5 FETCH ( UID 5 FLAGS ( ) )\r\n",
        "* FLAGS (\\Answered \\Flagged \\Draft \\Seen $Forwarded )\r\n",
        "* FLAGS (\\Seen \\Draft  $Label1 junk)\r\n",
        "* FLAGS ( \\Seen)\r\n",
        "* LIST (\\HasNoChildren ) \"/\" INBOX\r\n",
        "* STATUS INBOX (MESSAGES 3 UNSEEN 1 )\r\n",
    ] {
        let mut dialogue = Dialogue::new();
        dialogue.client("a UID FETCH 1 (FLAGS RFC822.HEADER)\r\n").server(line).server("a OK done\r\n");
        assert_eq!(dialogue.client_got(), format!("{line}a OK done\r\n"));
    }
    let mut dialogue = Dialogue::new();
    dialogue.client("a UID FETCH 1 (FLAGS BODY.PEEK[]<0.4>)\r\n");
    dialogue
        .server("* 5 FETCH (FLAGS (\\Seen $NotJunk )  UID 1  BODY[] {10}\r\nSubject: x )\r\na OK done\r\n");
    assert_eq!(
        dialogue.client_got(),
        "* 5 FETCH (FLAGS (\\Seen $NotJunk ) UID 1 BODY[]<0> {4}\r\nSubj)\r\na OK done\r\n"
    );
}
