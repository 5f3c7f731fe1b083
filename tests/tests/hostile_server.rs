//! A server that does what real servers do not, to get forbidden octets to its client or to bring the gateway down. Each
//! test says what the client must see, and what it must not.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use postern_tests::client::Session;
use postern_tests::corpus::make::{base64, eicar};
use postern_tests::corpus::{Sample, hostile, pe_message};
use postern_tests::fetched::{Heard, shown};
use postern_tests::imap_script::{Asked, Book, Desk, literal, respond, serve};
use postern_tests::lab::Family;
use postern_tests::mediated::policy;
use postern_tests::scene::{MESSAGE, Scene};

/// What one test leaves behind.
struct Left {
    /// Every octet that reached the server.
    came: Vec<u8>,
}

/// A client and a scripted server with Postern between; the mailbox holds these messages with UIDs from 7 on.
fn between(
    messages: &[&[u8]],
    script: impl FnMut(&mut Desk, &Asked) -> Result<bool> + Send + 'static,
    client: impl FnOnce(&mut Session) -> Result<()>,
) -> Result<Left> {
    let scene = Scene::new(&policy())?;
    let postern = scene.start()?;
    let shelf = (7..).zip(messages).map(|(uid, octets)| Book::new(octets, uid)).collect();
    let server = serve(&scene, shelf, script)?;
    let mut session = scene.session(Family::V4, 993)?;
    session.enter()?;
    let done = client(&mut session);
    drop(session);
    done.with_context(|| postern.log())?;
    let came = server.result()?;
    postern.wait_records(1)?;
    postern.stop()?;
    scene.finish()?;
    Ok(Left { came })
}

fn is_fetch(asked: &Asked) -> bool {
    asked.verb.ends_with("FETCH")
}

/// The EICAR file in clear, as an attachment.
fn clear() -> Result<Sample> {
    let sample = hostile().into_iter().find(|sample| sample.name == "eicar in clear");
    sample.context("the corpus has no such message")
}

/// That nothing forbidden came, in this form or in one that decodes to it.
fn nothing_of(sample: &Sample, heard: &Heard) -> Result<()> {
    ensure!(!sample.is_in(&heard.octets), "{} came: {}", sample.name, shown(&heard.octets));
    Ok(())
}

/// What comes of a FETCH whose answer the script forges, and of a NOOP behind it.
fn forged_in_pieces(
    sample: &Sample,
    command: &'static str,
    forge: impl Fn(&Book, &Asked) -> Vec<u8> + Send + 'static,
) -> Result<Heard> {
    let mut kept = None;
    between(
        &[&sample.octets],
        move |desk, asked| {
            if !is_fetch(asked) {
                return Ok(false);
            }
            let book = desk.shelf.first().context("an empty mailbox")?;
            let answer = forge(book, asked);
            desk.say(answer)?;
            desk.done(asked)?;
            Ok(true)
        },
        |session| {
            let mut heard = session.hear(command)?;
            if !heard.is_cut() {
                heard.octets.extend(session.hear("NOOP")?.octets);
            }
            kept = Some(heard);
            Ok(())
        },
    )?;
    kept.context("the client heard nothing")
}

/// The same: nothing forbidden comes, and the session goes on or ends.
fn forged(
    sample: &Sample,
    command: &'static str,
    forge: impl Fn(&Book, &Asked) -> Vec<u8> + Send + 'static,
) -> Result<Heard> {
    let heard = forged_in_pieces(sample, command, forge)?;
    nothing_of(sample, &heard)?;
    Ok(heard)
}

// The lab itself: an honest answer passes.

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

// Bodies that nobody asked for.

#[test]
fn a_body_that_nobody_asked_for_brings_nothing_forbidden() -> Result<()> {
    let sample = clear()?;
    let checked = sample.clone();
    let body = |desk: &Desk| {
        let items =
            ["UID", "FLAGS", "BODY[]"].map(|item| desk.shelf[0].item(item).expect("it has this item"));
        respond(1, &items)
    };
    between(
        &[&sample.octets],
        move |desk, asked| {
            if ["NOOP", "STORE", "SEARCH"].contains(&asked.verb.as_str()) {
                let body = body(desk);
                desk.say(body)?;
            }
            Ok(false)
        },
        |session| {
            for command in ["NOOP", "STORE 1 +FLAGS (\\Seen)", "SEARCH ALL", "NOOP"] {
                let heard = session.hear(command)?;
                nothing_of(&checked, &heard).with_context(|| command)?;
                if heard.is_cut() {
                    break;
                }
            }
            Ok(())
        },
    )?;
    Ok(())
}

