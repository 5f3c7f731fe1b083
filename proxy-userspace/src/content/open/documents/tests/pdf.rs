use flate2::{Compression, write::ZlibEncoder};

use super::*;

fn pdf(objects: &str) -> Vec<u8> {
    format!("%PDF-1.7\n{objects}\ntrailer << /Root 1 0 R >>\n%%EOF").into_bytes()
}

fn deflated(octets: &[u8]) -> Vec<u8> {
    let mut packed = ZlibEncoder::new(Vec::new(), Compression::default());
    packed.write_all(octets).unwrap();
    packed.finish().unwrap()
}

fn stream(number: u32, dictionary: &str, content: &[u8]) -> Vec<u8> {
    let head = format!("{number} 0 obj\n<< {dictionary} /Length {} >>\nstream\r\n", content.len());
    [b"%PDF-1.4\n", head.as_bytes(), content, b"\nendstream\nendobj\n"].concat()
}

#[test]
fn what_runs_is_active_content_however_its_name_is_written() {
    for object in [
        "1 0 obj << /OpenAction << /S /JavaScript /JS (app.alert(1)) >> >> endobj",
        "1 0 obj << /S /J#61vaScript >> endobj",
        "1 0 obj << /S/#4a#53 >> endobj",
        "1 0 obj<</S/#4c#61#75#6e#63#68/F(cmd.exe)>>endobj",
        "1 0 obj << /Type /EmbeddedFile >> endobj",
        "1 0 obj << /Names << /EmbeddedFiles 2 0 R >> >> endobj",
        "1 0 obj << /Subtype /RichMedia >> endobj",
        "1 0 obj << /AcroForm << /XFA 3 0 R >> >> endobj",
    ] {
        assert_eq!(looked(&pdf(object)).conditions(), [Condition::ActiveContent], "{object}");
    }
}

#[test]
fn an_object_stream_is_read_behind_its_filters() {
    let objects = b"1 0 2 30 << /S /JavaScript /JS (app.alert('here')) >> << /A 1 >>";
    let packed = deflated(objects);
    let hexadecimal = packed.iter().map(|octet| format!("{octet:02x}\n")).collect::<String>() + ">";
    let rows = objects.chunks(8).flat_map(|row| [&[0], row].concat()).collect::<Vec<_>>();
    for (filter, content) in [
        ("/Filter /FlateDecode", packed.clone()),
        ("/Filter /Fl", packed.clone()),
        ("/Filter[/AHx/FlateDecode]", hexadecimal.clone().into_bytes()),
        ("/F#69lter [ /ASCIIHex#44ecode /Flate#44ecode ]", hexadecimal.into_bytes()),
        ("/Filter /ASCII85Decode", ascii85(objects)),
        ("/Filter /LZWDecode", lzw(objects)),
        (
            "/Filter /RunLengthDecode",
            objects.chunks(64).flat_map(|run| [&[run.len() as u8 - 1], run].concat()).collect(),
        ),
        ("/Filter /FlateDecode /DecodeParms << /Predictor 12 /Columns 8 >>", deflated(&rows)),
        // A reader shows what comes before the stream breaks.
        ("/Filter /FlateDecode", packed[..packed.len() - 6].to_vec()),
        ("", objects.to_vec()),
    ] {
        let found = looked(&stream(5, &format!("/Type /ObjStm /N 2 /First 9 {filter}"), &content));
        assert_eq!(found.conditions(), [Condition::ActiveContent], "{filter}");
        assert!(found.has("script-1.js", b"app.alert('here')"), "{filter}");
    }
}

fn ascii85(octets: &[u8]) -> Vec<u8> {
    let mut text = Vec::new();
    for four in octets.chunks(4) {
        let mut word = [0; 4];
        word[..four.len()].copy_from_slice(four);
        let mut value = u32::from_be_bytes(word);
        let mut digits = [0u8; 5];
        for digit in digits.iter_mut().rev() {
            *digit = b'!' + (value % 85) as u8;
            value /= 85;
        }
        text.extend_from_slice(&digits[..=four.len()]);
    }
    [text, b"~>".to_vec()].concat()
}

