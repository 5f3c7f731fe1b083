use proptest::prelude::*;

use super::*;

const BOUNDS: FrameBounds = FrameBounds { text: 64 };

/// What a reader of the frames can tell: units with their literals, whatever the pieces in which they came.
#[derive(Debug, Default, PartialEq)]
struct Read {
    units: Vec<Vec<u8>>,
    literals: Vec<LiteralHead>,
    /// Units whose last line ended in a bare line feed.
    bare: usize,
    fault: Option<FramingFault>,
    left: Vec<u8>,
}

fn read<'a>(speaker: Speaker, pieces: impl Iterator<Item = &'a [u8]>) -> Read {
    let mut framer = Framer::new(speaker, BOUNDS);
    let mut read = Read::default();
    for mut piece in pieces {
        while !piece.is_empty() {
            let literal_left = framer.literal_left();
            let frame = match framer.take(piece) {
                Ok(frame) => frame,
                Err(fault) => {
                    assert_eq!(framer.take(b"a NOOP\r\n"), Err(fault), "a fault is final");
                    read.fault = Some(fault);
                    read.left.clear();
                    return read;
                }
            };
            assert!(frame.octets > 0);
            assert!(literal_left == 0 || frame.octets as u64 <= literal_left);
            let (taken, rest) = piece.split_at(frame.octets);
            read.left.extend_from_slice(taken);
            piece = rest;
            match frame.step {
                FrameStep::More => {}
                FrameStep::Literal(head) => read.literals.push(head),
                FrameStep::Whole => {
                    read.units.push(std::mem::take(&mut read.left));
                    read.bare += usize::from(frame.bare_line_feed);
                }
            }
            assert_eq!(framer.is_at_boundary(), read.left.is_empty());
        }
    }
    read
}

fn client(octets: &[u8]) -> Read {
    read(Speaker::Client, std::iter::once(octets))
}

fn server(octets: &[u8]) -> Read {
    read(Speaker::Server, std::iter::once(octets))
}

fn literal(octets: u64, sync: bool, binary: bool) -> LiteralHead {
    LiteralHead { octets, sync, binary }
}

#[test]
fn literals_of_a_client() {
    for (line, head) in [
        ("a LOGIN {5}\r\nhello x\r\n", literal(5, true, false)),
        ("a LOGIN {5+}\r\nhello x\r\n", literal(5, false, false)),
        ("a APPEND b ~{5}\r\nh\0llo\r\n", literal(5, true, true)),
        ("a APPEND b ~{5+}\r\nh\0llo\r\n", literal(5, false, true)),
        ("a APPEND b (~{5+}\r\n\r\n\r\n))\r\n", literal(5, false, true)),
        ("a LOGIN {005}\r\nhello x\r\n", literal(5, true, false)),
        ("a LOGIN {0}\r\n x\r\n", literal(0, true, false)),
        ("a LOGIN \"{5}\r\nhello x\r\n", literal(5, true, false)),
        ("a LOGIN {{5}\r\nhello x\r\n", literal(5, true, false)),
        ("a LOGIN {9{5}\r\nhello x\r\n", literal(5, true, false)),
        ("a LOGIN ~~{5}\r\nhello x\r\n", literal(5, true, true)),
        ("a LOGIN {5}\nhello x\r\n", literal(5, true, false)),
    ] {
        let read = client(line.as_bytes());
        assert_eq!((read.units, read.literals), (vec![line.as_bytes().to_vec()], vec![head]), "{line:?}");
    }
}

