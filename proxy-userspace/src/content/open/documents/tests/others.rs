use super::*;

const ONENOTE: [u8; 16] =
    [0xe4, 0x52, 0x5c, 0x7b, 0x8c, 0xd8, 0xa7, 0x4d, 0xae, 0xb1, 0x53, 0x78, 0xd0, 0x29, 0x96, 0xd3];

fn notes(files: &[&[u8]]) -> Vec<u8> {
    let guid =
        [0xe7, 0x16, 0xe3, 0xbd, 0x65, 0x26, 0x11, 0x45, 0xa4, 0xc4, 0x8d, 0x4d, 0x0b, 0x7a, 0x9e, 0xac];
    let mut notes = [&ONENOTE[..], &[0; 1_000]].concat();
    for file in files {
        notes.extend([&guid[..], &(file.len() as u64).to_le_bytes(), &[0; 12], file, &[0; 8]].concat());
    }
    notes
}

#[test]
fn a_file_in_notes_is_a_member_and_active_content() {
    let program = program();
    let found = looked(&notes(&[&program, b"<script>x</script>"]));
    assert!(found.has("file-1", &program));
    assert!(found.has("file-2", b"<script>x</script>"));
    assert_eq!(found.conditions(), [Condition::ActiveContent]);
}

#[test]
fn a_wrong_length_of_a_file_in_notes_hides_nothing() {
    let mut notes = notes(&[&program()]);
    notes[1_032..1_040].copy_from_slice(&u64::MAX.to_le_bytes());
    let found = looked(&notes);
    assert!(found.holds(&program()));
}

#[test]
fn notes_with_pictures_alone_are_honest() {
    let found = looked(&notes(&[b"\x89PNG\r\n\x1a\n picture"]));
    assert!(found.conditions().is_empty());
    assert!(found.holds(b"picture"));
}

fn shortcut(flags: u32, behind: &[u8]) -> Vec<u8> {
    let mut octets = vec![0x4c, 0, 0, 0, 1, 0x14, 2, 0, 0, 0, 0, 0, 0xc0, 0, 0, 0, 0, 0, 0, 0x46];
    octets.extend(flags.to_le_bytes());
    octets.resize(76, 0);
    [&octets, behind].concat()
}

#[test]
fn what_a_shortcut_runs_is_a_text_for_scanners() {
    let string = |text: &str| [&u16::try_from(text.len()).unwrap().to_le_bytes()[..], &utf16(text)].concat();
    let arguments = format!("{}-enc SQBFAFgA", " ".repeat(300));
    let items = [&6u16.to_le_bytes()[..], b"cmd.ex"].concat();
    let behind = [items, string("..\\cmd.exe"), string(&arguments), string("icon.dll")].concat();
    let found = looked(&shortcut(1 | 1 << 3 | 1 << 5 | 1 << 6 | 1 << 7, &behind));
    for text in ["items: cmd.ex\n", "path: ..\\cmd.exe\n", "-enc SQBFAFgA\n", "icon: icon.dll\n"] {
        assert!(found.holds(text.as_bytes()), "{text}");
    }
    // The same in a code page, and with what is hidden behind the end.
    let string =
        |text: &str| [&u16::try_from(text.len()).unwrap().to_le_bytes()[..], text.as_bytes()].concat();
    let found = looked(&shortcut(1 << 5, &[string("/c calc"), vec![0; 4], program()].concat()));
    assert!(found.holds(b"arguments: /c calc\n"));
    assert!(found.has("appended", &program()));
}

#[test]
fn compiled_help_is_an_archive_that_is_not_opened() {
    assert_eq!(looked(b"ITSF\x03\0\0\0\x60\0\0\0").conditions(), [Condition::UnknownArchive]);
}
