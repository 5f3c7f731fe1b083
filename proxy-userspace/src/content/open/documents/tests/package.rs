use super::super::package::part_means;
use super::*;

fn means(name: &str, octets: &[u8]) -> Vec<Condition> {
    let mut found = Conditions::new();
    part_means(&[name.to_owned()], octets, &mut found);
    found.into_iter().collect()
}

const RELS: &str = "word/_rels/settings.xml.rels";

fn relationship(kind: &str, target: &str) -> String {
    format!(
        "<?xml version=\"1.0\"?><Relationships xmlns=\"http://schemas.openxmlformats.org/package/2006/relationships\">\
         <Relationship Id=\"rId1\" Type=\"http://schemas.openxmlformats.org/officeDocument/2006/relationships/{kind}\" \
         Target=\"{target}\" TargetMode=\"External\"/></Relationships>"
    )
}

#[test]
fn an_archive_of_parts_is_told_from_others() {
    let types = b"<Types/>".as_slice();
    for (entries, real) in [
        (vec![("[Content_Types].xml", types), ("word/document.xml", b"x")], RealType::Ooxml),
        (vec![("word/document.xml", b"x".as_slice()), ("[content_types].XML", types)], RealType::Ooxml),
        (vec![("mimetype", b"application/vnd.oasis.opendocument.text".as_slice())], RealType::Odf),
        (vec![("content.xml", b"x".as_slice()), ("META-INF/manifest.xml", b"x")], RealType::Odf),
    ] {
        let archive = zip(&entries);
        assert_eq!(real_type(&archive), Some(real));
        assert_eq!(real_type(&[b"garbage".as_slice(), &archive].concat()), Some(real), "behind garbage");
    }
    let plain = zip(&[("a.txt", b"x"), ("mimetype", b"application/epub+zip")]);
    assert!(!matches!(real_type(&plain), Some(RealType::Ooxml | RealType::Odf)));
}

#[test]
fn what_is_loaded_from_elsewhere_is_an_external_reference() {
    for kind in
        ["attachedTemplate", "oleObject", "frame", "subDocument", "aFChunk", "externalLink", "OLEOBJECT"]
    {
        let text = relationship(kind, "http://example.org/x");
        assert_eq!(means(RELS, text.as_bytes()), [Condition::ExternalReference], "{kind}");
        let utf16 = [vec![0xff, 0xfe], utf16(&text)].concat();
        assert_eq!(means(RELS, &utf16), [Condition::ExternalReference], "{kind}");
    }
    let plain = relationship("attachedTemplate", "http://example.org/x");
    for text in [
        plain.replace('"', "'"),
        plain.replace("<Relationship ", "<r:Relationship\r\n\t"),
        plain.replace("External", "&#69;xternal"),
        plain.replace("TargetMode=", "targetmode = "),
        plain.replace("attachedTemplate", "attached&#x54;emplate"),
        relationship("hyperlink", "mhtml:http://example.org/x!x-usc:http://example.org/x"),
    ] {
        assert_eq!(means(RELS, text.as_bytes()), [Condition::ExternalReference], "{text}");
    }
}

#[test]
fn links_pictures_and_near_templates_are_ordinary() {
    for (kind, target) in [
        ("hyperlink", "https://example.org/"),
        ("image", "https://example.org/a.png"),
        ("attachedTemplate", "file:///C:\\Users\\a\\Normal.dotm"),
        ("attachedTemplate", "Normal.dotm"),
        ("externalLinkPath", "other.xlsx"),
    ] {
        assert!(means(RELS, relationship(kind, target).as_bytes()).is_empty(), "{kind} {target}");
    }
    let inside = relationship("oleObject", "embeddings/a.bin").replace(" TargetMode=\"External\"", "");
    assert!(means(RELS, inside.as_bytes()).is_empty());
}

#[test]
fn parts_with_macros_are_seen() {
    for (name, content) in [
        ("word/vbaProject.bin", b"x".as_slice()),
        ("word\\VBAPROJECT.BIN", b"x"),
        ("xl/macrosheets/sheet1.xml", b"<x/>"),
        ("Basic/Standard/Module1.xml", b"<x/>"),
        ("Scripts/python/a.py", b"x"),
        (
            "[Content_Types].xml",
            b"<Types><Override ContentType=\"application/vnd.ms-office.vbaProject\"/></Types>",
        ),
        (
            "[Content_Types].xml",
            b"<Types><Default ContentType='application/vnd.ms-excel.MACROSHEET+xml'/></Types>",
        ),
        ("content.xml", b"<a><script:event-listener xlink:href=\"vnd.sun.star.script:a.b\"/></a>"),
    ] {
        assert_eq!(means(name, content), [Condition::Macro], "{name}");
    }
}

#[test]
fn an_encrypted_open_document_says_so() {
    let manifest =
        b"<manifest:manifest><manifest:encryption-data manifest:checksum=\"x\"/></manifest:manifest>";
    assert_eq!(means("META-INF/manifest.xml", manifest), [Condition::EncryptedFile]);
}

#[test]
fn an_object_elsewhere_in_open_document_is_an_external_reference() {
    for place in ["http://example.org/a", "\\\\host\\a", "//host/a"] {
        let text = format!("<a><draw:object xlink:href='{place}'/></a>");
        assert_eq!(means("content.xml", text.as_bytes()), [Condition::ExternalReference], "{place}");
    }
    assert!(means("content.xml", b"<a><draw:object xlink:href='./Object 1'/></a>").is_empty());
}

/// XML with all parts in one file, as Word saves it on request.
#[test]
fn a_document_of_one_xml_file_is_read() {
    let template = relationship("attachedTemplate", "http://example.org/x");
    assert_eq!(looked(template.as_bytes()).conditions(), [Condition::ExternalReference]);
    let word = "<?xml version=\"1.0\"?><w:wordDocument w:macrosPresent=\"yes\"></w:wordDocument>";
    assert_eq!(looked(word.as_bytes()).conditions(), [Condition::Macro]);
}