/// As PDF has it: codes that begin at nine bits and grow one code early.
fn lzw(octets: &[u8]) -> Vec<u8> {
    let (mut bits, mut table) = (Vec::new(), std::collections::HashMap::new());
    let mut put = |code: usize, width: usize| bits.extend((0..width).rev().map(|bit| code >> bit & 1 == 1));
    let mut width = 9;
    put(256, width);
    let mut word: Vec<u8> = Vec::new();
    let code = |word: &[u8], table: &std::collections::HashMap<Vec<u8>, usize>| match word {
        [octet] => usize::from(*octet),
        _ => table[word],
    };
    for octet in octets {
        let longer = [word.clone(), vec![*octet]].concat();
        if longer.len() == 1 || table.contains_key(&longer) {
            word = longer;
            continue;
        }
        put(code(&word, &table), width);
        let next = 258 + table.len();
        table.insert(longer, next);
        width = match next + 1 {
            ..511 => 9,
            511..1023 => 10,
            1023..2047 => 11,
            _ => 12,
        };
        word = vec![*octet];
    }
    put(code(&word, &table), width);
    put(257, width);
    bits.chunks(8)
        .map(|eight| eight.iter().enumerate().fold(0, |octet, (at, bit)| octet | u8::from(*bit) << (7 - at)))
        .collect()
}

#[test]
fn a_long_stream_of_lzw_is_read() {
    let objects = (0..2_000).map(|at| format!("<< /A {at} >> ")).collect::<String>() + "<< /S /JavaScript >>";
    let found = looked(&stream(5, "/Type /ObjStm /Filter /LZWDecode", &lzw(objects.as_bytes())));
    assert_eq!(found.conditions(), [Condition::ActiveContent]);
}

#[test]
fn an_embedded_file_is_a_member_with_its_name() {
    let program = program();
    let packed = deflated(&program);
    let named = "7 0 obj << /Type /Filespec /F (run.exe) /UF <feff00720075006e002e006500780065> /EF << /F 8 0 R >> >> endobj\n";
    for dictionary in ["/Type /EmbeddedFile /Filter /FlateDecode", "/Filter /FlateDecode", "/Filter 9 0 R"] {
        let file = [stream(8, dictionary, &packed), named.as_bytes().to_vec()].concat();
        let found = looked(&file);
        assert!(found.has("run.exe", &program), "{dictionary}");
    }
    let found = looked(&stream(8, "/Type/Embedded#46ile", &program));
    assert!(found.has("embedded", &[&program[..], b"\n"].concat()));
    assert_eq!(found.conditions(), [Condition::ActiveContent]);
}

/// The reader believes the length; the keyword stands in the stream, or in a string of its dictionary.
#[test]
fn a_stream_with_keywords_in_odd_places_is_read() {
    let packed = deflated(b"<< /S /JavaScript >>");
    let stored = {
        let mut packed = ZlibEncoder::new(Vec::new(), Compression::none());
        packed.write_all(b"(endstream endobj) << /S /JavaScript >>").unwrap();
        packed.finish().unwrap()
    };
    for (dictionary, content) in [
        ("/Type /ObjStm /Filter /FlateDecode /X (>> stream)", packed.clone()),
        ("/Type /ObjStm /X (endobj >>stream\nendstream) /Filter /FlateDecode", packed),
        ("/Type /ObjStm /Filter /FlateDecode", stored),
        // The filter of a dictionary within is that of another one.
        ("/X<</Filter/AHx>>/Type/ObjStm/Filter/FlateDecode", deflated(b"<< /S /JavaScript >>")),
    ] {
        assert_eq!(
            looked(&stream(5, dictionary, &content)).conditions(),
            [Condition::ActiveContent],
            "{dictionary}"
        );
    }
}

#[test]
fn a_stream_far_behind_its_dictionary_is_read_or_the_file_is_broken() {
    let packed = deflated(b"<< /S /JavaScript >>");
    for (between, condition) in [
        (" ".repeat(1_000), Condition::ActiveContent),
        (format!("% a comment >> of {} stream\n% more\r", "x".repeat(1_000)), Condition::ActiveContent),
        (" ".repeat(70_000), Condition::BrokenFile),
        (">>stream ".repeat(10) + ">>", Condition::BrokenFile),
    ] {
        let head = format!("%PDF-1.4\n5 0 obj\n<< /Type /ObjStm /Filter /FlateDecode >>{between}stream\n");
        let file = [head.as_bytes(), &packed, b"\nendstream\nendobj\n"].concat();
        assert_eq!(looked(&file).conditions(), [condition], "{}", &between[..12]);
    }
}

