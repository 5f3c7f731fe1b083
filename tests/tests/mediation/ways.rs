//! Each way to content that IMAP and its extensions have, one test each: none brings the forbidden octets, and each
//! brings the same fill as every other, or is refused.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::attempt::Way::{Leads, LeadsNowhere};
use super::attempt::{Attempt, attempt};

/// The message whose ranges are fetched, and its forbidden part.
const PROGRAM: &str = "program";
/// A short message whose forbidden part is in clear.
const CLEAR: &str = "eicar in clear";

macro_rules! ways {
    ($($name:ident: $way:expr, $run:expr;)*) => {
        $(#[test]
        fn $name() -> Result<()> {
            attempt($way, $run)
        })*
    };
}

// Items that RFC 3501 and RFC 9051 have.
ways! {
    body: Leads, |a| { a.own_folder()?; a.items(&["BODY[]"]) };
    body_peek: Leads, |a| a.items(&["BODY.PEEK[]"]);
    body_in_lower_case: Leads, |a| a.items(&["body.peek[]", "Body.Peek[Text]"]);
    rfc822: Leads, |a| { a.own_folder()?; a.items(&["RFC822"]) };
    rfc822_text: Leads, |a| { a.own_folder()?; a.items(&["RFC822.TEXT"]) };
    rfc822_header: LeadsNowhere, |a| a.items(&["RFC822.HEADER"]);
    body_text: Leads, |a| a.items(&["BODY.PEEK[TEXT]"]);
    body_header: LeadsNowhere, |a| a.items(&["BODY.PEEK[HEADER]", "BODY.PEEK[HEADER.FIELDS.NOT (X)]"]);
    part: Leads, |a| a.items(&["BODY.PEEK[1]", "BODY.PEEK[2]", "BODY.PEEK[3]"]);
    part_of_part: Leads, |a| a.items(&["BODY.PEEK[2.1]", "BODY.PEEK[2.2]", "BODY.PEEK[1.1]", "BODY.PEEK[2.1.2]"]);
    part_with_a_leading_zero: Leads, |a| a.items(&["BODY.PEEK[02]", "BODY.PEEK[0002]"]);
    part_zero: Leads, |a| a.items(&["BODY.PEEK[0]", "BODY.PEEK[2.0]", "BODY.PEEK[1.0]"]);
    one_one_of_a_leaf: Leads, |a| a.items(&["BODY.PEEK[1.1]", "BODY.PEEK[1.1.1]", "BODY.PEEK[2.1.1]"]);
    text_of_a_leaf: Leads, |a| a.items(&["BODY.PEEK[1.TEXT]", "BODY.PEEK[2.TEXT]", "BODY.PEEK[2.2.TEXT]"]);
    header_of_a_leaf: Leads, |a| a.items(&["BODY.PEEK[1.HEADER]", "BODY.PEEK[2.HEADER]"]);
    mime_of_a_part: Leads, |a| a.items(&["BODY.PEEK[1.MIME]", "BODY.PEEK[2.MIME]", "BODY.PEEK[2.1.MIME]"]);
    some_header_fields_of_a_part: Leads, |a| a.items(&[
        "BODY.PEEK[1.HEADER.FIELDS.NOT (X)]", "BODY.PEEK[2.HEADER.FIELDS.NOT (X)]",
        "BODY.PEEK[2.HEADER.FIELDS (Subject)]", "BODY.PEEK[2.1.HEADER.FIELDS.NOT (Subject)]",
    ]);
    envelope_and_structure: LeadsNowhere, |a| a.items(&["ENVELOPE", "BODY", "BODYSTRUCTURE"]);
    macros: LeadsNowhere, |a| {
        for name in ["ALL", "FAST", "FULL"] {
            a.exchange(&format!("FETCH 1:* {name}"))?;
        }
        Ok(())
    };
}