#[test]
fn a_body_that_nobody_asked_for_brings_nothing_forbidden_while_the_client_idles() -> Result<()> {
    let sample = clear()?;
    let checked = sample.clone();
    between(
        &[&sample.octets],
        |desk, asked| {
            if asked.verb == "IDLE" {
                let items = ["FLAGS", "BODY[2]"].map(|item| desk.shelf[0].item(item).expect("an item"));
                desk.say("+ idling\r\n* 2 EXISTS\r\n")?;
                desk.say(respond(1, &items))?;
                desk.say("* 1 RECENT\r\n")?;
                let end = desk.command()?;
                ensure!(
                    end.is_some_and(|end| end.tag.eq_ignore_ascii_case("DONE\r\n")
                        || end.tag.trim().eq_ignore_ascii_case("DONE")),
                    "no DONE"
                );
                desk.done(asked)?;
                return Ok(true);
            }
            Ok(false)
        },
        |session| {
            let tag = session.send_command("IDLE")?;
            let go = session.line()?;
            ensure!(go.starts_with('+'), "{go}");
            session.send(b"DONE\r\n")?;
            let heard = session.hear_until(&tag)?;
            nothing_of(&checked, &heard)
        },
    )?;
    Ok(())
}

#[test]
fn more_sections_than_were_asked_for_bring_nothing_forbidden() -> Result<()> {
    let heard = forged(&clear()?, "FETCH 1 BODY.PEEK[1]", |book, asked| {
        let mut items: Vec<_> = asked.items().iter().filter_map(|item| book.item(item)).collect();
        items.extend(["BODY[2]", "BODY[]", "RFC822.TEXT"].iter().filter_map(|item| book.item(item)));
        respond(1, &items)
    })?;
    ensure!(heard.is_cut() || heard.is_refused() || heard.says("BODY[1]"), "{}", shown(&heard.octets));
    Ok(())
}

#[test]
fn another_section_than_was_asked_for_brings_nothing_forbidden() -> Result<()> {
    forged(&clear()?, "FETCH 1 BODY.PEEK[1]", |book, _| {
        respond(1, &["UID", "BODY[2]"].map(|item| book.item(item).expect("an item")))
    })?;
    Ok(())
}

// Bodies in pieces, and in other clothes.

#[test]
fn an_answer_split_over_several_responses_brings_nothing_forbidden() -> Result<()> {
    forged(&clear()?, "FETCH 1 (UID BODY.PEEK[2])", |book, asked| {
        let items: Vec<_> = asked.items().iter().filter_map(|item| book.item(item)).collect();
        items.iter().rev().flat_map(|item| respond(1, std::slice::from_ref(item))).collect()
    })?;
    Ok(())
}

#[test]
fn a_part_split_over_two_responses_brings_nothing_forbidden() -> Result<()> {
    for label in ["BODY[2]", "BODY[]"] {
        let heard = forged_in_pieces(&clear()?, "FETCH 1 (UID BODY.PEEK[2])", move |book, _| {
            let (one, two) = book.section("2").split_at(30);
            let uid = book.item("UID").expect("a UID");
            let piece = |from: usize, octets: &[u8]| {
                let label = if from == 0 { label.to_owned() } else { format!("{label}<{from}>") };
                respond(1, &[uid.clone(), (label, literal(octets))])
            };
            [piece(0, one), piece(30, two)].concat()
        })?;
        halves_do_not_come(&heard)?;
    }
    Ok(())
}

/// Of the EICAR file, neither of two pieces whose scan apart finds nothing may come as such.
fn halves_do_not_come(heard: &Heard) -> Result<()> {
    let file = eicar();
    let (one, two) = file.split_at(30);
    ensure!(!(heard.says(one) && heard.says(two)), "both halves came: {}", shown(&heard.octets));
    Ok(())
}

#[test]
fn a_range_in_place_of_the_whole_is_not_believed() -> Result<()> {
    // One half for each of two commands that asked for the whole.
    let sample = clear()?;
    let mut turn = 0;
    between(
        &[&sample.octets],
        move |desk, asked| {
            if !is_fetch(asked) {
                return Ok(false);
            }
            let book = &desk.shelf[0];
            let (one, two) = book.section("2").split_at(30);
            let (from, piece) = if turn % 2 == 0 { (0, one) } else { (30, two) };
            turn += 1;
            let mut items: Vec<_> = asked.items().iter().filter_map(|item| book.item(item)).collect();
            items.retain(|(name, _)| name != "BODY[2]");
            items.push((format!("BODY[2]<{from}>"), literal(piece)));
            let answer = respond(1, &items);
            desk.say(answer)?;
            desk.done(asked)?;
            Ok(true)
        },
        |session| {
            let mut all = Heard { octets: Vec::new(), tagged: None };
            for command in
                ["FETCH 1 BODY.PEEK[2]<0.30>", "FETCH 1 BODY.PEEK[2]<30.100>", "FETCH 1 BODY.PEEK[2]"]
            {
                let heard = session.hear(command)?;
                all.octets.extend(&heard.octets);
                if heard.is_cut() {
                    break;
                }
            }
            halves_do_not_come(&all)
        },
    )?;
    Ok(())
}

