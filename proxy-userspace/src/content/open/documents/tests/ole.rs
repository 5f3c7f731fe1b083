use super::*;
use crate::content::open::documents::vba::decompressed;

const MODULE: &[u8] = b"Attribute VB_Name = \"Evil\"\r\nSub AutoOpen()\r\n  Shell \"cmd\"\r\nEnd Sub\r\n";

fn directory(stream: &str, offset: u32) -> Vec<u8> {
    let record = |kind: u16, content: &[u8]| {
        [&kind.to_le_bytes()[..], &u32::try_from(content.len()).unwrap().to_le_bytes(), content].concat()
    };
    let version = [&9u16.to_le_bytes()[..], &4u32.to_le_bytes(), &[1, 0, 0, 0, 2, 0]].concat();
    [record(1, &[3, 0, 0, 0]), version, record(0x1a, stream.as_bytes()), record(0x31, &offset.to_le_bytes())]
        .concat()
}

fn worksheet(records: &[(u16, &[u8])]) -> Vec<u8> {
    records
        .iter()
        .flat_map(|(kind, content)| {
            [&kind.to_le_bytes()[..], &u16::try_from(content.len()).unwrap().to_le_bytes(), content].concat()
        })
        .collect()
}

const BEGIN: (u16, &[u8]) = (0x809, &[0, 6, 5, 0, 0, 0, 0, 0]);

#[test]
fn the_examples_of_the_specification_decompress() {
    let normal: &[u8] = &[
        0x01, 0x2f, 0xb0, 0x00, 0x23, 0x61, 0x61, 0x61, 0x62, 0x63, 0x64, 0x65, 0x82, 0x66, 0x00, 0x70, 0x61,
        0x67, 0x68, 0x69, 0x6a, 0x01, 0x38, 0x08, 0x61, 0x6b, 0x6c, 0x00, 0x30, 0x6d, 0x6e, 0x6f, 0x70, 0x06,
        0x71, 0x02, 0x70, 0x04, 0x10, 0x72, 0x73, 0x74, 0x75, 0x76, 0x10, 0x77, 0x78, 0x79, 0x7a, 0x00, 0x3c,
    ];
    let text = decompressed(normal, 1 << 20).unwrap();
    assert_eq!(text, b"#aaabcdefaaaaghijaaaaaklaaamnopqaaaaaaaaaaaarstuvwxyzaaa");
    let most = decompressed(&[1, 3, 0xb0, 2, 0x61, 0x45, 0], 1 << 20).unwrap();
    assert_eq!(most, [b'a'; 73]);
}

#[test]
fn the_text_of_a_macro_is_a_member() {
    for (name, stream, offset) in
        [("Evil", "/Macros/VBA/Evil", 0), ("Evil", "/_VBA_PROJECT_CUR/VBA/evil", 700)]
    {
        let module = [vec![7; offset], vba(MODULE)].concat();
        let folder = stream.rsplit_once('/').unwrap().0;
        let project = vba(&directory(name, u32::try_from(offset).unwrap()));
        let document = compound(&[(&format!("{folder}/dir"), &project), (stream, &module)]);
        let found = looked(&document);
        assert!(found.has("Evil.vba", MODULE), "{stream}");
        assert_eq!(found.conditions(), [Condition::Macro]);
    }
}

/// Storages have other names, there is no directory, and garbage stands before the text.
#[test]
fn a_macro_is_seen_without_the_names_that_it_should_have() {
    let module = [b"garbage".to_vec(), vba(MODULE)].concat();
    let found = looked(&compound(&[("/Data/Else", &module)]));
    assert!(found.has("Evil.vba", MODULE));
    assert_eq!(found.conditions(), [Condition::Macro]);
}

#[test]
fn a_module_that_does_not_begin_as_modules_do_is_found_by_the_directory() {
    let text = b"Sub AutoOpen(): Shell \"cmd\": End Sub";
    let found = looked(&compound(&[
        ("/x/dir", &vba(&directory("m", 3))),
        ("/x/m", &[b"xyz".to_vec(), vba(text)].concat()),
    ]));
    assert!(found.has("m.vba", text));
    assert_eq!(found.conditions(), [Condition::Macro]);
}

#[test]
fn an_embedded_file_is_a_member_with_its_name() {
    let program = program();
    for storage in ["/ObjectPool/_1", "/MBD0001"] {
        let document =
            compound(&[(&format!("{storage}/\u{1}Ole10Native"), &native("C:\\run.exe", &program))]);
        assert!(looked(&document).has("C:\\run.exe", &program));
    }
    // No fields of a package: all of it is the file.
    let bare = [&u32::try_from(program.len()).unwrap().to_le_bytes()[..], &program].concat();
    assert!(looked(&compound(&[("/\u{1}ole10native", &bare)])).has("package", &program));
}

#[test]
fn an_attachment_of_an_outlook_mail_is_a_member_with_its_names() {
    let program = program();
    let storage = "/__attach_version1.0_#00000000";
    let mail = compound(&[
        (&format!("{storage}/__substg1.0_37010102"), &program),
        (&format!("{storage}/__substg1.0_3707001F"), &utf16("Rechnung für Müller.exe")),
        (&format!("{storage}/__substg1.0_3704001E"), b"RECHNU~1.EXE"),
        ("/__substg1.0_0037001F", &utf16("subject")),
    ]);
    let found = looked(&mail);
    assert!(found.has("Rechnung für Müller.exe", &program));
    assert!(found.has("RECHNU~1.EXE", &program));
    assert!(found.conditions().is_empty());
}

