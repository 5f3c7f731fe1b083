use super::super::magic::TypeProbe;
use super::super::samples::{judged_by, mail, program, removed, rules};
use super::super::{RealType, Shape};
use super::*;

/// Every way to write `invoice1.exe`, and names that end like it for a file system.
#[test]
fn a_name_is_found_however_it_is_written() {
    let dispositions = [
        "attachment; filename=invoice1.exe",
        "attachment; filename=\"invoice1.exe\"",
        "attachment; FILENAME = \"INVOICE1.EXE\"",
        "attachment; filename=\"my invoice1.exe\"",
        "attachment; filename=my invoice1.exe",
        "attachment; filename='invoice1.exe'",
        "attachment; filename=\"invoice1.exe",
        "attachment; filename=\"invoice1\\.exe\"",
        "attachment; filename=\"C:\\temp\\invoice1.exe\"",
        "attachment; filename=\"a/b/invoice1.exe\"",
        "attachment; filename=\"invoice1.exe.\"",
        "attachment; filename=\"invoice1.exe. . \"",
        "attachment; filename=\"invoice1.exe\t\"",
        "attachment; filename=\"invoice1.e xe\"",
        "attachment; filename=\"=?utf-8?Q?invoice1.exe=EF=BB=BF?=\"",
        "attachment; filename=\"=?utf-8?Q?invoice1.exe=E1=A0=8E?=\"",
        "attachment; filename=\"=?utf-8?Q?invoice1.=E2=80=AEexe?=\"",
        "attachment; filename=\"invoice1.ex\x01e\"",
        "attachment; filename=\"invoice1.exe\0.txt\"",
        "attachment; filename*=utf-8''invoice1.exe%00.txt",
        "attachment; filename*=utf-8''invoice1.exe%0A.txt",
        "attachment; filename=\"=?utf-8?Q?invoice1.exe=00.txt?=\"",
        "attachment; filename=\"invoice1.exe::$DATA\"",
        "attachment; filename=\"invoice1.exe\"; filename=\"invoice.txt\"",
        "attachment; filename=\"invoice.txt\"; filename=\"invoice1.exe\"",
        "attachment; filename=\"a\"b.exe",
        "attachment filename=invoice1.exe",
        "filename=invoice1.exe",
        "attachment; filename=(a comment)invoice1.exe",
        "attachment; filename (a comment) = invoice1.exe",
        "attachment; filename=invoice1.exe (a comment)",
        "attachment; filename=invoice1.exe,b.txt",
        "attachment; filename=invoice1.exe/b.txt",
        "attachment; filename=invoice1.exe?b=c.txt",
        "attachment; filename*=utf-8''invoice1%2eexe",
        "attachment; filename*=utf-8'en'%69nvoice1.exe",
        "attachment; filename*=UTF-16BE''%00a%00.%00e%00x%00e",
        "attachment; filename*0=\"invoi\"; filename*1=\"ce1.exe\"",
        "attachment; filename*1=\"ce1.exe\"; filename*0=\"invoi\"",
        "attachment; filename*0*=utf-8''invoi; filename*1*=ce1%2Eexe",
        "attachment; filename*0*=utf-8''invoi%63; filename*1=\"e1.exe\"",
        "attachment; filename*0=invoice1; filename*1=.e; filename*2=xe",
        "attachment; filename*1=invoice1; filename*2=.exe",
        "attachment; filename=\"=?utf-8?B?aW52b2ljZTEuZXhl?=\"",
        "attachment; filename==?utf-8?Q?invoice1=2Eexe?=",
        "attachment; filename=\"=?iso-8859-1*en?q?invoice1.exe?=\"",
        "attachment; filename=\"=?utf-8?B?aW52b2ljZTE=?= =?utf-8?Q?.exe?=\"",
        "attachment; filename=\"=?utf-8?B?aW52b2ljZTE=?=\r\n =?utf-8?Q?.exe?=\"",
        "attachment; filename=\"=?utf-8?Q?invoice?= =?utf-8?Q?1.js?=\"",
        "attachment; filename=\"=?utf-16le?B?YQAuAGUAeABlAA==?=\"",
        "attachment; filename=\"=?utf-7?Q?invoice1+AC4-exe?=\"",
        "attachment; filename=\"=?x-unicode-2-0-utf-7?Q?invoice1+AC4-exe?=\"",
        "attachment; filename*=csUnicode11UTF7''invoice1+AC4-exe",
        "attachment; filename*0*=utf-8''invoice1%2; filename*01*=Eexe",
        "attachment; filename=\"invoice1%2Eexe\"",
        "attachment; filename=\"=?iso-2022-jp?Q?invoice1.e=1B(Bxe?=\"",
        "attachment; filename=\"=?iso-2022-jp?B?GyhKaW52b2ljZTEuZXhlGyhC?=\"",
        "attachment; filename=\"invoice1.e\x1b$B\x1b(Bxe\"",
        "attachment; filename=\"invoice1.e\x1b$)C\x0exe\"",
        "attachment; filename*=iso-2022-jp''invoice1.e%1B%28Bxe",
        "attachment; filename=\"=?hz-gb-2312?Q?invoice1.e~{~}xe?=\"",
        "attachment; filename=\"=?ibm037?Q?invoice=?= =?ibm037?Q?=89=95=A5=96=89=83=85=F1=4B=85=A7=85?=\"",
        "attachment; filename*=IBM-1047''%C9%D5%E5%D6%C9%C3%C5%F1%4B%C5%E7%C5",
        "attachment; filename=\"=?ebcdic-cp-us?Q?=89=95=A5=96=89=83=85=F1=4B=85=A7=85?=\"",
        "attachment; filename=\"=?cp850?Q?invoice1.exe?=\"",
        "attachment;\r\n filename=invoice1.exe",
        "attachment; filename=\r\n\tinvoice1.exe",
        "attachment; filename=\"invoice1.\r\n exe\"",
        "attachment; filename=\"Rechnung f\u{fc}r M\u{fc}ller.exe\"",
    ];
    for disposition in dispositions {
        let header = format!("Content-Disposition: {disposition}");
        assert_eq!(removed(&mail(&header, "harmless")), ["names"], "{disposition}");
    }
    for header in [
        "Content-Type: text/plain; name=invoice1.exe",
        "Content-Type: name=invoice1.exe",
        "Content-Type: text/plain\r\nContent-Type: text/plain; name=invoice1.exe",
        "Content-Disposition : attachment; filename=invoice1.exe",
        "no field\r\nContent-Type: text/plain; name=invoice1.exe",
        "Content-Type: text/plain;\r\nno field\r\n name=invoice1.exe",
        "X: y\rContent-Type: text/plain; name=invoice1.exe",
        "X: y\r\r\nContent-Type: text/plain; name=invoice1.exe",
        "Content-Type: multipart/mixed; boundary=q; name=invoice1.exe",
        "Content-Type: message/rfc822; name=invoice1.exe",
    ] {
        assert!(removed(&mail(header, "harmless")).contains(&"names"), "{header}");
    }
    let mut raw = mail("Content-Type: text/plain; name=\"@.exe\"", "harmless").into_bytes();
    let at = raw.iter().rposition(|octet| *octet == b'@').unwrap();
    raw[at] = 0xe4;
    assert!(judged_by(&rules(), &raw, Shape::Message).1.iter().any(|leaf| leaf.rule.is_some()));
}