#[test]
fn the_whole_in_place_of_a_range_brings_nothing_forbidden() -> Result<()> {
    for label in ["BODY[2]<0>", "BODY[2]", "BODY[]<0>"] {
        forged(&clear()?, "FETCH 1 (UID BODY.PEEK[2]<0.10>)", move |book, asked| {
            let mut items: Vec<_> = asked.items().iter().filter_map(|item| book.item(item)).collect();
            items.retain(|(name, _)| !name.starts_with("BODY[2]"));
            items.push((label.to_owned(), literal(book.section("2"))));
            respond(1, &items)
        })?;
    }
    Ok(())
}

#[test]
fn a_body_as_a_quoted_string_brings_nothing_forbidden() -> Result<()> {
    forged(&clear()?, "FETCH 1 (UID BODY.PEEK[2])", |book, asked| {
        let mut items: Vec<_> = asked.items().iter().filter_map(|item| book.item(item)).collect();
        let text = String::from_utf8_lossy(book.section("2")).replace('\\', "\\\\").replace('"', "\\\"");
        for (name, value) in &mut items {
            if name == "BODY[2]" {
                *value = format!("\"{text}\"").into_bytes();
            }
        }
        respond(1, &items)
    })?;
    Ok(())
}

#[test]
fn a_body_as_a_binary_literal_brings_nothing_forbidden() -> Result<()> {
    for label in ["BODY[2]", "BINARY[2]"] {
        forged(&clear()?, "FETCH 1 (UID BODY.PEEK[2])", move |book, asked| {
            let mut items: Vec<_> = asked.items().iter().filter_map(|item| book.item(item)).collect();
            items.retain(|(name, _)| name != "BODY[2]");
            let value = [b"~".to_vec(), literal(book.section("2"))].concat();
            items.push((label.to_owned(), value));
            respond(1, &items)
        })?;
    }
    Ok(())
}

#[test]
fn a_body_twice_in_one_response_brings_nothing_forbidden() -> Result<()> {
    forged(&clear()?, "FETCH 1 (UID BODY.PEEK[2])", |book, asked| {
        let mut items: Vec<_> = asked.items().iter().filter_map(|item| book.item(item)).collect();
        items.insert(0, ("BODY[2]".to_owned(), literal(b"harmless")));
        items.push(("BODY[2]".to_owned(), literal(book.section("2"))));
        respond(1, &items)
    })?;
    Ok(())
}

#[test]
fn a_label_in_another_spelling_brings_nothing_forbidden() -> Result<()> {
    for label in ["body[2]", "BODY[02]", "BODY[2]<00>", "Body[2.]", "BODY[2 ]", "BODY [2]", "BODY[\"2\"]"] {
        forged(&clear()?, "FETCH 1 (UID BODY.PEEK[2])", move |book, asked| {
            let mut items: Vec<_> = asked.items().iter().filter_map(|item| book.item(item)).collect();
            items.retain(|(name, _)| name != "BODY[2]");
            items.push((label.to_owned(), literal(book.section("2"))));
            respond(1, &items)
        })?;
    }
    Ok(())
}

#[test]
fn a_part_whose_header_lies_brings_nothing_forbidden() -> Result<()> {
    for header in [
        "Content-Type: text/plain\r\n\r\n",
        "Content-Type: image/png\r\nContent-Transfer-Encoding: base64\r\n\r\n",
        "Content-Type: text/plain\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n",
        "",
    ] {
        forged(&pe_message(), "FETCH 1 (UID BODY.PEEK[2])", move |book, asked| {
            let mut items: Vec<_> = asked.items().iter().filter_map(|item| book.item(item)).collect();
            for (name, value) in &mut items {
                if name == "BODY[2.MIME]" {
                    *value = literal(header.as_bytes());
                }
            }
            respond(1, &items)
        })?;
    }
    Ok(())
}

#[test]
fn a_structure_that_lies_brings_nothing_forbidden() -> Result<()> {
    for structure in
        ["(\"TEXT\" \"PLAIN\" NIL NIL NIL \"7BIT\" 3 1)", "(((((", "NIL", "()", "(\"TEXT\" \"PLAIN\" (\"a"]
    {
        forged(&pe_message(), "FETCH 1 (UID BODYSTRUCTURE BODY.PEEK[2])", move |book, asked| {
            let mut items: Vec<_> = asked.items().iter().filter_map(|item| book.item(item)).collect();
            for (name, value) in &mut items {
                if name == "BODYSTRUCTURE" {
                    *value = structure.as_bytes().to_vec();
                }
            }
            respond(1, &items)
        })?;
    }
    Ok(())
}

