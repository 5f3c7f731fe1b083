//! A leaf by hand, and what becomes of it when one thing is changed.

use rustls::pki_types::alg_id;
use x509_parser::prelude::X509Name;

use super::*;

/// DER by hand, so that code which is wrong on both sides is found.
fn tlv(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let contents = parts.concat();
    let length = match u8::try_from(contents.len()) {
        Ok(short) if short < 0x80 => vec![short],
        _ => [&[0x82][..], &u16::try_from(contents.len()).unwrap().to_be_bytes()].concat(),
    };
    [&[tag][..], &length, &contents].concat()
}

fn name(text: &str) -> Vec<u8> {
    let attribute = tlv(0x30, &[&tlv(0x06, &[&[0x55, 4, 3]]), &tlv(0x0c, &[text.as_bytes()])]);
    tlv(0x30, &[&tlv(0x31, &[&attribute])])
}

fn extension(oid: &[u8], critical: bool, value: &[u8]) -> Vec<u8> {
    let critical = if critical { tlv(0x01, &[&[0xff]]) } else { Vec::new() };
    tlv(0x30, &[&tlv(0x06, &[oid]), &critical, &tlv(0x04, &[value])])
}

fn names(names: &[&[u8]]) -> Vec<u8> {
    extension(&[0x55, 0x1d, 17], false, &tlv(0x30, names))
}

fn purposes(purposes: &[&[u8]]) -> Vec<u8> {
    let purposes: Vec<_> = purposes.iter().map(|purpose| tlv(0x06, &[purpose])).collect();
    extension(&[0x55, 0x1d, 37], false, &tlv(0x30, &[&purposes.concat()]))
}

const SERVERS: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 3, 1];
const CLIENTS: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 3, 2];
const KEY_ID: [u8; 20] = [7; 20];
// 2026-01-01 to 2027-01-01, UTC.
const NOT_BEFORE: i64 = 1_767_225_600;
const NOT_AFTER: i64 = 1_798_761_600;

/// The parts of a leaf, each as a test wants it.
struct Parts {
    version: Vec<u8>,
    serial: Vec<u8>,
    algorithm: Vec<u8>,
    issuer: Vec<u8>,
    validity: Vec<u8>,
    subject: Vec<u8>,
    key: Vec<u8>,
    extensions: Vec<Vec<u8>>,
}

impl Parts {
    fn good() -> Self {
        let p256 = tlv(0x06, &[&[0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7]]);
        let ec = tlv(0x06, &[&[0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1]]);
        Self {
            version: tlv(0xa0, &[&tlv(2, &[&[2]])]),
            serial: tlv(2, &[&[0x41; 16]]),
            // ecdsa-with-SHA256
            algorithm: tlv(0x30, &[&tlv(0x06, &[&[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2]])]),
            issuer: name("Proxy Authority"),
            validity: tlv(0x30, &[&tlv(0x17, &[b"260101000000Z"]), &tlv(0x17, &[b"261231235959Z"])]),
            subject: name("imap.example.org"),
            key: tlv(0x30, &[&tlv(0x30, &[&ec, &p256]), &tlv(3, &[&[0, 4], &[9; 64]])]),
            extensions: vec![
                extension(&[0x55, 0x1d, 19], true, &tlv(0x30, &[])),
                extension(&[0x55, 0x1d, 15], true, &[3, 2, 7, 0x80]),
                purposes(&[SERVERS]),
                names(&[&tlv(0x82, &[b"imap.example.org"]), &tlv(0x87, &[&[192, 0, 2, 7]])]),
                extension(&[0x55, 0x1d, 35], false, &tlv(0x30, &[&tlv(0x80, &[&KEY_ID])])),
            ],
        }
    }

    fn octets(&self) -> Vec<u8> {
        let extensions = tlv(0xa3, &[&tlv(0x30, &[&self.extensions.concat()])]);
        let parts: [&[u8]; 8] = [
            &self.version,
            &self.serial,
            &self.algorithm,
            &self.issuer,
            &self.validity,
            &self.subject,
            &self.key,
            &extensions,
        ];
        tlv(0x30, &parts)
    }
}