#[test]
fn names_that_only_resemble_a_pattern_pass() {
    for name in ["invoice1.exe.txt", "exe", "invoice.js", "invoice12.js", "a.ex", "setup.exe_"] {
        assert!(
            removed(&mail(&format!("Content-Disposition: attachment; filename=\"{name}\""), "harmless"))
                .is_empty()
        );
    }
}

#[test]
fn patterns_match_as_written() {
    let table = [
        ("*.exe", "a.exe", true),
        ("*.exe", ".exe", true),
        ("*.EXE", "a.exe", true),
        ("*.exe", "a.exe.", true),
        ("a?c", "abc", true),
        ("a?c", "ac", false),
        ("a*b*c", "aXbXbXc", true),
        ("a*b*c", "aXbXbX", false),
        ("*", "anything", true),
        ("**a", "bba", true),
        ("*.\u{c4}", "x.\u{e4}", true),
    ];
    for (pattern, name, is_match) in table {
        let rules = Rules::new(&[pattern], &[] as &[&str]).unwrap();
        let ruling = rules.names.ruling(&[name.to_owned()], FilePlace::Part).map(Ruling::outcome);
        assert_eq!(ruling != Some(LeafOutcome::Allow), is_match, "{pattern} {name}");
    }
}

#[test]
fn a_wrong_value_is_named_with_its_remedy() {
    let none: [&str; 0] = [];
    for value in ["", "  ", "a/*.exe", "*.exe.", " *.exe", "a\u{7}b"] {
        let error = Rules::new(&[value], &none).unwrap_err().to_string();
        assert!(
            error.contains(&format!("{value:?}")) && error.contains("write for example \"*.exe\""),
            "{error}"
        );
    }
    let error = Rules::new(&["*".repeat(256)], &none).unwrap_err().to_string();
    assert!(error.contains("255"), "{error}");
    let error = Rules::new(&none, &["executables"]).unwrap_err().to_string();
    assert_eq!(error, "types: unknown class \"executables\"; this version knows \"executable\"");
    assert!(Rules::new(&vec!["*.exe"; PATTERNS_MAX + 1], &none).is_err());
}