#[test]
fn braces_that_announce_nothing() {
    for line in [
        "a LOGIN {}\r\n",
        "a LOGIN {+}\r\n",
        "a LOGIN {-1}\r\n",
        "a LOGIN {5-}\r\n",
        "a LOGIN {5++}\r\n",
        "a LOGIN {+5}\r\n",
        "a LOGIN { 5}\r\n",
        "a LOGIN {5 }\r\n",
        "a LOGIN {5} \r\n",
        "a LOGIN {5}}\r\n",
        "a LOGIN {5}x\r\n",
        "a LOGIN 5}\r\n",
        "a LOGIN {0x5}\r\n",
        "a LOGIN {5\r\n",
    ] {
        let read = client(line.as_bytes());
        assert_eq!((read.units, read.literals), (vec![line.as_bytes().to_vec()], vec![]), "{line:?}");
        assert_eq!(server(format!("* X {line}").as_bytes()).literals, []);
    }
}

#[test]
fn only_untagged_data_of_a_server_has_literals() {
    for line in [
        "* OK {3}\r\n",
        "* ok {3}\r\n",
        "* NO {3}\r\n",
        "* BAD {3}\r\n",
        "* BYE {3}\r\n",
        "* PREAUTH {3}\r\n",
        "* preauth [X] ~{3}\r\n",
        "* OK {99999999999999999999}\r\n",
        "* OK {3+}\r\n",
        "a1 OK {3}\r\n",
        "a1 FETCH {3}\r\n",
        "+ {3}\r\n",
        "+{3}\r\n",
        "*{3}\r\n",
        "{3}\r\n",
    ] {
        let read = server(line.as_bytes());
        assert_eq!((read.units, read.literals), (vec![line.as_bytes().to_vec()], vec![]), "{line:?}");
    }
    for line in [
        "* LIST () \"/\" {3}\r\nabc\r\n",
        "* 5 FETCH (BODY[] {3}\r\nabc)\r\n",
        "* 5 FETCH (BODY[] ~{3}\r\na\0c)\r\n",
        "* OKAY {3}\r\nabc\r\n",
        "* O {3}\r\nabc\r\n",
        "* {3}\r\nabc\r\n",
        "*  OK {3}\r\nabc\r\n",
        "* PREAUTHS {3}\r\nabc\r\n",
        "* X {3}\r\nabc* OK {3}\r\nabc\r\n",
    ] {
        let read = server(line.as_bytes());
        assert_eq!(read.units, [line.as_bytes()], "{line:?}");
        assert!(read.literals.iter().all(|head| head.octets == 3 && !head.sync), "{line:?}");
    }
}

#[test]
fn the_kind_of_a_unit_is_its_own() {
    let read = server(b"* OK {3}\r\n* X {3}\r\nabc {1}\r\nx\r\n* BYE {3}\r\n* X {2}\r\nab\r\na OK {1}\r\n");
    assert_eq!(read.units.len(), 5);
    assert_eq!(read.literals.iter().map(|head| head.octets).collect::<Vec<_>>(), [3, 1, 2]);
}

#[test]
fn faults() {
    let long = [b'x'; 65];
    let cases: [(Speaker, &[u8], FramingFault); 13] = [
        (Speaker::Client, &long, FramingFault::TooLong(64)),
        (Speaker::Server, &long, FramingFault::TooLong(64)),
        (Speaker::Client, b"a\0", FramingFault::Nul),
        (Speaker::Server, b"* X {1}\r\n\0\0", FramingFault::Nul),
        (Speaker::Client, b"a\rb", FramingFault::BareCarriageReturn),
        (Speaker::Client, b"a\r\r\n", FramingFault::BareCarriageReturn),
        (Speaker::Client, b"a\r\0", FramingFault::BareCarriageReturn),
        (Speaker::Server, b"a\rb", FramingFault::BareCarriageReturn),
        (Speaker::Server, b"* OK x\n", FramingFault::BareLineFeed),
        (Speaker::Server, b"* X {3}\n", FramingFault::BareLineFeed),
        (Speaker::Client, b"a {4294967296}\r\n", FramingFault::LiteralTooLong),
        (Speaker::Server, b"* X {99999999999999999999999}\r\n", FramingFault::LiteralTooLong),
        (Speaker::Server, b"* X {3+}\r\n", FramingFault::ServerNonSync),
    ];
    for (speaker, octets, fault) in cases {
        assert_eq!(read(speaker, std::iter::once(octets)).fault, Some(fault), "{octets:?}");
        assert_eq!(read(speaker, octets.chunks(1)).fault, Some(fault), "{octets:?}");
    }
}

