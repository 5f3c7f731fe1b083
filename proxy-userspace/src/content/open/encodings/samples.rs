//! Writers of uuencode, yEnc, TNEF, CMS and OpenPGP.

use std::io::Write;

/// uuencode as its first writer had it, with backquotes for zeros.
pub(in crate::content) fn uuencoded(name: &str, octets: &[u8]) -> String {
    format!("begin 644 {name}\r\n{}`\r\nend\r\n", uuencoded_lines(octets))
}

pub(in crate::content) fn uuencoded_lines(octets: &[u8]) -> String {
    let character = |value: u8| if value == 0 { '`' } else { char::from(value + 32) };
    let mut text = String::new();
    for line in octets.chunks(45) {
        text.push(character(u8::try_from(line.len()).unwrap()));
        for chunk in line.chunks(3) {
            let bits = chunk.iter().fold(0u32, |bits, octet| bits << 8 | u32::from(*octet));
            let bits = bits << (8 * (3 - chunk.len()));
            (0..4).for_each(|at| text.push(character((bits >> (18 - 6 * at)) as u8 & 63)));
        }
        text.push_str("\r\n");
    }
    text
}

pub(in crate::content) fn yencoded(name: &str, octets: &[u8]) -> Vec<u8> {
    let mut out = format!("=ybegin line=128 size={} name={name}\r\n", octets.len()).into_bytes();
    for line in octets.chunks(100) {
        for octet in line {
            match octet.wrapping_add(42) {
                escaped @ (0 | b'\r' | b'\n' | b'=') => out.extend([b'=', escaped.wrapping_add(64)]),
                octet => out.push(octet),
            }
        }
        out.extend(b"\r\n");
    }
    out.extend(format!("=yend size={}\r\n", octets.len()).into_bytes());
    out
}

/// One attribute of TNEF.
pub(in crate::content) fn attribute(id: u32, data: &[u8]) -> Vec<u8> {
    let checksum = data.iter().fold(0u16, |sum, octet| sum.wrapping_add(u16::from(*octet)));
    let length = u32::try_from(data.len()).unwrap();
    [&[2], &id.to_le_bytes()[..], &length.to_le_bytes(), data, &checksum.to_le_bytes()].concat()
}

pub(in crate::content) fn tnef(attributes: &[Vec<u8>]) -> Vec<u8> {
    [&[0x78, 0x9f, 0x3e, 0x22, 1, 0][..], &attributes.concat()].concat()
}

/// A list of properties: tag and octets.
pub(in crate::content) fn props(values: &[(u32, &[u8])]) -> Vec<u8> {
    let mut out = u32::try_from(values.len()).unwrap().to_le_bytes().to_vec();
    for (tag, octets) in values {
        out.extend(tag.to_le_bytes());
        out.extend(1u32.to_le_bytes());
        out.extend(u32::try_from(octets.len()).unwrap().to_le_bytes());
        out.extend(*octets);
        out.resize(out.len().next_multiple_of(4), 0);
    }
    out
}

/// A file in a `winmail.dat`, with its name of old.
pub(in crate::content) fn tnef_of(name: &str, octets: &[u8]) -> Vec<u8> {
    tnef(&[
        attribute(0x0006_9002, &[1; 14]),
        attribute(0x0001_8010, &[name.as_bytes(), b"\0"].concat()),
        attribute(0x0006_800f, octets),
    ])
}

/// An element of DER.
pub(in crate::content) fn der(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = u32::try_from(content.len()).unwrap().to_be_bytes();
    let head = if content.len() < 128 { vec![tag, length[3]] } else { [&[tag, 0x84][..], &length].concat() };
    [head.as_slice(), content].concat()
}

/// An element of BER without a length.
pub(in crate::content) fn ber(tag: u8, content: &[u8]) -> Vec<u8> {
    [&[tag, 0x80][..], content, &[0, 0]].concat()
}

/// The last arcs of an identifier: 1.2.840.113549.1 before them.
fn oid(arcs: &[u8]) -> Vec<u8> {
    der(6, &[&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01], arcs].concat())
}

/// CMS of a content type, with what its `EncapsulatedContentInfo` holds.
fn cms(arcs: &[u8], octets: &[u8], is_ber: bool) -> Vec<u8> {
    let element = if is_ber { ber } else { der };
    let string = if is_ber {
        ber(0x24, &octets.chunks(100).map(|chunk| der(4, chunk)).collect::<Vec<_>>().concat())
    } else {
        der(4, octets)
    };
    let inside = element(0x30, &[oid(&[7, 1]), element(0xa0, &string)].concat());
    let algorithms = der(0x31, &der(0x30, &oid(&[1, 5])));
    let body = element(0x30, &[der(2, &[1]), algorithms, inside, der(0x31, &[])].concat());
    element(0x30, &[oid(arcs), element(0xa0, &body)].concat())
}

pub(in crate::content) fn signed(octets: &[u8]) -> Vec<u8> {
    cms(&[7, 2], octets, false)
}

pub(in crate::content) fn signed_in_ber(octets: &[u8]) -> Vec<u8> {
    cms(&[7, 2], octets, true)
}

pub(in crate::content) fn compressed(octets: &[u8]) -> Vec<u8> {
    cms(&[9, 16, 1, 9], &zlib(octets), false)
}

pub(in crate::content) fn enveloped(octets: &[u8]) -> Vec<u8> {
    cms(&[7, 3], octets, false)
}

/// A signature beside its content.
pub(in crate::content) fn detached() -> Vec<u8> {
    let inside = der(0x30, &oid(&[7, 1]));
    let body = der(0x30, &[der(2, &[1]), der(0x31, &[]), inside, der(0x31, &[])].concat());
    der(0x30, &[oid(&[7, 2]), der(0xa0, &body)].concat())
}

pub(in crate::content) fn zlib(octets: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(octets).unwrap();
    encoder.finish().unwrap()
}

/// An OpenPGP packet with its length in four octets.
pub(in crate::content) fn packet(tag: u8, body: &[u8]) -> Vec<u8> {
    [&[0xc0 | tag, 255][..], &u32::try_from(body.len()).unwrap().to_be_bytes(), body].concat()
}

pub(in crate::content) fn literal(name: &str, octets: &[u8]) -> Vec<u8> {
    let name_length = u8::try_from(name.len()).unwrap();
    packet(11, &[&[b'b', name_length][..], name.as_bytes(), &[0; 4], octets].concat())
}

/// The compressed packets of OpenPGP: ZIP, ZLIB, bzip2.
pub(in crate::content) fn compressed_packets(octets: &[u8]) -> [Vec<u8>; 3] {
    let mut zip = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::default());
    zip.write_all(octets).unwrap();
    let mut bzip2 = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::default());
    bzip2.write_all(octets).unwrap();
    let bodies = [zip.finish().unwrap(), zlib(octets), bzip2.finish().unwrap()];
    std::array::from_fn(|at| packet(8, &[&[u8::try_from(at + 1).unwrap()][..], &bodies[at]].concat()))
}

pub(in crate::content) fn armored(octets: &[u8]) -> String {
    let lines = crate::content::samples::base64_lines(octets);
    format!(
        "-----BEGIN PGP MESSAGE-----\r\nVersion: 1\r\n\r\n{lines}\r\n=abcd\r\n-----END PGP MESSAGE-----\r\n"
    )
}

/// What a sender encrypts to someone: a key of a session, then octets.
pub(in crate::content) fn encrypted() -> Vec<u8> {
    [packet(1, &[3; 40]), packet(18, &[1; 200])].concat()
}
