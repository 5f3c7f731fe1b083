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