// Items of extensions, and such as were never written down: a server may have them whether it says so or not.
ways! {
    binary: Leads, |a| a.items(&["BINARY.PEEK[1]", "BINARY.PEEK[2]", "BINARY.PEEK[2.1.2]", "BINARY.PEEK[]"]);
    binary_range: Leads, |a| a.items(&["BINARY.PEEK[2]<0.4000>", "BINARY.PEEK[1]<0.4000>"]);
    binary_size: LeadsNowhere, |a| a.items(&["BINARY.SIZE[2]"]);
    preview: Leads, |a| a.items(&["PREVIEW", "PREVIEW (LAZY)", "PREVIEW (FUZZY)"]);
    snippet: Leads, |a| a.items(&["SNIPPET", "SNIPPET (FUZZY)", "SNIPPET (LAZY=FUZZY)"]);
    rfc822_peek: Leads, |a| a.items(&["RFC822.PEEK", "RFC822.TEXT.PEEK"]);
    rfc822_header_lines: LeadsNowhere, |a| a.items(&["RFC822.HEADER.LINES (Subject)", "RFC822.HEADER.LINES.NOT (X)"]);
    digest: LeadsNowhere, |a| a.items(&["DIGEST.SHA1"]);
    annotation: LeadsNowhere, |a| a.items(&["ANNOTATION (/comment value.priv)"]);
    gmail: LeadsNowhere, |a| a.items(&["X-GM-MSGID", "X-GM-LABELS", "X-GM-RAW"]);
    item_that_nobody_knows: LeadsNowhere, |a| a.items(&["BODY.SECRET[]", "MESSAGE", "CONTENT[2]"]);
}

// Ranges.
ways! {
    range_of_everything: Leads, |a| a.items(&["BODY.PEEK[]<0.4294967295>", "BODY.PEEK[]<0.393216>"]);
    range_without_length: Leads, |a| a.items(&["BODY.PEEK[2]<0>", "BODY.PEEK[]<4>"]);
    range_of_nothing: LeadsNowhere, |a| a.items(&["BODY.PEEK[2]<0.0>"]);
    range_of_a_part: Leads, |a| a.items(&["BODY.PEEK[2]<0.1000>", "BODY.PEEK[1]<0.1000>"]);
    range_of_a_text: Leads, |a| a.items(&["BODY.PEEK[TEXT]<100.4000>"]);
    ranges_forward: Leads, |a| series(a, |size| (0..size).step_by(1000).map(|from| (from, 1000)).collect());
    ranges_backward: Leads, |a| {
        series(a, |size| (0..size).step_by(1000).rev().map(|from| (from, 1000)).collect())
    };
    ranges_that_overlap: Leads, |a| {
        series(a, |size| (0..size).step_by(300).map(|from| (from, 1000)).collect())
    };
    ranges_in_no_order: Leads, |a| {
        series(a, |size| {
            let mut ranges: Vec<_> = (0..size).step_by(500).map(|from| (from, 500)).collect();
            let half = ranges.len() / 2;
            ranges.rotate_left(half);
            ranges.swap(0, half);
            ranges
        })
    };
    one_octet_at_a_time: Leads, |a| {
        let number = a.number(CLEAR)?;
        let leaf = a.exhibit.samples[number - 1].leaves[0].clone();
        let ranges: Vec<_> = (leaf.start - 4..leaf.end + 4).map(|from| (from, 1)).collect();
        a.ranges(number, "", &ranges)
    };
    all_but_the_last_octet: Leads, |a| {
        for number in 1..=a.count() {
            let size = a.exhibit.kept[number - 1].len();
            a.ranges(number, "", &[(0, size - 1)])?;
        }
        Ok(())
    };
    all_but_the_first_octet: Leads, |a| {
        for number in 1..=a.count() {
            a.ranges(number, "", &[(1, 1_000_000)])?;
        }
        Ok(())
    };
    base64_from_its_middle: Leads, |a| {
        let number = a.number(PROGRAM)?;
        let leaf = a.exhibit.samples[number - 1].leaves[0].clone();
        for from in [100, 101, 102, 103, 777] {
            a.ranges(number, "", &[(leaf.start + from, 1200)])?;
            a.ranges(number, "2", &[(from, 1200)])?;
        }
        Ok(())
    };
    many_ranges_in_one_command: Leads, |a| {
        let number = a.number(PROGRAM)?;
        let items: Vec<String> = (0..10).map(|at| format!("BODY.PEEK[2]<{}.300>", at * 300)).collect();
        let reply = a.exchange(&format!("FETCH {number} ({})", items.join(" ")))?;
        let joined = reply.octets()?.concat();
        a.see(number, "ten ranges", Some(joined).filter(|joined| !joined.is_empty()));
        Ok(())
    };
    half_on_each_of_two_connections: Leads, |a| {
        let number = a.number(PROGRAM)?;
        let half = a.exhibit.kept[number - 1].len() / 2;
        let mut other = a.another()?;
        let mut whole = Vec::new();
        for (at, session) in [&mut a.session, &mut other].into_iter().enumerate() {
            let reply = session.exchange(&format!("FETCH {number} BODY.PEEK[]<{}.{half}>", at * half))?;
            whole.extend(reply.octets()?.concat());
        }
        a.see(number, "two halves", Some(whole).filter(|whole| !whole.is_empty()));
        Ok(())
    };
    the_rest_after_a_reconnect: Leads, |a| {
        let number = a.number(PROGRAM)?;
        a.ranges(number, "", &[(0, 900)])?;
        a.reconnect()?;
        a.ranges(number, "", &[(900, 1_000_000)])?;
        a.reconnect()?;
        a.ranges(number, "2", &[(4, 1_000_000)])
    };
    a_range_of_many_messages: Leads, |a| {
        let reply = a.exchange("UID FETCH 1:* (UID FLAGS BODY.PEEK[]<0.131072>)")?;
        for one in reply.fetched()? {
            let octets = one.content("BODY[]<0>").map(<[u8]>::to_vec);
            a.see(usize::try_from(one.number)?, "K-9's range", octets);
        }
        Ok(())
    };
}