#[test]
fn the_bound_is_exact_and_starts_again_with_each_unit() {
    let line = [&[b'x'; 62][..], b"\r\n"].concat();
    assert_eq!(server(&line.repeat(3)).units.len(), 3);
    let with_literals =
        [b"a {100}\r\n".as_slice(), &[0; 100], b" {200}\r\n", &[0; 200], &[b'x'; 45], b"\r\n"].concat();
    assert_eq!(client(&with_literals).units.len(), 1);
    let one_more =
        [b"a {100}\r\n".as_slice(), &[0; 100], b" {200}\r\n", &[0; 200], &[b'x'; 46], b"\r\n"].concat();
    assert_eq!(client(&one_more).fault, Some(FramingFault::TooLong(64)));
}

#[test]
fn the_largest_literal() {
    let mut framer = Framer::new(Speaker::Server, BOUNDS);
    let frame = framer.take(b"* X {4294967295}\r\nabc").unwrap();
    assert_eq!(frame.step, FrameStep::Literal(literal(4_294_967_295, false, false)));
    assert_eq!(framer.take(b"abc").unwrap().octets, 3);
    assert_eq!(framer.literal_left(), 4_294_967_292);
}

#[test]
fn a_person_ends_lines_with_a_bare_line_feed() {
    let read = client(b"a NOOP\nb LOGIN {3}\nabc {1}\r\nx\nc NOOP\r\n");
    assert_eq!((read.units.len(), read.literals.len(), read.bare), (3, 2, 2));
}

const CLIENT: &[u8] =
    b"a LOGIN {3+}\r\na\r\n {0}\r\n\r\nb APPEND x ~{4}\r\n{3}\0 {2+}\r\n\r\n\nc OK {3\n\r\n";
const SERVER: &[u8] =
    b"* PREAUTH {1}\r\n* 1 FETCH (BODY[] {6}\r\n\n\r{1}\r X \"~{1}\" ~{0}\r\n)\r\n* OK {2}\r\n+ {2}\r\n\
    * BYES {2}\r\n\r\n\r\na OK x\r\n";

#[test]
fn every_split_reads_the_same() {
    for (speaker, octets) in [(Speaker::Client, CLIENT), (Speaker::Server, SERVER)] {
        let whole = read(speaker, std::iter::once(octets));
        assert_eq!((whole.fault, whole.left.len()), (None, 0));
        for size in 1..octets.len() {
            assert_eq!(read(speaker, octets.chunks(size)), whole);
        }
        for at in 0..octets.len() {
            let (before, behind) = octets.split_at(at);
            assert_eq!(read(speaker, [before, behind].into_iter()), whole, "{at}");
            let prefix = read(speaker, std::iter::once(before));
            assert_eq!(prefix.units, whole.units[..prefix.units.len()]);
            assert_eq!([prefix.units.concat(), prefix.left].concat(), before);
        }
    }
}

fn octets() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        Just(b"\r\n".to_vec()),
        Just(b"* ".to_vec()),
        Just(b"OK ".to_vec()),
        Just(b"{1}\r\n".to_vec()),
        Just(b"~{2+}\r\n".to_vec()),
        "[{}+~0-9 a\r\n]{1,4}".prop_map(String::into_bytes),
        proptest::collection::vec(any::<u8>(), 1..4),
    ];
    proptest::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn any_octets_read_the_same_however_they_are_split(octets in octets(), size in 1_usize..9) {
        for speaker in [Speaker::Client, Speaker::Server] {
            let whole = read(speaker, std::iter::once(&octets[..]));
            prop_assert_eq!(read(speaker, octets.chunks(size)), whole);
        }
    }
}
