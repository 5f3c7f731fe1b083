//! Which message an answer is about: honest, out of order, changed, expunged, or another one.

use std::time::Duration;

use anyhow::{Result, ensure};
use postern_tests::corpus::pe_message;
use postern_tests::fetched::{Heard, shown};
use postern_tests::imap_script::Book;
use postern_tests::scene::MESSAGE;

use super::against::{between, clear, forged, is_fetch, nothing_of};

#[test]
fn an_honest_answer_comes_with_its_program_removed() -> Result<()> {
    let sample = pe_message();
    let checked = sample.clone();
    between(
        &[&sample.octets, MESSAGE],
        |_, _| Ok(false),
        |session| {
            let whole = session.exchange("FETCH 1 BODY.PEEK[]")?.ok()?.octets()?.concat();
            checked.arrived_as(&checked.octets, &whole)?;
            let leaf = checked.leaves[0].clone();
            let part = session.exchange("UID FETCH 7 (BODY.PEEK[2])")?.ok()?.octets()?.concat();
            ensure!(part == whole[leaf.clone()], "another fill of the part");
            let piece = session.exchange("FETCH 1 BODY.PEEK[2]<100.200>")?.ok()?.octets()?.concat();
            ensure!(piece == whole[leaf.start + 100..leaf.start + 300], "another fill of a piece");
            let clean = session.exchange("FETCH 2 (FLAGS BODY.PEEK[])")?.ok()?.octets()?.concat();
            ensure!(clean == MESSAGE, "a clean message changed");
            Ok(())
        },
    )?;
    Ok(())
}

#[test]
fn completions_out_of_order_bring_each_its_own() -> Result<()> {
    let sample = pe_message();
    let checked = sample.clone();
    between(
        &[&sample.octets, MESSAGE],
        move |desk, asked| {
            // If another command is there already, it is answered first.
            let mut all = vec![asked.clone()];
            while is_fetch(asked) && desk.is_waited_for(Duration::from_millis(200))? {
                let Some(next) = desk.command()? else { break };
                all.push(next);
            }
            for asked in all.iter().rev() {
                desk.answer(asked)?;
            }
            Ok(true)
        },
        |session| {
            let one = session.send_command("FETCH 1 (FLAGS)")?;
            let two = session.send_command("FETCH 2 (BODY.PEEK[])")?;
            let three = session.send_command("FETCH 1 (BODY.PEEK[])")?;
            let (mut octets, mut done) = (Vec::new(), 0);
            while done < 3 {
                let unit = session.unit()?;
                done += usize::from([&one, &two, &three].iter().any(|tag| unit.starts_with(tag.as_bytes())));
                octets.extend(unit);
            }
            let heard = Heard { octets, tagged: None };
            nothing_of(&checked, &heard)?;
            ensure!(heard.says(MESSAGE), "the clean message did not come: {}", shown(&heard.octets));
            Ok(())
        },
    )?;
    Ok(())
}

#[test]
fn content_that_changes_under_a_uid_is_judged_anew() -> Result<()> {
    let sample = clear()?;
    let checked = sample.clone();
    let mut good = sample.octets.clone();
    good[sample.leaves[0].clone()].fill(b'x');
    let hostile = Book::new(&sample.octets, 7);
    let mut turn = 0;
    between(
        &[&good],
        move |desk, asked| {
            if is_fetch(asked) {
                turn += 1;
                if turn == 2 {
                    desk.shelf[0] = hostile.clone();
                }
            }
            Ok(false)
        },
        |session| {
            for command in [
                "UID FETCH 7 BODY.PEEK[]",
                "UID FETCH 7 BODY.PEEK[]",
                "UID FETCH 7 BODY.PEEK[]<200.1000>",
                "UID FETCH 7 BODY.PEEK[2]",
            ] {
                let heard = session.hear(command)?;
                nothing_of(&checked, &heard)?;
            }
            Ok(())
        },
    )?;
    Ok(())
}

#[test]
fn an_expunge_between_command_and_answer_brings_nothing_forbidden() -> Result<()> {
    let sample = clear()?;
    let checked = sample.clone();
    between(
        &[MESSAGE, &sample.octets],
        |desk, asked| {
            if !is_fetch(asked) || desk.shelf.len() < 2 {
                return Ok(false);
            }
            desk.say("* 1 EXPUNGE\r\n")?;
            desk.shelf.remove(0);
            // What was the second message is the first now.
            let answer = desk.shelf[0].answer(1, asked);
            desk.say(answer)?;
            desk.done(asked)?;
            Ok(true)
        },
        |session| {
            let heard = session.hear("FETCH 1 BODY.PEEK[]")?;
            nothing_of(&checked, &heard)?;
            if !heard.is_cut() {
                nothing_of(&checked, &session.hear("FETCH 1 BODY.PEEK[]")?)?;
            }
            Ok(())
        },
    )?;
    Ok(())
}

#[test]
fn an_answer_about_another_message_brings_nothing_forbidden() -> Result<()> {
    let heard = forged(&clear()?, "UID FETCH 7 (BODY.PEEK[2])", |book, asked| {
        let mut other = book.clone();
        other.uid = 8;
        other.answer(1, asked)
    })?;
    ensure!(!heard.says("UID 8 BODY[") || !heard.says("EICAR"), "{}", shown(&heard.octets));
    Ok(())
}
