//! Memory and time: what a peer can make an engine hold, and how long it can make it work.

use super::*;

/// What an idle session may hold.
const IDLE_BYTES_MAX: usize = 1024;
/// What a session may hold beside what `limits.held` counts: a command of 64 KiB twice, a few batches, and their queues.
const HEAP_BYTES_MAX: usize = 1 << 20;

/// Work that is linear takes seconds on any machine, and hours where it is not. This is no measurement.
const GUARD: Duration = Duration::from_secs(300);

fn is_no_hang(what: &str, work: impl FnOnce()) {
    let begin = Instant::now();
    work();
    let took = begin.elapsed();
    assert!(took < GUARD, "{what}: {took:?}");
}

#[test]
fn an_idle_session_holds_less_than_1_kib() {
    let mut dialogue = Dialogue::new();
    dialogue
        .server("* OK [CAPABILITY IMAP4rev1] ready\r\n")
        .client("a LOGIN joe secret\r\n")
        .server("a OK in\r\n");
    dialogue.client("b SELECT INBOX\r\n").server("* 5 EXISTS\r\nb OK done\r\n");
    let many = (0..60).map(|nth| format!("c{nth} NOOP\r\n")).collect::<String>();
    let answers = (0..60).map(|nth| format!("* {nth} EXISTS\r\nc{nth} OK done\r\n")).collect::<String>();
    dialogue.client(&many).client("x\r\n".repeat(100).as_str()).server(&answers);
    dialogue.client("d UID FETCH 1:* (UID BODY[1])\r\n");
    for nth in 1..100 {
        dialogue.server(&format!("* {nth} FETCH (UID {nth} BODY[1] {})\r\n", literal(&"x".repeat(9_000))));
    }
    dialogue
        .server("d OK done\r\n")
        .client("e APPEND INBOX {5}\r\nhello\r\n")
        .server("+ go\r\ne OK done\r\n");
    dialogue.client("f IDLE\r\n").server("+ idling\r\n");
    dialogue.settle().unwrap();
    assert_eq!(dialogue.held.octets(), 0);
    let idle = size_of::<Session>() + dialogue.session.heap();
    assert!(
        idle <= IDLE_BYTES_MAX,
        "{} on the stack, {} on the heap",
        size_of::<Session>(),
        dialogue.session.heap()
    );
}

#[test]
fn without_room_a_message_is_refused_and_commands_and_short_responses_pass() {
    let mut dialogue = Dialogue::holding(0);
    dialogue.batch_bytes = 3;
    // Sequence numbers would mean other messages, were one of these left out.
    let said = "* 5 EXISTS\r\n* 3 EXPUNGE\r\n* VANISHED 5:7\r\n* 2 FETCH (FLAGS (\\Seen) UID 5)\r\n* LIST () \"/\" INBOX\r\n* SEARCH 1 2 3\r\n";
    assert_eq!(dialogue.server(said).client_got(), said);
    let exchanges = [
        ("a LOGIN joe secret\r\n", "a OK in\r\n"),
        ("b IDLE\r\n", "+ idling\r\n"),
        ("DONE\r\n", "b OK done\r\n"),
        ("c LOGOUT\r\n", "c OK done\r\n"),
    ];
    for (command, answer) in exchanges {
        assert_eq!(dialogue.client(command).server_got(), command);
        assert_eq!(dialogue.server(answer).client_got(), answer);
    }

    let mut dialogue = Dialogue::holding(50_000);
    let answer = |octets: &str| format!("* 1 FETCH (UID 7 BODY[] {})\r\na OK done\r\n", literal(octets));
    dialogue.client("a UID FETCH 7 BODY[]\r\n").server(&answer(&"x".repeat(60_000)));
    let got = dialogue.client_got();
    assert!(got.starts_with("a NO [UNAVAILABLE] ") && dialogue.held.octets() == 0, "{got}");
    let last = dialogue.verdicts().pop().unwrap();
    assert_eq!(
        last["postern.rule"].as_str().or(last["rule.name"].as_str()),
        Some("no_room_to_judge"),
        "{last}"
    );
    dialogue.client("a UID FETCH 7 BODY[]\r\n").server(&answer("hello"));
    assert_eq!(dialogue.client_got(), answer("hello"));
}

