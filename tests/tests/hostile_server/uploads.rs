//! Uploads, as the server sees them.

use anyhow::{Result, ensure};
use postern_tests::corpus::make::{base64, eicar};
use postern_tests::corpus::pe_message;
use postern_tests::fetched::shown;
use postern_tests::scene::MESSAGE;

use super::against::between;

#[test]
fn no_octet_of_a_hostile_upload_reaches_the_server() -> Result<()> {
    let sample = pe_message();
    let checked = sample.clone();
    let left = between(
        &[MESSAGE],
        |_, _| Ok(false),
        |session| {
            let size = checked.octets.len();
            let reply = session.upload("INBOX", "(\\Seen) ", &checked.octets)?;
            ensure!(reply.tagged.starts_with("NO"), "{}", reply.tagged);
            // A client that does not wait, as LITERAL+ allows.
            let tag = session.send_command(&format!("APPEND INBOX {{{size}+}}"))?;
            session.send(&[&checked.octets, &b"\r\n"[..]].concat())?;
            let heard = session.hear_until(&tag)?;
            ensure!(heard.is_refused(), "{heard:?}");
            session.noop()
        },
    )?;
    ensure!(!sample.is_in(&left.came), "the server saw {}", shown(&left.came));
    Ok(())
}

#[test]
fn an_upload_is_asked_for_once() -> Result<()> {
    let left = between(
        &[MESSAGE],
        |_, _| Ok(false),
        |session| {
            let tag = session.send_command(&format!("APPEND INBOX {{{}}}", MESSAGE.len()))?;
            let go = session.line()?;
            ensure!(go.starts_with('+'), "{go}");
            session.send(&[MESSAGE, b"\r\n"].concat())?;
            let heard = session.hear_until(&tag)?;
            // K-9 sends the message again at every further one.
            ensure!(heard.is_ok() && !heard.says("\n+") && !heard.octets.starts_with(b"+"), "{heard:?}");
            Ok(())
        },
    )?;
    ensure!(left.came.windows(MESSAGE.len()).any(|window| window == MESSAGE), "the server did not get it");
    Ok(())
}

#[test]
fn an_upload_over_the_limit_is_refused_before_it_is_sent() -> Result<()> {
    const TOO_MUCH_BYTES: usize = 64 * 1024 * 1024 + 1;
    let left = between(
        &[MESSAGE],
        |_, _| Ok(false),
        |session| {
            let heard = session.hear(&format!("APPEND INBOX {{{TOO_MUCH_BYTES}}}"))?;
            ensure!(heard.is_refused() && heard.says("[LIMIT]"), "{heard:?}");
            session.noop()
        },
    )?;
    ensure!(!left.came.windows(6).any(|window| window == b"APPEND"), "the server was asked");
    Ok(())
}

#[test]
fn base64_in_base64_ends_no_session() -> Result<()> {
    // No mail program decodes twice: it may come or not.
    let inner = base64(&base64(&eicar()));
    let message = [b"Subject: x\r\nContent-Transfer-Encoding: base64\r\n\r\n".to_vec(), inner].concat();
    between(
        &[&message],
        |_, _| Ok(false),
        |session| {
            let heard = session.hear("FETCH 1 (BODY.PEEK[])")?;
            ensure!(heard.is_ok(), "{heard:?}");
            session.noop()
        },
    )?;
    Ok(())
}

#[test]
fn no_form_of_upload_takes_a_hostile_message_to_the_server() -> Result<()> {
    let sample = pe_message();
    let checked = sample.clone();
    let left = between(
        &[MESSAGE],
        |_, _| Ok(false),
        |session| {
            let size = checked.octets.len();
            let good = MESSAGE.len();
            // What stands before the first literal, between the two if there are two, and at the end.
            for (number, (before, between, after)) in [
                (format!("APPEND INBOX (\\Seen) \"24-Nov-2026 08:00:00 +0000\" {{{size}}}"), "", ""),
                (format!("APPEND INBOX {{{good}}}"), " (\\Seen) ", ""),
                ("APPEND INBOX UTF8 (~{".to_owned() + &format!("{size}}}"), "", ")"),
                (format!("REPLACE 1 INBOX {{{size}}}"), "", ""),
                (format!("UID REPLACE 7 INBOX (\\Seen) {{{size}}}"), "", ""),
                (format!("APPEND INBOX CATENATE (TEXT {{{size}}}"), "", ")"),
                (format!("XAPPEND INBOX {{{size}}}"), "", ""),
            ]
            .into_iter()
            .enumerate()
            {
                let tag = format!("u{number}");
                let mut next = format!("{tag} {before}\r\n").into_bytes();
                let mut literals = vec![checked.octets.as_slice()];
                if !between.is_empty() {
                    literals.insert(0, MESSAGE);
                }
                let mut refused = None;
                for (at, literal) in literals.iter().enumerate() {
                    session.send(&next)?;
                    let line = session.line()?;
                    if !line.starts_with('+') {
                        refused = Some(line);
                        break;
                    }
                    next = literal.to_vec();
                    if at + 1 < literals.len() {
                        next.extend_from_slice(format!("{between}{{{size}}}\r\n").as_bytes());
                    }
                }
                let said = match refused {
                    Some(line) => line,
                    None => {
                        next.extend_from_slice(format!("{after}\r\n").as_bytes());
                        session.send(&next)?;
                        format!("{tag} {}", session.hear_until(&tag)?.tagged.unwrap_or_default())
                    }
                };
                let words = [format!("{tag} NO"), format!("{tag} BAD")];
                ensure!(words.iter().any(|word| said.starts_with(word)), "{before}: {said}");
                session.noop()?;
            }
            Ok(())
        },
    )?;
    ensure!(!sample.is_in(&left.came), "the server saw {}", shown(&left.came));
    Ok(())
}
