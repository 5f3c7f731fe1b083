//! Whatever a file holds, it is read to an end.

use proptest::prelude::*;

use super::*;

fn samples() -> Vec<Vec<u8>> {
    let script = "<html><a href='data:x/y;base64,aGVsbG8=' download><script>var a=atob('QUJD');new Blob(a);\
                  URL.createObjectURL(a)</script>&#65;&#x";
    let objects = b"<< /S /JavaScript /JS (a\\(\\101) >>";
    let pdf = [
        b"%PDF-1.4\n1 0 obj<</Type/ObjStm/Filter[/AHx/RL]/Length 9>>stream\n".as_slice(),
        b"0441424344>",
        b"\nendstream endobj 2 0 obj <</Type/EmbeddedFile/Filter/LZW/DecodeParms<</Predictor 15/Columns 3>>>>stream\n",
        &[0x80, 0x0b, 0x60, 0x50, 0x22, 0x0c, 0x0c, 0x85, 0x01],
        b"endstream ",
        objects,
    ]
    .concat();
    vec![
        compound(&[("/VBA/dir", &vba(&[1, 0, 0, 0, 0, 0])), ("/VBA/m", &vba(b"Attribute VB_Name = \"m\""))]),
        compound(&[("/\u{1}Ole10Native", &native("a", b"b")), ("/Workbook", &[9, 8, 4, 0, 0, 6, 5, 0])]),
        script.as_bytes().to_vec(),
        utf16(script),
        pdf,
        b"{\\rtf1{\\*\\objdata 0105000002000000080000005061636b616765000000000000000000ff}{\\*\\template \\\\\\\\a}}".to_vec(),
        zip(&[("[Content_Types].xml", b"<Types/>"), ("mimetype", b"x")]),
        b"<?xml version='1.0'?><r:Relationship TargetMode=\"External\" Target='http://a' Type=a/b>".to_vec(),
    ]
}

#[test]
fn every_beginning_of_a_document_is_read_to_an_end() {
    for sample in samples() {
        let step = (sample.len() / 600).max(1);
        for end in (0..sample.len()).step_by(step) {
            let found = looked(&sample[..end]);
            assert!(found.members.len() <= 64);
        }
    }
}

const TYPES: [RealType; 9] = [
    RealType::Ole,
    RealType::Rtf,
    RealType::OneNote,
    RealType::Shortcut,
    RealType::Pdf,
    RealType::Html,
    RealType::Svg,
    RealType::Xml,
    RealType::Text,
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn a_damaged_document_is_read_to_an_end(
        which in 0usize..8,
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..12),
    ) {
        let mut sample = samples().swap_remove(which);
        for (at, octet) in damage {
            let at = at.index(sample.len());
            sample[at] = octet;
        }
        let found = looked(&sample);
        let made = found.members.iter().map(|(_, octets)| octets.len()).sum::<usize>();
        prop_assert!(made <= 4 << 20);
    }

    #[test]
    fn any_octets_are_read_to_an_end_as_any_document(
        octets in prop::collection::vec(any::<u8>(), 0..2_000),
        which in 0usize..TYPES.len(),
    ) {
        let mut bounds = OpenBounds::new(OpenLimits::default());
        let mut made = 0;
        let _ = open(TYPES[which], &octets, &mut bounds, &mut |_, member| {
            made += member.octets.len();
            ControlFlow::Continue(())
        });
        prop_assert!(made <= 4 << 20);
    }
}