/// A client that lists a folder would delete what it does not find in it.
#[test]
fn without_room_for_a_list_its_command_is_answered_no() {
    let numbers = " 1234567".repeat(10_000);
    for (command, answer) in [
        ("UID SEARCH ALL", format!("* SEARCH{numbers}\r\n")),
        ("UID FETCH 1:* (FLAGS)", format!("* 1 FETCH (UID 5 FLAGS ({}))\r\n", numbers.trim())),
        ("UID THREAD REFERENCES UTF-8 ALL", format!("* THREAD ({})\r\n", numbers.trim())),
    ] {
        let mut dialogue = Dialogue::holding(50_000);
        dialogue.client(&format!("a {command}\r\n")).server(&format!("{answer}a OK done\r\n"));
        let got = dialogue.client_got();
        assert!(got.starts_with("a NO [UNAVAILABLE] "), "{command}: {got}");
        assert_eq!(dialogue.held.octets(), 0);
    }
}

#[test]
fn without_room_for_a_completion_its_command_is_complete_all_the_same() {
    let mut dialogue = Dialogue::holding(0);
    let numbers = vec!["1234567"; 2_000].join(",");
    dialogue.client("a UID COPY 1:* x\r\nb UID FETCH 1 BODY[]<0.5>\r\n").server_got();
    dialogue.server(&format!("a OK [COPYUID 5 {numbers} {numbers}] x\r\n"));
    assert_eq!(dialogue.client_got(), "a OK Done\r\n");
    assert_eq!(dialogue.server_got(), "b UID FETCH 1 (BODY[])\r\n");
}

#[test]
fn a_message_over_the_limit_is_read_to_its_end_and_refused_and_recorded() {
    let mut dialogue = Dialogue::new();
    dialogue.client("a UID FETCH 7 BODY[]\r\n");
    let mut most = 0;
    dialogue.server("* 1 FETCH (UID 7 BODY[] {1000000}\r\n");
    for _ in 0..250 {
        dialogue.server(&"x".repeat(4_000));
        most = most.max(dialogue.session.heap());
    }
    dialogue.server(" FLAGS ())\r\n* 2 FETCH (FLAGS ())\r\na OK done\r\n");
    let got = dialogue.client_got();
    assert!(got.starts_with("* 2 FETCH (FLAGS ())\r\na NO [LIMIT] "), "{got}");
    assert!(most < 10_000 && dialogue.held.octets() == 0, "{most}");
    assert_eq!(dialogue.verdicts().len(), 1);
}

#[test]
fn a_command_of_64_kib_passes_and_a_longer_one_ends_the_session() {
    let command =
        |octets: usize| format!("a UID FETCH {} (FLAGS)\r\n", vec!["12345"; (octets - 22) / 6].join(","));
    let mut dialogue = Dialogue::new();
    let longest = command(64 * 1024 - 6);
    assert_eq!(dialogue.client(&longest).server_got(), longest);
    assert!(dialogue.session.heap() < 3 * 64 * 1024);
    let refusal = Dialogue::new().says(Side::Downstream, command(64 * 1024 + 100).as_bytes()).unwrap_err();
    assert!(matches!(refusal, InspectRefusal::LineTooLong(65_536)));
}