// Which message it is.

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

// Things that nobody knows.

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

// Framing.

/// The script says this in answer to NOOP; the session ends, and nothing forbidden comes, nor what stands behind.
fn misframed(said: Vec<u8>) -> Result<()> {
    let sample = clear()?;
    let checked = sample.clone();
    let text = shown(&said);
    between(
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

// Too much.

/// Octets that the daemon's processes hold in memory.
fn resident(pids: &[u32]) -> Result<u64> {
    let mut octets = 0;
    for pid in pids {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM")?;
        let kib: u64 = line.trim().trim_end_matches("kB").trim().parse()?;
        octets += kib * 1024;
    }
    Ok(octets)
}

#[test]
fn a_flood_of_what_nobody_asked_for_costs_no_memory() -> Result<()> {
    const ROUNDS: usize = 400;
    const BODY_BYTES: usize = 64 * 1024;
    const GROWTH_BYTES_MAX: u64 = 32 * 1024 * 1024;
    let scene = Scene::new(&policy())?;
    let postern = scene.start()?;
    let server = serve(&scene, vec![Book::new(MESSAGE, 7)], |desk, asked| {
        if asked.verb == "NOOP" {
            let body = literal(&b"sixteen octets\r\n".repeat(BODY_BYTES / 16));
            let one = respond(1, &[("UID".to_owned(), b"7".to_vec()), ("BODY[]".to_owned(), body)]);
            for _ in 0..ROUNDS {
                desk.say(&one)?;
            }
        }
        Ok(false)
    })?;
    let mut session = scene.session(Family::V4, 993)?;
    session.enter()?;
    let before = resident(&postern.processes()?)?;
    // In lines, which is how the lab's client reads.
    let heard = session.hear("NOOP")?;
    ensure!(heard.is_ok(), "the session ended");
    let after = resident(&postern.processes()?)?;
    ensure!(after < before + GROWTH_BYTES_MAX, "memory grew from {before} to {after}");
    drop(session);
    let _ = server.result();
    postern.stop()?;
    scene.finish()
}

#[test]
fn a_response_of_a_hundred_thousand_items_ends_or_passes_but_does_not_stall() -> Result<()> {
    const ITEMS: usize = 100_000;
    const LONGEST: Duration = Duration::from_secs(10);
    between(
        &[MESSAGE],
        |desk, asked| {
            if asked.verb == "NOOP" {
                let items = vec![("FLAGS".to_owned(), b"()".to_vec()); ITEMS];
                desk.say(respond(1, &items))?;
            }
            Ok(false)
        },
        |session| {
            let begun = Instant::now();
            let _ = session.hear("NOOP")?;
            ensure!(begun.elapsed() < LONGEST, "{:?}", begun.elapsed());
            Ok(())
        },
    )?;
    Ok(())
}

#[test]
fn a_message_over_the_limit_is_refused_by_words_or_by_an_end() -> Result<()> {
    let sample = clear()?;
    let checked = sample.clone();
    between(
        &[&sample.octets],
        |desk, asked| {
            if !is_fetch(asked) {
                return Ok(false);
            }
            // More than anybody has; then the forbidden part, and no end.
            desk.say("* 1 FETCH (UID 7 BODY[2] {4294967295}\r\n")?;
            desk.say(eicar())?;
            desk.hang_up();
            Ok(true)
        },
        |session| {
            let heard = session.hear("FETCH 1 (BODY.PEEK[2])")?;
            nothing_of(&checked, &heard)?;
            ensure!(!heard.is_ok(), "{}", shown(&heard.octets));
            Ok(())
        },
    )?;
    Ok(())
}

// While something is held.

#[test]
fn a_client_that_waits_for_a_held_answer_is_told_something() -> Result<()> {
    const SILENCE: Duration = Duration::from_secs(5);
    between(
        &[MESSAGE],
        |desk, asked| {
            if !is_fetch(asked) {
                return Ok(false);
            }
            let answer = desk.shelf[0].answer(1, asked);
            let (one, two) = answer.split_at(answer.len() / 2);
            desk.say(one)?;
            std::thread::sleep(SILENCE);
            desk.say(two)?;
            desk.done(asked)?;
            Ok(true)
        },
        |session| {
            let heard = session.hear("FETCH 1 (BODY.PEEK[])")?;
            ensure!(heard.is_ok() && heard.says(MESSAGE), "{}", shown(&heard.octets));
            let first = heard.octets.split(|&octet| octet == b'\n').next().unwrap_or_default();
            // K-9 reads the second and the third word of it.
            let words = String::from_utf8_lossy(first).split_whitespace().count();
            ensure!(first.starts_with(b"* OK ") && words > 2, "nothing before {}", shown(first));
            Ok(())
        },
    )?;
    Ok(())
}

// Uploads, as the server sees them.

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