fn issuer() -> Issuer {
    let validity = Validity { not_before: NOT_BEFORE, not_after: NOT_AFTER };
    Issuer { subject: name("Proxy Authority"), key_identifier: KEY_ID.to_vec(), validity }
}

fn judged(octets: &[u8]) -> Result<Leaf, LeafFault> {
    check(octets, &issuer(), alg_id::ECDSA_SHA256)
}

fn refused(change: impl FnOnce(&mut Parts)) -> LeafFault {
    let mut parts = Parts::good();
    change(&mut parts);
    judged(&parts.octets()).unwrap_err()
}

#[test]
fn a_leaf_is_signed_and_told_in_the_log() {
    let leaf = judged(&Parts::good().octets()).unwrap();
    assert_eq!((leaf.name.as_str(), leaf.names), ("imap.example.org", 2));
    assert_eq!(leaf.serial().to_string(), "41".repeat(16));
    assert_eq!(leaf.not_after(), "2026-12-31T23:59:59Z");
    let sha256 = digest(&SHA256, &Parts::good().octets());
    assert_eq!(leaf.tbs_sha256, sha256.as_ref());
    // Without a name, as one of a server that has none.
    let mut nameless = Parts::good();
    nameless.extensions.remove(3);
    assert_eq!(judged(&nameless.octets()).unwrap().names, 0);
    // Without a subject, where the names are critical (RFC 5280 section 4.2.1.6).
    let mut no_subject = Parts::good();
    no_subject.subject = tlv(0x30, &[]);
    assert_eq!(judged(&no_subject.octets()), Err(LeafFault::Form));
    let value = tlv(0x30, &[&tlv(0x82, &[b"imap.example.org"])]);
    no_subject.extensions[3] = extension(&[0x55, 0x1d, 17], true, &value);
    judged(&no_subject.octets()).unwrap();
}