#[test]
fn a_client_that_sends_thousands_of_commands_before_an_answer_is_not_read() {
    let mut dialogue = Dialogue::new();
    let mut sent = 0;
    while dialogue.session.wants(Side::Downstream) == Want::Octets {
        dialogue.takes(Side::Downstream, &"a NOOP\r\n".repeat(500));
        sent += 500;
        assert!(sent < 10_000);
    }
    assert!(dialogue.session.heap() < HEAP_BYTES_MAX, "{}", dialogue.session.heap());
    assert!(units(Speaker::Client, dialogue.server_got().as_bytes()).len() <= 64);
    let mut answered = 0;
    for _ in 0..sent {
        dialogue.server("a OK done\r\n");
        answered += dialogue.client_got().len() / "a OK done\r\n".len();
    }
    assert_eq!(answered, sent, "each is sent in its turn");
}

/// A client that does not take its answers must not fill the memory with them.
#[test]
fn a_client_that_only_talks_is_not_read() {
    for junk in ["x\r\n", "\r\n", "a XYZZY\r\n", "a LOGIN {1}\r\nx {1}\r\ny\r\n", "a APPEND x {9999999}\r\n"]
    {
        let mut dialogue = Dialogue::new();
        dialogue.client_reads = false;
        for _ in 0..1_000 {
            if dialogue.session.wants(Side::Downstream) != Want::Octets {
                break;
            }
            dialogue.takes(Side::Downstream, &junk.repeat(4_000 / junk.len()));
        }
        assert_eq!(dialogue.session.wants(Side::Downstream), Want::Nothing, "{junk}");
        assert!(dialogue.session.heap() < 2 * HEAP_BYTES_MAX, "{junk}: {}", dialogue.session.heap());
        dialogue.client_reads = true;
        dialogue.drain(Side::Downstream, &[]);
        // LOGIN waits for the server.
        let expected = if junk.contains("LOGIN") { Want::Nothing } else { Want::Octets };
        assert_eq!(dialogue.session.wants(Side::Downstream), expected, "{junk}");
    }
}

/// While one verdict is awaited, what follows it waits, too.
#[test]
fn a_server_that_floods_behind_mail_is_not_read() {
    let search = format!("* SEARCH{}\r\n", " 1234567".repeat(7_000));
    let mail = "* 2 FETCH (BODY[] {5}\r\nhello)\r\n";
    for line in [
        "* 1 EXISTS\r\n",
        "* OK x\r\n",
        "* 1 FETCH (FLAGS ())\r\n",
        "* 1 FETCH (PREVIEW NIL FLAGS ())\r\n",
        mail,
        &search,
    ] {
        let (mut dialogue, _go_on) = Dialogue::stalled();
        dialogue.takes(Side::Downstream, "a FETCH 1 (UID BODY[])\r\n").takes(Side::Upstream, mail);
        let mut said = 0;
        while dialogue.session.wants(Side::Upstream) == Want::Octets {
            dialogue.takes(Side::Upstream, &line.repeat(16_384 / line.len() + 1));
            said += 1;
            assert!(said < 1_000, "{}", &line[..line.len().min(40)]);
        }
        let heap = dialogue.session.heap() + usize::try_from(dialogue.held.octets()).unwrap();
        assert!(heap < 2 * HEAP_BYTES_MAX, "{}: {heap}", &line[..line.len().min(40)]);
    }
}

#[test]
fn ten_thousand_responses_with_mail_take_bounded_memory_and_linear_time() {
    let mut dialogue = Dialogue::new();
    dialogue.batch_bytes = 16_384;
    dialogue.client("a UID FETCH 1:* (BODY.PEEK[]<0.3>)\r\n");
    let mut most = 0;
    let mut got = 0;
    for hundred in 0..100 {
        let answers: String = (1..=100)
            .map(|nth| format!("* {nth} FETCH (UID {} BODY[] {{5}}\r\nhello)\r\n", hundred * 100 + nth))
            .collect();
        dialogue.server(&answers);
        most = most.max(dialogue.session.heap());
        got += dialogue.client_got().matches("BODY[]<0> {3}\r\nhel)").count();
    }
    dialogue.server("a OK done\r\n");
    assert_eq!((got, dialogue.client_got().as_str()), (10_000, "a OK done\r\n"));
    assert!(most < HEAP_BYTES_MAX, "{most}");
}

