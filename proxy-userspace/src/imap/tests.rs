use super::frame::CLIENT_TEXT_BYTES_MAX;
use super::*;

/// What clients and servers say.
mod dialogues;

use dialogues::{CLIENTS, SERVERS};

fn bounds() -> FrameBounds {
    FrameBounds { text: CLIENT_TEXT_BYTES_MAX }
}

/// The units of a stream that comes in these pieces, and what is left without an end.
fn units<'a>(speaker: Speaker, pieces: impl Iterator<Item = &'a [u8]>) -> (Vec<Vec<u8>>, Vec<u8>) {
    let mut framer = Framer::new(speaker, bounds());
    let mut units = Vec::new();
    let mut unit = Vec::new();
    for mut piece in pieces {
        while !piece.is_empty() {
            let frame = framer.take(piece).unwrap();
            assert!(!frame.bare_line_feed, "a literal is counted wrong");
            unit.extend_from_slice(&piece[..frame.octets]);
            piece = &piece[frame.octets..];
            if frame.step == FrameStep::Whole {
                units.push(std::mem::take(&mut unit));
            }
        }
    }
    (units, unit)
}

fn octets(dialogue: &str) -> Vec<u8> {
    dialogue.replace('\n', "\r\n").into_bytes()
}

#[test]
fn dialogues_read_the_same_however_they_are_split() {
    let clients = CLIENTS.iter().map(|(name, text)| (Speaker::Client, *name, *text));
    let servers = SERVERS.iter().map(|(name, text)| (Speaker::Server, *name, *text));
    for (speaker, name, text) in clients.chain(servers) {
        let octets = octets(text);
        let whole = units(speaker, std::iter::once(&octets[..]));
        assert!(whole.0.len() > 3 && whole.1.is_empty(), "{name}");
        for size in 1..octets.len() {
            assert_eq!(units(speaker, octets.chunks(size)), whole, "{name} in pieces of {size}");
        }
        for at in 0..octets.len() {
            let (before, behind) = octets.split_at(at);
            assert_eq!(units(speaker, [before, behind].into_iter()), whole, "{name} at {at}");
            let prefix = units(speaker, std::iter::once(before));
            assert_eq!(prefix.0, whole.0[..prefix.0.len()], "{name} to {at}");
        }
    }
}

#[test]
fn each_command_of_a_client_parses() {
    for (name, text) in CLIENTS {
        for unit in units(Speaker::Client, std::iter::once(&octets(text)[..])).0 {
            let said = String::from_utf8_lossy(&unit).into_owned();
            if said == "DONE\r\n" {
                continue;
            }
            let command =
                ClientCommand::parse(&unit).unwrap_or_else(|fault| panic!("{name}: {said}: {fault:?}"));
            assert_ne!(command.verb, Verb::Other, "{name}: {said}");
            for len in 0..unit.len() {
                let _ = (ClientCommand::parse(&unit[..len]), literal_role(&unit[..len]));
            }
        }
    }
}

#[test]
fn each_response_of_a_server_parses() {
    for (name, text) in SERVERS {
        for unit in units(Speaker::Server, std::iter::once(&octets(text)[..])).0 {
            let said = String::from_utf8_lossy(&unit).into_owned();
            let response = parse(&unit).unwrap_or_else(|fault| panic!("{name}: {said}: {fault:?}"));
            match response {
                Response::Data { name: kind, .. } => assert_ne!(kind, DataName::Other, "{name}: {said}"),
                Response::Fetch(response) => check_items(&said, &unit, &response),
                _ => {}
            }
            for len in 0..unit.len() {
                assert!(
                    !matches!(parse(&unit[..len]), Ok(Response::Fetch(_) | Response::Exists(_))),
                    "{said} to {len}"
                );
            }
        }
    }
}

/// Nothing is unknown, and the items with the spaces between them are the whole list.
fn check_items(said: &str, unit: &[u8], response: &FetchResponse) {
    assert!(response.items.iter().all(|item| item.kind != AnsweredKind::Unknown), "{said}");
    let items: Vec<&[u8]> = response.items.iter().map(|item| &unit[item.range.clone()]).collect();
    let head = format!("* {} FETCH (", response.number);
    assert_eq!([head.as_bytes(), &items.join(&b' '), b")\r\n"].concat(), unit, "{said}");
    for item in &response.items {
        if let (AnsweredKind::Structure { .. }, ItemValue::Other(value)) = (&item.kind, &item.value) {
            let is_believed = Structure::parse(&unit[value.clone()]).is_some();
            assert_eq!(is_believed, !said.contains("malformed"), "{said}");
        }
    }
}