#[test]
fn every_rule_has_a_leaf_that_breaks_it_alone() {
    type Change = fn(&mut Parts);
    let cases: &[(LeafFault, Change)] = &[
        (LeafFault::Version, |leaf| leaf.version = tlv(0xa0, &[&tlv(2, &[&[1]])])),
        (LeafFault::Version, |leaf| leaf.version = Vec::new()),
        (LeafFault::Serial, |leaf| leaf.serial = tlv(2, &[&[0]])),
        (LeafFault::Serial, |leaf| leaf.serial = tlv(2, &[&[0x80]])),
        (LeafFault::Serial, |leaf| leaf.serial = tlv(2, &[&[0, 1]])),
        (LeafFault::Serial, |leaf| leaf.serial = tlv(2, &[&[1; 21]])),
        (LeafFault::Issuer, |leaf| leaf.issuer = name("Proxy authority")),
        (LeafFault::Issuer, |leaf| leaf.issuer = tlv(0x30, &[])),
        (LeafFault::Algorithm, |leaf| {
            leaf.algorithm = tlv(0x30, &[&tlv(0x06, &[&[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 3]])]);
        }),
        (LeafFault::Algorithm, |leaf| {
            let oid = tlv(0x06, &[&[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2]]);
            leaf.algorithm = tlv(0x30, &[&oid, &[5, 0]]);
        }),
        (LeafFault::Validity, |leaf| {
            leaf.validity = tlv(0x30, &[&tlv(0x17, &[b"251231235959Z"]), &tlv(0x17, &[b"261231235959Z"])]);
        }),
        (LeafFault::Validity, |leaf| {
            leaf.validity = tlv(0x30, &[&tlv(0x17, &[b"260101000000Z"]), &tlv(0x17, &[b"270101000001Z"])]);
        }),
        (LeafFault::Validity, |leaf| {
            leaf.validity = tlv(0x30, &[&tlv(0x17, &[b"260202000000Z"]), &tlv(0x17, &[b"260201000000Z"])]);
        }),
        (LeafFault::Authority, |leaf| {
            leaf.extensions[0] = extension(&[0x55, 0x1d, 19], true, &tlv(0x30, &[&tlv(1, &[&[0xff]])]));
        }),
        (LeafFault::Authority, |leaf| {
            leaf.extensions[0] = extension(&[0x55, 0x1d, 19], true, &tlv(0x30, &[&tlv(2, &[&[0]])]));
        }),
        (LeafFault::Authority, |leaf| drop(leaf.extensions.remove(0))),
        (LeafFault::KeyUsage, |leaf| {
            // digitalSignature and keyCertSign
            leaf.extensions[1] = extension(&[0x55, 0x1d, 15], true, &[3, 2, 2, 0x84]);
        }),
        (LeafFault::KeyUsage, |leaf| leaf.extensions[1] = extension(&[0x55, 0x1d, 15], true, &[3, 2, 1, 6])),
        (LeafFault::KeyUsage, |leaf| drop(leaf.extensions.remove(1))),
        (LeafFault::Purpose, |leaf| leaf.extensions[2] = purposes(&[SERVERS, CLIENTS])),
        (LeafFault::Purpose, |leaf| leaf.extensions[2] = purposes(&[CLIENTS])),
        (LeafFault::Purpose, |leaf| leaf.extensions[2] = purposes(&[SERVERS, &[0x55, 0x1d, 37, 0]])),
        (LeafFault::Purpose, |leaf| leaf.extensions[2] = purposes(&[SERVERS, &[0x2a, 3, 4]])),
        (LeafFault::Purpose, |leaf| drop(leaf.extensions.remove(2))),
        (LeafFault::Names, |leaf| leaf.extensions[3] = names(&[])),
        (LeafFault::Names, |leaf| leaf.extensions[3] = names(&[&tlv(0x81, &[b"postmaster@example.org"])])),
        (LeafFault::Names, |leaf| leaf.extensions[3] = names(&[&tlv(0x82, &[b"a\nfor the log"])])),
        (LeafFault::Names, |leaf| leaf.extensions[3] = names(&[&tlv(0x87, &[&[192, 0, 2]])])),
        (LeafFault::Names, |leaf| {
            let many: Vec<_> = (0..=SANS_MAX).map(|i| tlv(0x82, &[format!("h{i}").as_bytes()])).collect();
            leaf.extensions[3] = names(&[&many.concat()]);
        }),
        (LeafFault::AuthorityKey, |leaf| {
            let value = tlv(0x30, &[&tlv(0x80, &[&[8; 20]])]);
            leaf.extensions[4] = extension(&[0x55, 0x1d, 35], false, &value);
        }),
        (LeafFault::AuthorityKey, |leaf| {
            let value = tlv(0x30, &[&tlv(0x80, &[&KEY_ID]), &tlv(0xa1, &[]), &tlv(0x82, &[&[1]])]);
            leaf.extensions[4] = extension(&[0x55, 0x1d, 35], false, &value);
        }),
        (LeafFault::AuthorityKey, |leaf| drop(leaf.extensions.remove(4))),
        // Name constraints; something of one's own, critical and not.
        (LeafFault::UnknownExtension, |leaf| {
            leaf.extensions.push(extension(&[0x55, 0x1d, 30], true, &tlv(0x30, &[])));
        }),
        (LeafFault::UnknownExtension, |leaf| leaf.extensions.push(extension(&[0x2a, 3, 4], true, &[5, 0]))),
        (LeafFault::UnknownExtension, |leaf| leaf.extensions.push(extension(&[0x2a, 3, 4], false, &[5, 0]))),
        (LeafFault::DuplicateExtension, |leaf| leaf.extensions.push(leaf.extensions[0].clone())),
        (LeafFault::DuplicateExtension, |leaf| {
            leaf.extensions.push(names(&[&tlv(0x82, &[b"other.example"])]));
        }),
        // What x509-parser forgives: lengths that are too long, values that are left out, another order.
        (LeafFault::Form, |leaf| leaf.serial = [&[2, 0x81, 16][..], &[0x41; 16]].concat()),
        (LeafFault::Form, |leaf| {
            leaf.subject = [&[0x30, 0x81, leaf.subject[1]][..], &leaf.subject[2..]].concat();
        }),
        (LeafFault::Form, |leaf| leaf.key = [&[0x30, 0x81, leaf.key[1]][..], &leaf.key[2..]].concat()),
        (LeafFault::Form, |leaf| leaf.extensions[0] = extension(&[0x55, 0x1d, 19], false, &[0x30, 0])),
        (LeafFault::Form, |leaf| leaf.extensions.swap(0, 1)),
        (LeafFault::Form, |leaf| {
            let value = tlv(0x30, &[&tlv(1, &[&[0]])]);
            leaf.extensions[0] = extension(&[0x55, 0x1d, 19], true, &value);
        }),
        (LeafFault::Form, |leaf| {
            let general = tlv(0x18, &[b"20261231235959Z"]);
            leaf.validity = tlv(0x30, &[&tlv(0x17, &[b"260101000000Z"]), &general]);
        }),
        (LeafFault::NotCertificate, |leaf| leaf.validity = tlv(0x30, &[])),
    ];
    for (number, (fault, change)) in cases.iter().enumerate() {
        assert_eq!(refused(change), *fault, "case {number}");
    }
}