#[test]
fn ten_thousand_lines_of_metadata_take_linear_time() {
    let lines = "* 1 FETCH (UID 5 FLAGS (\\Seen))\r\n".repeat(10_000);
    is_no_hang("10,000 lines", || {
        let mut dialogue = Dialogue::new();
        dialogue.batch_bytes = 16_384;
        assert_eq!(dialogue.server(&lines).client_got().len(), lines.len());
    });
}

/// The longest command of items that are hard to compare, and the longest answer to it.
#[test]
fn a_fetch_of_a_thousand_items_takes_linear_time() {
    let items = |peek: &str, partial: &str| {
        let items =
            (0..999).map(|nth| format!("BODY{peek}[HEADER.FIELDS (a b c d e f g h i j k l {nth})]{partial}"));
        items.collect::<Vec<_>>()
    };
    let mut command = format!("a UID FETCH 1 (BODY[]<0.1> {})\r\n", items("", "").join(" "));
    assert!(command.len() < 65_536, "{}", command.len());
    let answer = items("", " {5}\r\na: b\n").join(" ");
    is_no_hang("1,000 sections", || {
        let mut dialogue = Dialogue::new();
        dialogue.batch_bytes = 16_384;
        dialogue.client(&command);
        assert!(dialogue.server_got().len() > 40_000);
        for _ in 0..3 {
            dialogue.server(&format!("* 1 FETCH (UID 1 {answer})\r\n"));
        }
        assert_eq!(dialogue.client_got().matches(")] {5}\r\na: b").count(), 3 * 999);
    });
    // Waiting for another command, it is not read again with each of the server's words.
    command = command.replacen("a UID", "b UID", 1);
    is_no_hang("1,000 sections that wait", || {
        let mut dialogue = Dialogue::new();
        dialogue.client("a NOOP\r\n").client(&command);
        for _ in 0..1_000 {
            dialogue.takes(Side::Upstream, "* 1 EXISTS\r\n");
        }
    });
}

/// Each small answer would become a thousand times as long.
#[test]
fn a_fetch_of_hundreds_of_ranges_is_refused_and_dozens_are_bounded() {
    let command = |ranges: usize| {
        let ranges: Vec<_> = (0..ranges).map(|start| format!("BODY.PEEK[]<{start}.1>")).collect();
        format!("a UID FETCH 1:* ({})\r\n", ranges.join(" "))
    };
    let mut dialogue = Dialogue::new();
    dialogue.client(&command(65));
    assert!(dialogue.client_got().starts_with("a BAD ") && dialogue.server_got().is_empty());
    dialogue.client(&command(64));
    dialogue.client_reads = false;
    dialogue.batch_bytes = 16_384;
    let small = "* 1 FETCH (UID 1 BODY[] {1}\r\nx)\r\n";
    dialogue.server(&small.repeat(16_384 / small.len()));
    assert!(dialogue.session.heap() < 8 * HEAP_BYTES_MAX, "{}", dialogue.session.heap());
}