#[test]
fn an_encrypted_document_says_so() {
    let mut word = vec![0xec, 0xa5, 0xc1, 0, 0, 0, 0, 0, 0, 0, 0, 1];
    word.resize(100, 0);
    let mut powerpoint = vec![0; 12];
    powerpoint.extend(0xf3d1_c4df_u32.to_le_bytes());
    let excel = worksheet(&[BEGIN, (0x2f, &[1, 0, 1, 0]), (0x85, &[9; 20])]);
    for (name, content) in [
        ("/EncryptedPackage", b"x".as_slice()),
        ("/encryptioninfo", b"x"),
        ("/WordDocument", &word),
        ("/Workbook", &excel),
        ("/Current User", &powerpoint),
    ] {
        assert_eq!(looked(&compound(&[(name, content)])).conditions(), [Condition::EncryptedFile], "{name}");
    }
}

#[test]
fn a_sheet_of_old_macros_is_a_macro() {
    let by_index = worksheet(&[BEGIN, (0x85, &[0, 1, 0, 0, 2, 1, 5, 0])]);
    let by_sheet = worksheet(&[BEGIN, (0x0a, &[]), (0x809, &[0, 6, 0x40, 0, 0, 0, 0, 0])]);
    for sheet in [by_index, by_sheet] {
        for name in ["/Workbook", "/BOOK"] {
            assert_eq!(looked(&compound(&[(name, &sheet)])).conditions(), [Condition::Macro]);
        }
        // Excel opens it without a compound file around it, too.
        assert_eq!(looked(&sheet).conditions(), [Condition::Macro]);
    }
    let honest = worksheet(&[BEGIN, (0x85, &[0, 1, 0, 0, 0, 0, 5, 0])]);
    assert!(looked(&compound(&[("/Workbook", &honest)])).conditions().is_empty());
}

#[test]
fn a_template_on_another_machine_is_an_external_reference() {
    let table = |place: &str| [vec![0; 40], utf16(place), vec![0, 0]].concat();
    for place in ["http://example.org/a.dotm", "\\\\host\\share\\A.DOT"] {
        let found = looked(&compound(&[("/1Table", &table(place))]));
        assert_eq!(found.conditions(), [Condition::ExternalReference], "{place}");
    }
    for place in ["http://example.org/page.html", "Normal.dot", "C:\\Templates\\a.dot"] {
        assert!(looked(&compound(&[("/1Table", &table(place))])).conditions().is_empty(), "{place}");
    }
}

#[test]
fn macros_of_a_presentation_are_found_in_its_compressed_object() {
    use flate2::{Compression, write::ZlibEncoder};
    let project = compound(&[("/VBA/Evil", &vba(MODULE))]);
    let mut packed = ZlibEncoder::new(Vec::new(), Compression::default());
    packed.write_all(&project).unwrap();
    let packed = packed.finish().unwrap();
    let size = u32::try_from(packed.len() + 4).unwrap().to_le_bytes();
    let record = [&[0x10, 0, 0x11, 0x10][..], &size, &[0; 4], &packed].concat();
    let found = looked(&compound(&[("/PowerPoint Document", &record)]));
    assert!(found.has("Evil.vba", MODULE));
    assert_eq!(found.conditions(), [Condition::Macro]);
}

#[test]
fn a_document_that_is_cut_gives_what_is_left() {
    let big = vec![b'a'; 20_000];
    let document = compound(&[("/WordDocument", &big), ("/Z", &vec![b'z'; 9_000])]);
    let found = looked(&document[..document.len() - 600]);
    assert!(found.members.iter().any(|(names, octets)| names == &["WordDocument"] && octets.len() > 9_000));
}

#[test]
fn a_compound_file_without_a_directory_is_broken() {
    let mut document = compound(&[("/a", b"b")]);
    document[48..52].copy_from_slice(&0x00ff_ffff_u32.to_le_bytes());
    assert_eq!(looked(&document).conditions(), [Condition::BrokenFile]);
}

/// Every sector is followed by itself.
#[test]
fn chains_in_circles_end() {
    let mut document = compound(&[("/a", &[1; 5_000]), ("/b", &[2; 100])]);
    let table =
        document.chunks(512).position(|sector| sector[..4] == 0xffff_fffd_u32.to_le_bytes()).unwrap() * 512;
    for entry in 0..128u32 {
        let at = table + entry as usize * 4;
        document[at..at + 4].copy_from_slice(&entry.to_le_bytes());
    }
    let found = looked(&document);
    assert!(found.members.iter().map(|(_, octets)| octets.len()).sum::<usize>() < 100_000);
}

/// Ten thousand streams share one chain.
#[test]
fn streams_that_share_sectors_end_at_the_bounds() {
    let document = compound(&[("/a", &[1; 60_000])]);
    let limits = OpenLimits { octets: 100_000, ..OpenLimits::default() };
    let mut made = 0;
    let conditions = open(RealType::Ole, &document, &mut OpenBounds::new(limits), &mut |_, member| {
        made += member.octets.len();
        ControlFlow::Continue(())
    });
    assert_eq!(conditions.into_iter().collect::<Vec<_>>(), [Condition::ArchiveLimits]);
    assert!(made <= 100_000);
}

#[test]
fn an_honest_document_gives_no_condition() {
    let document = compound(&[
        ("/WordDocument", &[0xec, 0xa5, 0xc1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
        ("/1Table", &utf16("http://example.org/")),
        ("/\u{5}SummaryInformation", b"x"),
        ("/Data", b"x"),
    ]);
    let found = looked(&document);
    assert!(found.conditions().is_empty());
    assert_eq!(found.members.len(), 4);
}