fn real_type(octets: &[u8]) -> Option<RealType> {
    let mut probe = TypeProbe::default();
    probe.push(octets);
    let whole = probe.finish();
    let mut probe = TypeProbe::default();
    octets.iter().for_each(|octet| probe.push(std::slice::from_ref(octet)));
    assert_eq!(whole, probe.finish(), "however it is split");
    whole
}

fn dos(length: usize) -> Vec<u8> {
    let mut octets = vec![0x90; length];
    let fields: [u16; 14] = [0x5a4d, 300, 1, 0, 2, 0, 0xffff, 0, 184, 0, 0, 0, 32, 0];
    for (at, field) in fields.iter().enumerate() {
        octets[2 * at..2 * at + 2].copy_from_slice(&field.to_le_bytes());
    }
    octets
}

#[test]
fn programs_are_known_by_their_first_octets() {
    assert_eq!(real_type(&program()), Some(RealType::WindowsProgram));
    let mut far = program();
    far.resize(200_000, 1);
    far[60..64].copy_from_slice(&150_001u32.to_le_bytes());
    far[150_001..150_005].copy_from_slice(b"PE\0\0");
    assert_eq!(real_type(&far), Some(RealType::WindowsProgram), "a Windows header far behind");
    let mut near = program();
    near[60] = 4;
    near[4..8].copy_from_slice(b"PE\0\0");
    assert_eq!(real_type(&near), Some(RealType::WindowsProgram), "a Windows header inside the DOS header");
    assert_eq!(real_type(&dos(300)), Some(RealType::DosProgram));
    assert_eq!(real_type(b"\x7fELF\x02\x01\x01\0rest"), Some(RealType::Elf));
    assert_eq!(real_type(b"\xcf\xfa\xed\xfe\x07\0\0\x01\x03\0\0\0\x02\0\0\0"), Some(RealType::MachO));
    assert_eq!(real_type(b"\xfe\xed\xfa\xce\0\0\0\x07\0\0\0\x03\0\0\0\x02"), Some(RealType::MachO));
    assert_eq!(real_type(b"\xca\xfe\xba\xbe\0\0\0\x02\0\0\0\0"), Some(RealType::MachO));
    assert_eq!(real_type(b"\xca\xfe\xba\xbe\0\0\0\x34\0\0\0\0"), Some(RealType::JavaClass));
    assert_eq!(real_type(b"dex\n035\0"), Some(RealType::Dex));
    assert_eq!(real_type(b"#! /bin/sh\n"), Some(RealType::Script));
    assert_eq!(real_type(b"L\0\0\0\x01\x14\x02\0\0\0\0\0\xc0\0\0\0\0\0\0\x46rest"), Some(RealType::Shortcut));
}

#[test]
fn text_is_no_program() {
    for text in [
        "MZ is a licence plate of Mainz, and this text is long enough to have more than sixty-four octets in it.",
        "#!important",
        "TVpro is the name of a company, and its letters begin like base64 of a program does, which is nothing.",
        "dex\nter",
        "",
        "M",
    ] {
        assert_eq!(real_type(text.as_bytes()), None, "{text}");
        assert!(removed(&mail("Content-Type: text/plain", text)).is_empty(), "{text}");
    }
    let mut cut = program();
    cut.truncate(130);
    assert_eq!(real_type(&cut), None, "no loader runs it");
    assert_eq!(real_type(&dos(100)), None, "shorter than its header says");
}