/// What is noted of a response must not be more than the response: a hint of each of 10,000 parts for each of 2,000
/// sections, or a header of 90 KB for each.
#[test]
fn no_response_takes_many_times_its_octets() {
    let part = "(\"a\" \"b\" NIL NIL NIL \"7bit\" 5 1)";
    let structure = format!("BODYSTRUCTURE ({} \"mixed\")", part.repeat(9_000));
    let sections = (0..1_900).map(|nth| format!("BODY[{nth}.TEXT] \"x\"")).collect::<Vec<_>>().join(" ");
    let mut header = "a: b\r\n".repeat(15_000);
    header.push_str("\r\n");
    let parts = vec!["BODY[1] \"x\""; 1_900].join(" ");
    for answer in [format!("{structure} {sections}"), format!("BODY[1.MIME] {} {parts}", literal(&header))] {
        let before = resident_kib();
        let (mut dialogue, _go_on) = Dialogue::stalled();
        dialogue.takes(Side::Downstream, "a UID FETCH 1 BODY[1]\r\n");
        is_no_hang("one response", || {
            let answer = format!("* 1 FETCH ({answer})\r\n");
            for batch in answer.as_bytes().chunks(16_384) {
                dialogue.takes(Side::Upstream, std::str::from_utf8(batch).unwrap());
            }
        });
        let grown = resident_kib().saturating_sub(before);
        assert!(grown < 64 << 10, "{grown} KiB for {} octets", answer.len());
    }
}

fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Each announcement is looked at: whether its literal is a message that is known.
#[test]
fn a_response_of_many_small_literals_takes_linear_time() {
    let envelope = "{1}\r\na ".repeat(150_000);
    let answer = format!("* 1 FETCH (UID 7 ENVELOPE ({envelope}NIL))\r\n");
    is_no_hang("150,000 literals", || {
        let mut dialogue = Dialogue::new();
        dialogue.batch_bytes = 16_384;
        dialogue.client("a UID FETCH 7 (BODY.PEEK[])\r\n");
        dialogue.server(&answer);
        assert_eq!(dialogue.client_got(), answer);
    });
}

/// Which part of a structure a path means is looked for from its end to its beginning.
#[test]
fn paths_that_no_structure_has_take_linear_time() {
    let part = "(\"a\" \"b\" NIL NIL NIL \"7bit\" 5 1)";
    let structure = format!("BODYSTRUCTURE ({} \"mixed\")", part.repeat(9_000));
    let path = vec!["9000"; 127].join(".");
    let sections = vec![format!("BODY[{path}] \"x\""); 1_900].join(" ");
    let answer = format!("* 1 FETCH (UID 7 {structure} {sections})\r\n");
    is_no_hang("1,900 sections, forty times", || {
        let mut dialogue = Dialogue::new();
        dialogue.batch_bytes = 16_384;
        dialogue.client("a UID FETCH 7 (BODY.PEEK[1])\r\n");
        for _ in 0..40 {
            dialogue.server(&answer);
            assert!(dialogue.client_got().len() > 1_900 * path.len());
        }
    });
}

/// The lines of all sessions wait in one queue.
#[test]
fn a_mail_of_many_forbidden_parts_writes_a_hundred_lines_and_says_how_many_are_left_out() {
    let part =
        |name: &str| format!("--b\r\nContent-Disposition: attachment; filename={name}\r\n\r\nprogram\r\n");
    let head = "Content-Type: multipart/mixed; boundary=b\r\n\r\n";
    for (count, left_out) in [(100, None), (101, Some(1)), (400, Some(300))] {
        let mut dialogue = Dialogue::telling_all();
        // Clean parts before them leave none of them out.
        let mail = format!("{head}{}{}--b--\r\n", part("a.txt").repeat(count - 99), part("a.exe").repeat(99));
        dialogue.client("a UID FETCH 7 (UID BODY.PEEK[])\r\n");
        dialogue.server(&format!("* 1 FETCH (UID 7 BODY[] {})\r\na OK done\r\n", literal(&mail)));
        let verdicts = dialogue.verdicts();
        assert_eq!(verdicts.len(), 100, "{count}");
        let removed = verdicts.iter().filter(|verdict| verdict["postern.action"] == "remove").count();
        assert_eq!(removed, 99, "{count}");
        let told = verdicts.iter().map(|verdict| verdict["postern.parts_left_out"].as_u64());
        let told: Vec<_> = told.collect();
        assert_eq!(told.last(), Some(&left_out), "{count}");
        assert!(told.iter().rev().skip(1).all(Option::is_none), "{count}");
    }
}
