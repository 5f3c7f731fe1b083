use super::*;

fn digits(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}

/// An object of OLE 1.
fn object(class: &str, data: &[u8]) -> Vec<u8> {
    let length = u32::try_from(class.len() + 1).unwrap().to_le_bytes();
    let size = u32::try_from(data.len()).unwrap().to_le_bytes();
    [&[1, 5, 0, 0, 2, 0, 0, 0][..], &length, class.as_bytes(), &[0], &[0; 8], &size, data].concat()
}

fn document(data: &str) -> Vec<u8> {
    format!("{{\\rtf1\\ansi text {{\\object\\objemb{{\\*\\objclass Package}}{{\\*\\objdata {data}}}}} more}}")
        .into_bytes()
}

#[test]
fn an_embedded_file_is_a_member_however_its_digits_are_written() {
    let program = program();
    let package = native("run.exe", &program)[4..].to_vec();
    let plain = digits(&object("Package", &package));
    let (first, second) = plain.split_at(101);
    for data in [
        plain.clone(),
        plain.to_uppercase(),
        plain.chars().map(|c| format!("{c} \r\n")).collect::<String>(),
        format!("{first}{{\\*\\foo}}{second}"),
        format!("{first}\\unknown12 {second}"),
        format!("{first}{{\\b {second}}}"),
        format!("{first}\\'ff{second}"),
        // Digits in a group that Word skips.
        format!("{first}{{\\*\\foo deadbeef}}{second}"),
        format!("0123}}{{\\objdata {plain}"),
        format!("12\\objdata {plain}"),
        // Counts that cannot be right.
        format!("{first}\\bin-100 {second}"),
        format!("{first}\\bin2147483648 {second}"),
        format!("{first}\\bin2000000 {second}"),
    ] {
        assert!(looked(&document(&data)).has("run.exe", &program), "{}", &data[..150]);
    }
}

#[test]
fn a_binary_object_is_read() {
    let program = program();
    let octets = object("Package", &native("run.exe", &program)[4..]);
    let head = format!("{{\\rt1{{\\*\\objdata\\bin{} ", octets.len());
    assert!(looked(&[head.as_bytes(), &octets, b"}}"].concat()).has("run.exe", &program));
}

#[test]
fn a_compound_file_is_found_behind_wrong_lengths() {
    let inner = compound(&[("/\u{1}Ole10Native", &native("x.exe", &program()))]);
    let mut octets = object("Word.Document.8", &inner);
    octets[8..12].copy_from_slice(&[255; 4]);
    assert!(looked(&document(&digits(&octets))).has("x.exe", &program()));
}

#[test]
fn a_template_from_elsewhere_is_an_external_reference() {
    let escaped = "http://example.org/t".bytes().map(|octet| format!("\\'{octet:02x}")).collect::<String>();
    let numbered = "http://example.org/t".bytes().map(|octet| format!("\\u{octet}?")).collect::<String>();
    for place in [
        "http://example.org/t",
        "\\\\\\\\host\\\\share\\\\t.dot",
        "ht\r\ntp://example.org/t",
        &escaped,
        &numbered,
    ] {
        let text = format!("{{\\rtf1{{\\*\\template {place}}}}}");
        assert_eq!(looked(text.as_bytes()).conditions(), [Condition::ExternalReference], "{place}");
    }
    for place in ["Normal.dotm", "C:\\\\Users\\\\a\\\\t.dot"] {
        assert!(
            looked(format!("{{\\rtf1{{\\*\\template {place}}}}}").as_bytes()).conditions().is_empty(),
            "{place}"
        );
    }
}

#[test]
fn a_field_that_starts_a_program_is_an_external_reference() {
    for field in ["DDEAUTO c:\\\\windows\\\\cmd.exe", "DDE{}AUTO x", "{\\b DDE}AUTO x", "ddeauto x"] {
        let text = format!("{{\\rtf1{{\\field{{\\*\\fldinst {field}}}}}}}");
        assert_eq!(looked(text.as_bytes()).conditions(), [Condition::ExternalReference], "{field}");
    }
}

#[test]
fn an_honest_text_gives_nothing() {
    let text = b"{\\rtf1\\ansi{\\fonttbl{\\f0 Arial;}}{\\*\\generator Word;}{\\field{\\*\\fldinst HYPERLINK \"http://example.org/\"}}\
        {\\pict\\pngblip 89504e470d0a1a0a}See http://example.org/\\par}";
    let found = looked(text);
    assert!(found.conditions().is_empty());
    assert!(found.members.is_empty());
}