/// The ranges of the whole message, and of its forbidden part.
fn series(a: &mut Attempt<'_>, ranges: impl Fn(usize) -> Vec<(usize, usize)>) -> Result<()> {
    let number = a.number(PROGRAM)?;
    let size = a.exhibit.kept[number - 1].len();
    let part = a.exhibit.samples[number - 1].leaves[0].len();
    a.ranges(number, "", &ranges(size))?;
    a.ranges(number, "2", &ranges(part))
}

// Sets, commands and places.
ways! {
    all_messages_at_once: Leads, |a| whole_set(a, "FETCH 1:* (BODY.PEEK[])");
    all_messages_from_the_last: Leads, |a| whole_set(a, "FETCH *:1 (BODY.PEEK[])");
    uid_fetch: Leads, |a| whole_set(a, "UID FETCH 1:4294967295 (BODY.PEEK[] FLAGS)");
    saved_search_result: Leads, |a| {
        a.exchange("SEARCH RETURN (SAVE) ALL")?;
        whole_set(a, "FETCH $ (BODY.PEEK[])")
    };
    since_a_change: Leads, |a| {
        a.exchange("ENABLE CONDSTORE")?;
        whole_set(a, "UID FETCH 1:* (BODY.PEEK[]) (CHANGEDSINCE 0)")
    };
    since_a_change_with_vanished: Leads, |a| {
        a.exchange("ENABLE QRESYNC")?;
        whole_set(a, "UID FETCH 1:* (BODY.PEEK[]<0.100000>) (CHANGEDSINCE 1 VANISHED)")
    };
    the_same_twice_in_one_command: Leads, |a| {
        let number = a.number(PROGRAM)?;
        a.view(number, &format!("FETCH {number} (BODY.PEEK[2] BODY.PEEK[2] BODY.PEEK[] BODY.PEEK[2]<5.2000>)"))
    };
    header_fields_named_by_a_literal: Leads, |a| {
        let number = a.number(PROGRAM)?;
        let tag = a.session.send_command(&format!("FETCH {number} (BODY.PEEK[HEADER.FIELDS ({{7}}"))?;
        let line = a.session.unit()?;
        a.hear(&line);
        if line.starts_with(b"+") {
            a.session.send(b"Subject)] BODY.PEEK[2])\r\n")?;
            let reply = a.session.reply(&tag)?;
            a.hear(&reply.all());
        }
        Ok(())
    };
    a_line_that_ends_in_lf_only: Leads, |a| {
        let number = a.number(PROGRAM)?;
        a.session.send(format!("lf FETCH {number} BODY.PEEK[2]\nlf2 NOOP\r\n").as_bytes())?;
        let reply = a.session.reply("lf2")?;
        a.hear(&reply.all());
        Ok(())
    };
    a_malformed_command_before_a_good_one: Leads, |a| {
        let number = a.number(PROGRAM)?;
        for bad in ["BODY.PEEK[", "BODY.PEEK[2]<", "BODY.PEEK[2] )", "BODY.PEEK[(2)]", "(BODY.PEEK[2]", "BODY.PEEK[2]<0.1.2>"] {
            a.exchange(&format!("FETCH {number} {bad}"))?;
        }
        a.view(number, &format!("FETCH {number} BODY.PEEK[2]"))
    };
    a_command_that_nobody_knows: LeadsNowhere, |a| {
        let number = a.number(PROGRAM)?;
        for command in ["XFETCH", "DUMP", "UID XFETCH", "PARTIAL"] {
            a.exchange(&format!("{command} {number} BODY.PEEK[2] 1 4000"))?;
        }
        a.view(number, &format!("UID FETCH {number} FLAGS"))
    };
    copy: Leads, |a| moved(a, "COPY");
    uid_copy: Leads, |a| moved(a, "UID COPY");
    move_away: Leads, |a| { a.own_folder()?; moved(a, "MOVE") };
    uid_move: Leads, |a| { a.own_folder()?; moved(a, "UID MOVE") };
    examine: Leads, |a| {
        let folder = a.folder().to_owned();
        a.exchange(&format!("EXAMINE {folder}"))?.ok()?;
        a.items(&["BODY[]", "BODY[2]"])
    };
    another_folder_name: Leads, |a| {
        let name = a.server.folder(&format!("Renamed{}", u8::from(a.is_direct())));
        a.own_folder()?;
        let folder = a.folder().to_owned();
        a.exchange(&format!("RENAME {folder} {name}"))?;
        if a.exchange(&format!("SELECT {name}"))?.is_ok() {
            a.items(&["BODY.PEEK[2]"])?;
        }
        a.exchange("CLOSE")?;
        a.exchange(&format!("DELETE {name}"))?;
        Ok(())
    };
    expunged_between_command_and_answer: Leads, |a| {
        a.own_folder()?;
        let number = a.number(PROGRAM)?;
        a.view(number, &format!("FETCH {number} BODY.PEEK[2]<0.10>"))?;
        let mut other = a.another()?;
        other.exchange("STORE 1:* +FLAGS.SILENT (\\Deleted)")?.ok()?;
        other.exchange("EXPUNGE")?.ok()?;
        // Servers may serve what is gone, may serve something else under its name, or refuse.
        for command in ["FETCH 1:* BODY.PEEK[2]", "UID FETCH 1:* BODY.PEEK[]", "FETCH 1 BODY.PEEK[2]<4.4000>", "NOOP"] {
            a.exchange(command)?;
        }
        Ok(())
    };
    many_commands_without_waiting: Leads, |a| {
        let all: Vec<_> = (1..=a.count())
            .flat_map(|number| {
                ["BODY.PEEK[]<0.2000>", "BODY.PEEK[TEXT]", "FLAGS", "BODY.PEEK[2]<3.3000>"]
                    .map(|item| format!("UID FETCH {number} ({item})"))
            })
            .collect();
        a.pipeline(&all)
    };
    new_mail_while_idling: LeadsNowhere, |a| {
        a.own_folder()?;
        let tag = a.session.send_command("IDLE")?;
        let line = a.session.unit()?;
        a.hear(&line);
        let folder = a.folder().to_owned();
        let mut other = a.another()?;
        other.exchange(&format!("COPY 1 {folder}"))?;
        std::thread::sleep(Duration::from_millis(200));
        a.session.send(b"DONE\r\n")?;
        let reply = a.session.reply(&tag)?;
        a.hear(&reply.all());
        a.items(&["FLAGS"])
    };
}

