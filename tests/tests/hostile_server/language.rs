//! What nobody knows, and what is no IMAP.

use anyhow::{Result, ensure};
use postern_tests::corpus::make::eicar;
use postern_tests::fetched::shown;
use postern_tests::imap_script::{literal, respond};
use postern_tests::scene::MESSAGE;

use super::against::{between, clear, forged, is_fetch, nothing_of};

#[test]
fn an_item_that_nobody_knows_does_not_come() -> Result<()> {
    let heard = forged(&clear()?, "FETCH 1 (UID FLAGS)", |book, asked| {
        let mut items: Vec<_> = asked.items().iter().filter_map(|item| book.item(item)).collect();
        items.push(("X-SECRET".to_owned(), literal(&eicar())));
        items.push(("PREVIEW".to_owned(), literal(&eicar())));
        items.push(("SNIPPET".to_owned(), [b"(FUZZY ".to_vec(), literal(&eicar()), b")".to_vec()].concat()));
        respond(1, &items)
    })?;
    for name in ["X-SECRET", "PREVIEW", "SNIPPET"] {
        ensure!(!heard.says(name), "{name} came: {}", shown(&heard.octets));
    }
    ensure!(heard.is_cut() || heard.says("FLAGS"), "the items that are known did not come");
    Ok(())
}

#[test]
fn a_response_that_nobody_knows_does_not_come() -> Result<()> {
    let sample = clear()?;
    let checked = sample.clone();
    between(
        &[&sample.octets],
        |desk, asked| {
            if asked.verb != "NOOP" {
                return Ok(false);
            }
            desk.say([b"* XSECRET ".to_vec(), literal(&eicar()), b"\r\n".to_vec()].concat())?;
            desk.say([b"* URLFETCH \"imap://x\" ".to_vec(), literal(&eicar()), b"\r\n".to_vec()].concat())?;
            desk.say([b"* 1 XBODY ".to_vec(), literal(&eicar()), b"\r\n".to_vec()].concat())?;
            desk.say("* OK [XCODE secret] a code that nobody knows\r\n")?;
            Ok(false)
        },
        |session| {
            let heard = session.hear("NOOP")?;
            nothing_of(&checked, &heard)?;
            for word in ["XSECRET", "URLFETCH", "XBODY", "XCODE"] {
                ensure!(!heard.says(word), "{word} came: {}", shown(&heard.octets));
            }
            Ok(())
        },
    )?;
    Ok(())
}

#[test]
fn what_the_server_can_do_is_shown_as_far_as_it_is_mediated() -> Result<()> {
    between(
        &[MESSAGE],
        |_, _| Ok(false),
        |session| {
            let heard = session.hear("CAPABILITY")?;
            ensure!(heard.is_ok(), "{heard:?}");
            let words: Vec<String> =
                String::from_utf8_lossy(&heard.octets).split_whitespace().map(str::to_uppercase).collect();
            for hidden in [
                "IMAP4REV2",
                "LITERAL+",
                "BINARY",
                "CATENATE",
                "COMPRESS=DEFLATE",
                "URLAUTH",
                "PREVIEW",
                "NOTIFY",
                "XSECRET",
                "AUTH=X-SECRET",
                "APPENDLIMIT=4294967295",
            ] {
                ensure!(!words.iter().any(|word| word == hidden), "{hidden} is shown");
            }
            for shown in
                ["IMAP4REV1", "LITERAL-", "IDLE", "UIDPLUS", "MOVE", "AUTH=PLAIN", "APPENDLIMIT=67108864"]
            {
                ensure!(words.iter().any(|word| word == shown), "{shown} is not shown: {words:?}");
            }
            Ok(())
        },
    )?;
    Ok(())
}

/// The script says this in answer to NOOP; the session ends, and nothing forbidden comes, nor what stands behind.
fn misframed(said: Vec<u8>) -> Result<()> {
    let sample = clear()?;
    let checked = sample.clone();
    let text = shown(&said);
    let left = between(
        &[&sample.octets],
        move |desk, asked| {
            if asked.verb != "NOOP" {
                return Ok(false);
            }
            desk.say(&said)?;
            desk.say("* 99 EXISTS\r\n")?;
            desk.done(asked)?;
            Ok(true)
        },
        |session| {
            let heard = session.hear("NOOP")?;
            nothing_of(&checked, &heard)?;
            ensure!(heard.is_cut(), "the session goes on behind {text}");
            ensure!(!heard.says("99 EXISTS"), "what stands behind it came: {}", shown(&heard.octets));
            Ok(())
        },
    )?;
    let reason = left.record.text("event.reason");
    ensure!(reason == "response_framing", "the reason is {reason:?}: {:#?}", left.record);
    Ok(())
}

#[test]
fn a_line_that_ends_in_lf_ends_the_session() -> Result<()> {
    misframed(b"* 3 EXISTS\n* 1 FETCH (FLAGS ())\r\n".to_vec())
}

#[test]
fn a_bare_cr_ends_the_session() -> Result<()> {
    misframed(b"* 3 EXISTS\r* 4 EXISTS\r\n".to_vec())
}

#[test]
fn a_nul_outside_a_literal_ends_the_session() -> Result<()> {
    misframed(b"* 3 EXI\0STS\r\n".to_vec())
}

#[test]
fn a_literal_of_a_client_ends_the_session() -> Result<()> {
    misframed([b"* 1 FETCH (BODY[2] {68+}\r\n".to_vec(), eicar(), b")\r\n".to_vec()].concat())
}

#[test]
fn a_line_without_end_ends_the_session_and_does_not_come() -> Result<()> {
    // More than any response of a mailbox is long.
    const TOO_MUCH_BYTES: usize = 20 * 1024 * 1024;
    misframed([b"* 1 FETCH (FLAGS (".to_vec(), vec![b'a'; TOO_MUCH_BYTES], b"))\r\n".to_vec()].concat())
}

#[test]
fn a_tag_that_was_never_sent_does_not_come() -> Result<()> {
    between(
        &[MESSAGE],
        |desk, asked| {
            if asked.verb == "NOOP" {
                desk.say("zz99 OK [READ-ONLY] done\r\n")?;
            }
            Ok(false)
        },
        |session| {
            let heard = session.hear("NOOP")?;
            ensure!(!heard.says("zz99"), "{}", shown(&heard.octets));
            Ok(())
        },
    )?;
    Ok(())
}

#[test]
fn a_literal_that_is_cut_short_cuts_the_session() -> Result<()> {
    let sample = clear()?;
    let checked = sample.clone();
    between(
        &[&sample.octets],
        |desk, asked| {
            if !is_fetch(asked) {
                return Ok(false);
            }
            let book = &desk.shelf[0];
            let mut answer = respond(1, &[book.item("UID").expect("a UID")]);
            answer.truncate(answer.len() - 3);
            let body = book.section("2");
            answer.extend_from_slice(format!(" BODY[2] {{{}}}\r\n", body.len() + 500).as_bytes());
            answer.extend_from_slice(body);
            desk.say(answer)?;
            desk.hang_up();
            Ok(true)
        },
        |session| {
            let heard = session.hear("FETCH 1 (BODY.PEEK[2])")?;
            nothing_of(&checked, &heard)?;
            ensure!(!heard.is_ok(), "half a message was called whole: {}", shown(&heard.octets));
            Ok(())
        },
    )?;
    Ok(())
}
