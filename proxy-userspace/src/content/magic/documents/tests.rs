use super::super::real_type;
use super::*;

fn utf16(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_le_bytes).collect()
}

#[test]
fn a_document_is_told_by_its_octets() {
    let mut bitmap = b"BM\0\0\0\0\0\0\0\0\x36\0\0\0\x28\0\0\0".to_vec();
    bitmap.resize(60, 0);
    for (octets, real) in [
        (b"%PDF-1.7".as_slice(), RealType::Pdf),
        (b"garbage\n%PDF-1.7", RealType::Pdf),
        (b"{\\rt rest", RealType::Rtf),
        (b"\xef\xbb\xbf {\\RTF1", RealType::Rtf),
        (b"ITSF\x03\0\0\0", RealType::Chm),
        (b"\x78\x9f\x3e\x22\x01\x00", RealType::Tnef),
        (b"\x30\x82\x01\x00\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07\x02", RealType::Cms),
        (b"\x30\x80\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07\x03", RealType::Cms),
        (b"\x30\x80\x06\x0b\x2a\x86\x48\x86\xf7\x0d\x01\x09\x10\x01\x09", RealType::Cms),
        (b"-----BEGIN PKCS7-----\nMII", RealType::Cms),
        (b"\r\n-----BEGIN PGP MESSAGE-----\n\nhQ", RealType::Pgp),
        (b"\x85\x00\x0c\x03keyident\x01\0\0", RealType::Pgp),
        (b"\x89PNG\r\n\x1a\n", RealType::Png),
        (b"\xff\xd8\xff\xe0", RealType::Jpeg),
        (b"GIF89a", RealType::Gif),
        (b"RIFF\0\0\0\0WEBPVP8 ", RealType::Webp),
        (b"II*\0", RealType::Tiff),
        (b"\0\0\x01\0\x01\0\x20\x20\0\0", RealType::Icon),
        (b"ID3\x04", RealType::Audio),
        (b"\xff\xfb\x90\x64", RealType::Audio),
        (b"\0\0\0\x20ftypisom", RealType::Video),
        (b"\x1a\x45\xdf\xa3", RealType::Video),
        (&bitmap, RealType::Bmp),
    ] {
        assert_eq!(real_type(octets), Some(real), "{}", octets.escape_ascii());
    }
}

#[test]
fn a_page_is_told_as_browsers_do() {
    for text in [
        "<!doctype HTML>",
        " \r\n\t<HTML lang=en>",
        "<script>",
        "<ScRiPt\n src=x>",
        "<!-- comment --><p>x",
        "<body/onload=x>",
        "<?xml version='1.0'?><!DOCTYPE html><html xmlns='x'>",
        "<?xml version='1.0'?><html xmlns='http://www.w3.org/1999/xhtml'>",
        "words, and then <html><p>",
        "<meta http-equiv=refresh>",
    ] {
        assert_eq!(real_type(text.as_bytes()), Some(RealType::Html), "{text}");
        assert_eq!(real_type(&[b"\xef\xbb\xbf", text.as_bytes()].concat()), Some(RealType::Html), "{text}");
        assert_eq!(real_type(&[vec![0xff, 0xfe], utf16(text)].concat()), Some(RealType::Html), "{text}");
    }
}

#[test]
fn a_page_with_zeros_or_control_characters_is_one() {
    for octets in [
        b"<html>\0<body>".to_vec(),
        b"<\0h\0t\0m\0l\0>\0".to_vec(),
        [b"\x01\x02\x03\x04".as_slice(), b"<script>"].concat(),
        [&[0; 1_000][..], b"<HTML>"].concat(),
        b"<p>\0\x01".to_vec(),
    ] {
        assert_eq!(real_type(&octets), Some(RealType::Html), "{}", octets.escape_ascii());
    }
    assert_eq!(real_type(&[&[1; 4_000][..], b"<html>"].concat()), None);
}

#[test]
fn kinds_of_text_are_told_from_each_other() {
    for (text, real) in [
        ("<svg xmlns='x'>", RealType::Svg),
        ("<?xml version='1.0'?><!-- x --><!DOCTYPE svg PUBLIC 'a' 'b'><s:SVG>", RealType::Svg),
        ("<?xml version='1.0'?><note/>", RealType::Xml),
        ("<w:document xmlns:w='x'>", RealType::Xml),
        ("Received: from a\r\n\tby b\r\nFrom: c\r\n\r\n<html>", RealType::Message),
        ("X-Odd: 1\r\nSubject : 2\r\n\r\n", RealType::Message),
        ("Content-Type: text/html\r\n\r\nx", RealType::Message),
        ("From a@b Mon\nFrom: a\nTo: b\n\nx", RealType::Message),
        ("Hello Bob,\nTo: be or not to be\n", RealType::Text),
        ("To: Bob", RealType::Text),
        ("Gr\u{fc}\u{df}e aus M\u{fc}nchen <3", RealType::Text),
        ("-----BEGIN PGP SIGNED MESSAGE-----\nHash: x\n", RealType::Text),
        ("MZ is no program here", RealType::Text),
        ("BM is no bitmap", RealType::Text),
    ] {
        assert_eq!(real_type(text.as_bytes()), Some(real), "{text}");
    }
    assert_eq!(real_type(b"\x01\x02\x03 binary \x00\x01"), None);
    assert_eq!(real_type(b""), None);
}

#[test]
fn a_package_of_the_windows_installer_is_told_from_other_compound_files() {
    let mut file = OLE.to_vec();
    file.resize(2_048, 0);
    file[30] = 9;
    file[48] = 1;
    assert_eq!(real_type(&file), Some(RealType::Ole));
    for first in [0x84, 0x86, 0x82] {
        file[1_024 + 80] = first;
        file[1_024 + 81..1_024 + 96].copy_from_slice(&INSTALLER);
        assert_eq!(real_type(&file), Some(RealType::Msi));
    }
}