#[test]
fn what_is_no_leaf_has_something_behind_it_or_is_too_long_is_refused() {
    let good = Parts::good().octets();
    assert_eq!(judged(&[]), Err(LeafFault::NotCertificate));
    assert_eq!(judged(b"64 spaces and a context"), Err(LeafFault::NotCertificate));
    assert_eq!(judged(&[&good[..], &[0]].concat()), Err(LeafFault::Trailing));
    for cut in 0..good.len() {
        assert_eq!(judged(&good[..cut]), Err(LeafFault::NotCertificate), "{cut}");
    }
    let mut long = Parts::good();
    long.subject = name(&"a".repeat(TBS_BYTES_MAX));
    assert_eq!(judged(&long.octets()), Err(LeafFault::TooLong));
    // All that a leaf may have fits.
    let mut largest = Parts::good();
    largest.subject = name(&"a".repeat(tbs::SUBJECT_BYTES_MAX - 20));
    let many: Vec<_> = (0..SANS_MAX).map(|i| tlv(0x82, &[format!("h{i:029}").as_bytes()])).collect();
    assert!((tbs::SAN_BYTES_MAX - 1024..=tbs::SAN_BYTES_MAX).contains(&many.concat().len()));
    largest.extensions[3] = names(&[&many.concat()]);
    assert_eq!(judged(&largest.octets()).unwrap().names, SANS_MAX);
}

/// Read by a parser that was not asked for it: what a client would find in it.
fn assert_harmless(octets: &[u8], place: &str) {
    let (rest, leaf) = TbsCertificate::from_der(octets).expect(place);
    assert!(rest.is_empty() && !leaf.is_ca(), "{place}");
    let (_, authority) =
        X509Name::from_der(&issuer().subject).map(|(rest, name)| (rest, name.to_string())).unwrap();
    assert_eq!(leaf.issuer().to_string(), authority, "{place}");
    assert_eq!(leaf.key_usage().unwrap().unwrap().value.flags, 1, "{place}");
    assert!(is_for_servers_alone(leaf.extended_key_usage().unwrap().unwrap().value), "{place}");
    let (not_before, not_after) = (leaf.validity().not_before, leaf.validity().not_after);
    assert!(NOT_BEFORE <= not_before.timestamp() && not_after.timestamp() <= NOT_AFTER, "{place}");
    assert!(
        leaf.extensions()
            .iter()
            .all(|extension| { matches!(extension.oid.as_bytes(), [0x55, 0x1d, 15 | 17 | 19 | 35 | 37]) })
    );
}

/// Wherever an octet is changed, and to whatever: it is refused, or it was one that differs between leaves.
#[test]
fn no_change_of_an_octet_makes_an_authority_or_another_issuer() {
    let parts = Parts::good();
    let good = parts.octets();
    let find = |part: &[u8]| {
        let start = good.windows(part.len()).position(|window| window == part).unwrap();
        start..start + part.len()
    };
    let free = [&parts.serial, &parts.validity, &parts.subject, &parts.key, &parts.extensions[3]]
        .map(|part| find(part));
    let mut signed = 0;
    for at in 0..good.len() {
        for octet in 0..=u8::MAX {
            let mut changed = good.clone();
            changed[at] = octet;
            if octet != good[at] && judged(&changed).is_ok() {
                signed += 1;
                let place = format!("octet {at} as {octet}");
                assert!(free.iter().any(|range| range.contains(&at)), "{place}");
                assert_harmless(&changed, &place);
            }
        }
    }
    assert!(signed > 1_000, "changes of what may differ are signed: {signed}");
}