fn whole_set(a: &mut Attempt<'_>, command: &str) -> Result<()> {
    let reply = a.exchange(command)?;
    for one in reply.fetched()? {
        let octets = one.content("BODY[]").map(<[u8]>::to_vec);
        if octets.is_some() {
            a.see(usize::try_from(one.number)?, command, octets);
        }
    }
    Ok(())
}

/// Fetched from where the messages went.
fn moved(a: &mut Attempt<'_>, command: &str) -> Result<()> {
    let to = a.bench.folder(a.server, &[])?;
    if a.exchange(&format!("{command} 1:* {to}"))?.is_ok() {
        a.exchange(&format!("SELECT {to}"))?.ok()?;
        a.items(&["BODY.PEEK[]", "BODY.PEEK[2]", "BODY.PEEK[]<0.2000>"])?;
    }
    Ok(())
}

// Commands of extensions that bring content, or carry it from one place to another.
ways! {
    notify: Leads, |a| {
        a.own_folder()?;
        a.exchange("NOTIFY SET (selected (MessageNew (UID BODY.PEEK[]) MessageExpunge FlagChange))")?;
        let folder = a.folder().to_owned();
        let mut other = a.another()?;
        other.exchange(&format!("COPY 1 {folder}"))?;
        for _ in 0..3 {
            a.exchange("NOOP")?;
        }
        Ok(())
    };
    urlfetch: Leads, |a| {
        let folder = a.folder().to_owned();
        let url = format!("imap://alice@lab.test/{folder}/;uid=1/;section=2;urlauth=anonymous");
        let reply = a.exchange(&format!("GENURLAUTH \"{url}\" INTERNAL"))?;
        let text = String::from_utf8_lossy(&reply.all()).into_owned();
        let given = text.split('"').nth(1).unwrap_or(&url).to_owned();
        for url in [given, url, format!("/{folder}/;uid=1"), format!("imap://lab.test/{folder}/;uid=1/;section=2")] {
            a.exchange(&format!("URLFETCH \"{url}\""))?;
            a.exchange(&format!("URLFETCH (\"{url}\" BODY BINARY BODYPARTSTRUCTURE)"))?;
        }
        Ok(())
    };
    catenate: Leads, |a| {
        let to = a.bench.folder(a.server, &[])?;
        let folder = a.folder().to_owned();
        for url in [format!("/{folder}/;UID=1"), format!("/{folder}/;UID=1/;SECTION=2"), "/;UID=1".to_owned()] {
            a.exchange(&format!("APPEND {to} CATENATE (URL \"{url}\")"))?;
        }
        if a.exchange(&format!("SELECT {to}"))?.is_ok() {
            let reply = a.exchange("FETCH 1:* (BODY.PEEK[])")?;
            ensure!(reply.is_ok() || reply.is_refused(), "{}", reply.tagged);
        }
        Ok(())
    };
    compress_though_not_offered: LeadsNowhere, |a| {
        if a.is_direct() {
            return Ok(());
        }
        let reply = a.exchange("COMPRESS DEFLATE")?;
        ensure!(reply.is_refused(), "the session is compressed: {}", reply.tagged);
        a.items(&["FLAGS"])
    };
    convert: LeadsNowhere, |a| {
        a.exchange("CONVERT 1 (\"text/plain\") BINARY[2]")?;
        a.exchange("UID CONVERT 1 (NIL) BINARY[2]")?;
        Ok(())
    };
    starttls_again: LeadsNowhere, |a| {
        if a.is_direct() {
            return Ok(());
        }
        let reply = a.exchange("STARTTLS")?;
        ensure!(reply.is_refused(), "TLS in TLS: {}", reply.tagged);
        a.items(&["FLAGS"])
    };
    replace: LeadsNowhere, |a| {
        a.own_folder()?;
        let folder = a.folder().to_owned();
        let bad = a.exhibit.samples[0].octets.clone();
        let tag = a.session.send_command(&format!("REPLACE 1 {folder} {{{}}}", bad.len()))?;
        let line = a.session.unit()?;
        a.hear(&line);
        if line.starts_with(b"+") {
            a.session.send(&bad)?;
            a.session.send(b"\r\n")?;
            let reply = a.session.reply(&tag)?;
            ensure!(a.is_direct() || reply.is_refused(), "a hostile message replaced another: {}", reply.tagged);
            a.hear(&reply.all());
        }
        Ok(())
    };
    an_upload_that_comes_back: Leads, |a| {
        // Put there by one who is not filtered, fetched by one who is: no upload is trusted.
        let sample = a.exhibit.samples.iter().find(|sample| sample.name == CLEAR).cloned();
        let sample = sample.context("no such message")?;
        let to = a.bench.folder(a.server, &[sample])?;
        a.exchange(&format!("SELECT {to}"))?.ok()?;
        let number = a.number(CLEAR)?;
        for command in ["FETCH 1 BODY.PEEK[]", "FETCH 1 BODY.PEEK[2]", "FETCH 1 BODY.PEEK[]<0.5000>"] {
            let reply = a.exchange(command)?;
            a.see(number, command, reply.octets()?.into_iter().next());
        }
        Ok(())
    };
}
