//! Bodies that nobody asked for, and such as come in pieces or in other clothes.

use anyhow::{Context as _, Result, ensure};
use postern_tests::corpus::make::eicar;
use postern_tests::corpus::pe_message;
use postern_tests::fetched::{Heard, shown};
use postern_tests::imap_script::{Desk, literal, respond};

use super::against::{between, clear, forged, forged_in_pieces, is_fetch, nothing_of};

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