#[test]
fn more_filters_than_are_tried_make_the_file_broken() {
    let filters = (1..=9).map(|count| format!("/Filter[{}]", "/AHx".repeat(count))).collect::<String>();
    let found = looked(&stream(5, &format!("/Type /ObjStm {filters}"), b"3132>"));
    assert_eq!(found.conditions(), [Condition::BrokenFile]);
}

#[test]
fn a_script_is_a_member_behind_its_escapes_and_references() {
    let script = b"var a = unescape('%u9090')";
    for text in [
        "(var a = unescape\\('%u9090'\\))",
        "(v\\141r a = un\\\nescape('%u9090'))",
        "<766172 2061203d20756e657363617065282725753930393027 29>",
        "% a comment (with a string)\n (var a = unescape('%u9090'))",
    ] {
        let found = looked(&pdf(&format!("1 0 obj << /S /JavaScript /JS {text} >> endobj")));
        assert!(found.has("script-1.js", script), "{text}");
    }
    let referred =
        [stream(4, "/Filter /FlateDecode", &deflated(script)), pdf("1 0 obj << /JS 4 0 R >> endobj")]
            .concat();
    assert!(looked(&referred).has("script-1.js", script));
}

#[test]
fn an_encrypted_file_says_so_and_is_not_called_broken() {
    let trailer = b"trailer << /Encrypt 9 0 R >>";
    let file = [stream(5, "/Type /ObjStm /Filter /FlateDecode", b"garbage"), trailer.to_vec()].concat();
    assert_eq!(looked(&file).conditions(), [Condition::EncryptedFile]);
    let by_stream = stream(6, "/Type /XRef /#45ncrypt << /Filter /Standard >>", b"x");
    assert_eq!(looked(&by_stream).conditions(), [Condition::EncryptedFile]);
}

#[test]
fn an_object_stream_that_cannot_be_read_is_broken() {
    let file = stream(5, "/Type /ObjStm /Filter /JBIG2Decode", b"garbage");
    assert_eq!(looked(&file).conditions(), [Condition::BrokenFile]);
    let long = stream(5, "/Type /ObjStm /N 0 /Filter /JBIG2Decode", &[b'x'; 100]);
    assert_eq!(looked(&long).conditions(), [Condition::BrokenFile], "it says that it is empty, and is not");
    let empty = stream(5, "/Type /ObjStm /N 0 /First 0 /Filter /FlateDecode", &deflated(b""));
    assert!(looked(&empty).conditions().is_empty(), "without objects");
}

#[test]
fn the_head_may_stand_behind_other_octets() {
    let file = [vec![b'x'; 1_000], pdf("1 0 obj << /S /JavaScript >> endobj")].concat();
    assert_eq!(looked(&file).conditions(), [Condition::ActiveContent]);
}

#[test]
fn a_bomb_in_an_object_stream_ends_at_the_bounds() {
    let bomb = deflated(&vec![b' '; 40 << 20]);
    let found = looked(&stream(5, "/Type /ObjStm /Filter /FlateDecode", &bomb));
    assert_eq!(found.conditions(), [Condition::ArchiveLimits]);
}

#[test]
fn an_honest_file_gives_nothing() {
    let content = deflated(b"BT /F1 12 Tf (Hello /JS) Tj ET");
    let file = [
        pdf("1 0 obj << /Type /Catalog /OpenAction [3 0 R /Fit] /AcroForm << >> /Pages 2 0 R >> endobj \
             4 0 obj << /S /URI /URI (http://example.org/) >> endobj"),
        stream(5, "/Filter /FlateDecode", &content),
        stream(6, "/Subtype /Image /Filter /DCTDecode", b"\xff\xd8 /JS /XFA \xff\xd9"),
        stream(7, "/Type /ObjStm /Filter /FlateDecode", &deflated(b"8 0 << /Type /Font >>")),
    ];
    let found = looked(&file.concat());
    assert!(found.conditions().is_empty());
    assert!(found.members.is_empty());
}
