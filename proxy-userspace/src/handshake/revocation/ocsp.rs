//! OCSP responses (RFC 6960): read and judged, whoever brought them.
//!
//! The response is a stranger's until its signature is verified. Its time and status are looked at after that only.

use aws_lc_rs::digest;
use rustls::pki_types::{CertificateDer, SubjectPublicKeyInfoDer, TrustAnchor, UnixTime};
use webpki::{EndEntityCert, KeyUsage, RawPublicKeyEntity};
use x509_parser::prelude::{ASN1Time, FromDer, SubjectPublicKeyInfo, X509Certificate};

use super::der::{Reader, Value, tag};
use super::unix_time;

/// Octets of a response: one with a chain of certificates has some 4 KiB.
pub const OCSP_RESPONSE_BYTES_MAX: usize = 16 * 1_024;
/// How far a responder's clock may be ahead, in seconds: a fresh response has the time of now.
const CLOCK_SKEW_SECONDS: u64 = 300;
/// For how long a response counts that does not say when there will be a newer one, in seconds. RFC 6960 section 2.4:
/// there always is, so that an old one proves little.
const AGE_WITHOUT_NEXT_UPDATE_SECONDS: u64 = 86_400;
/// Certificates of a response that are looked at as its signer's. One is usual.
const SIGNERS_MAX: usize = 4;

/// id-pkix-ocsp-basic, 1.3.6.1.5.5.7.48.1.1 (RFC 6960 section 4.2.1).
const BASIC: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 48, 1, 1];
/// id-kp-OCSPSigning, 1.3.6.1.5.5.7.3.9 (RFC 6960 section 4.2.2.2).
pub(super) const OCSP_SIGNING: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 3, 9];
/// 1.3.14.3.2.26: here it names an issuer, and secures nothing.
pub(super) const SHA1: &[u8] = &[0x2b, 14, 3, 2, 26];
/// 2.16.840.1.101.3.4.2.1.
const SHA256: &[u8] = &[0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 1];
/// 2.16.840.1.101.3.4.2.2.
const SHA384: &[u8] = &[0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 2];
/// 2.16.840.1.101.3.4.2.3.
const SHA512: &[u8] = &[0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 3];

/// What an OCSP response says of a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OcspAnswer {
    /// It is good, and this may be believed so long.
    Good {
        /// `nextUpdate`, or a day after `thisUpdate`.
        until: UnixTime,
    },
    /// It is revoked, whatever the response's age: hardly any revocation is taken back.
    Revoked,
    /// Nothing.
    Nothing(NoOcspAnswer),
}

/// Why a response says nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoOcspAnswer {
    /// There is none.
    Absent,
    /// It is no response, has more than [`OCSP_RESPONSE_BYTES_MAX`] octets, or a critical extension, of which none is
    /// known here.
    Malformed,
    /// The responder answered with an error (`responseStatus`).
    Error,
    /// It is about other certificates.
    OtherCertificate,
    /// Nobody signed it who may: neither the certificate's issuer, nor a responder whom the issuer appointed.
    Unsigned,
    /// The responder does not know the certificate.
    Unknown,
    /// Its `thisUpdate` lies ahead.
    NotYetValid,
    /// Its `nextUpdate` is over.
    Outdated,
    /// The certificate's issuer is not trusted, so that nobody can speak for it.
    NoIssuer,
}

impl OcspAnswer {
    /// The word in records.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Good { .. } => "good",
            Self::Revoked => "revoked",
            Self::Nothing(why) => match why {
                NoOcspAnswer::Absent => "absent",
                NoOcspAnswer::Malformed => "malformed",
                NoOcspAnswer::Error => "error",
                NoOcspAnswer::OtherCertificate => "other_certificate",
                NoOcspAnswer::Unsigned => "unsigned",
                NoOcspAnswer::Unknown => "unknown",
                NoOcspAnswer::NotYetValid => "not_yet_valid",
                NoOcspAnswer::Outdated => "outdated",
                NoOcspAnswer::NoIssuer => "no_issuer",
            },
        }
    }
}

/// The certificate that is asked about, and who may answer.
pub(super) struct Subject<'a> {
    /// `serialNumber`, as it is encoded.
    pub(super) serial: &'a [u8],
    /// `issuer`, with identifier and length.
    pub(super) issuer_name: &'a [u8],
    /// The issuer's key.
    pub(super) issuer_key: &'a SubjectPublicKeyInfoDer<'a>,
    /// The issuer, as what a responder's certificate is verified against.
    pub(super) issuer: &'a TrustAnchor<'a>,
}

/// Judge a response. An appointed responder's certificate must be good in the eyes of `is_revoked`, too.
pub(super) fn judge(
    response: &[u8],
    subject: &Subject<'_>,
    now: UnixTime,
    is_revoked: impl Fn(&EndEntityCert<'_>, &TrustAnchor<'_>) -> bool,
) -> OcspAnswer {
    match read(response) {
        _ if response.is_empty() => OcspAnswer::Nothing(NoOcspAnswer::Absent),
        _ if response.len() > OCSP_RESPONSE_BYTES_MAX => OcspAnswer::Nothing(NoOcspAnswer::Malformed),
        None => OcspAnswer::Nothing(NoOcspAnswer::Malformed),
        Some(Envelope::Error) => OcspAnswer::Nothing(NoOcspAnswer::Error),
        Some(Envelope::Basic(basic)) if !basic.is_signed(subject, now, is_revoked) => {
            OcspAnswer::Nothing(NoOcspAnswer::Unsigned)
        }
        Some(Envelope::Basic(basic)) => basic.says(subject, now),
    }
}

enum Envelope<'a> {
    Error,
    Basic(Basic<'a>),
}

/// `BasicOCSPResponse`.
struct Basic<'a> {
    /// `tbsResponseData`, with identifier and length.
    signed: &'a [u8],
    responder: Responder<'a>,
    singles: Vec<Single<'a>>,
    /// The content of `signatureAlgorithm`.
    algorithm: &'a [u8],
    signature: &'a [u8],
    certificates: Vec<CertificateDer<'a>>,
}

/// `ResponderID`.
enum Responder<'a> {
    /// `byName`, with identifier and length.
    Name(&'a [u8]),
    /// `byKey`: SHA-1 of the key.
    Key(&'a [u8]),
}

/// `SingleResponse`.
struct Single<'a> {
    hash: &'static digest::Algorithm,
    issuer_name: &'a [u8],
    issuer_key: &'a [u8],
    serial: &'a [u8],
    status: Status,
    this_update: u64,
    next_update: Option<u64>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Status {
    Good,
    Revoked,
    Unknown,
}

impl Basic<'_> {
    fn is_signed(
        &self,
        subject: &Subject<'_>,
        now: UnixTime,
        is_revoked: impl Fn(&EndEntityCert<'_>, &TrustAnchor<'_>) -> bool,
    ) -> bool {
        // RFC 6960 section 4.2.2.2: the issuer itself, under its name or its key.
        if self.responder.is(subject.issuer_name, subject.issuer_key) && self.verifies(subject.issuer_key) {
            return true;
        }
        self.certificates.iter().any(|der| {
            let Ok(cert) = EndEntityCert::try_from(der) else { return false };
            let Ok((_, parsed)) = X509Certificate::from_der(der) else { return false };
            let key = cert.subject_public_key_info();
            self.responder.is(parsed.subject().as_raw(), &key)
                && self.verifies(&key)
                && is_appointed(&cert, subject.issuer, now)
                && !is_revoked(&cert, subject.issuer)
        })
    }

    fn verifies(&self, key: &SubjectPublicKeyInfoDer<'_>) -> bool {
        let Ok(key) = RawPublicKeyEntity::try_from(key) else { return false };
        webpki::ALL_VERIFICATION_ALGS
            .iter()
            .filter(|algorithm| algorithm.signature_alg_id().as_ref() == self.algorithm)
            .any(|algorithm| key.verify_signature(*algorithm, self.signed, self.signature).is_ok())
    }

    /// What is said of the certificate: the worst, where several statements are about it; otherwise the best of those.
    fn says(&self, subject: &Subject<'_>, now: UnixTime) -> OcspAnswer {
        let Some(key) = key_bits(subject.issuer_key.as_ref()) else {
            return OcspAnswer::Nothing(NoOcspAnswer::OtherCertificate);
        };
        let about = self.singles.iter().filter(|single| {
            let is = |hash: &[u8], of: &[u8]| digest::digest(single.hash, of).as_ref() == hash;
            single.serial == subject.serial
                && is(single.issuer_name, subject.issuer_name)
                && is(single.issuer_key, key)
        });
        let answers: Vec<_> = about.map(|single| single.says(now)).collect();
        if answers.contains(&OcspAnswer::Revoked) {
            return OcspAnswer::Revoked;
        }
        let good = answers.iter().find(|answer| matches!(answer, OcspAnswer::Good { .. }));
        good.or(answers.first()).copied().unwrap_or(OcspAnswer::Nothing(NoOcspAnswer::OtherCertificate))
    }
}

/// Whether the issuer itself made this the certificate of a responder (RFC 6960 section 4.2.2.2).
fn is_appointed(cert: &EndEntityCert<'_>, issuer: &TrustAnchor<'_>, now: UnixTime) -> bool {
    let anchors = std::slice::from_ref(issuer);
    let usage = KeyUsage::required(OCSP_SIGNING);
    cert.verify_for_usage(webpki::ALL_VERIFICATION_ALGS, anchors, &[], now, usage, None, None).is_ok()
}

impl Responder<'_> {
    /// Whether this name and key are meant.
    fn is(&self, name: &[u8], key: &SubjectPublicKeyInfoDer<'_>) -> bool {
        match self {
            Self::Name(wanted) => *wanted == name,
            Self::Key(wanted) => key_bits(key.as_ref()).is_some_and(|bits| {
                digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, bits).as_ref() == *wanted
            }),
        }
    }
}

impl Single<'_> {
    fn says(&self, now: UnixTime) -> OcspAnswer {
        let now = now.as_secs();
        let until =
            self.next_update.unwrap_or(self.this_update.saturating_add(AGE_WITHOUT_NEXT_UPDATE_SECONDS));
        match self.status {
            _ if self.this_update > now.saturating_add(CLOCK_SKEW_SECONDS) => {
                OcspAnswer::Nothing(NoOcspAnswer::NotYetValid)
            }
            Status::Revoked => OcspAnswer::Revoked,
            _ if now > until => OcspAnswer::Nothing(NoOcspAnswer::Outdated),
            Status::Unknown => OcspAnswer::Nothing(NoOcspAnswer::Unknown),
            Status::Good => OcspAnswer::Good { until: unix_time(until) },
        }
    }
}

/// The octets of a key that `issuerKeyHash` and `byKey` are over: the BIT STRING without identifier, length and unused
/// bits.
pub(super) fn key_bits(spki: &[u8]) -> Option<&[u8]> {
    let mut reader = Reader::new(SubjectPublicKeyInfo::from_der(spki).ok()?.1.raw);
    let mut spki = reader.enter(tag::SEQUENCE)?;
    spki.expect(tag::SEQUENCE)?;
    bits(spki.expect(tag::BIT_STRING)?)
}

/// The octets of a BIT STRING that has whole ones.
fn bits<'a>(value: Value<'a>) -> Option<&'a [u8]> {
    value.content.split_first().and_then(|(unused, bits)| (*unused == 0).then_some(bits))
}

/// `OCSPResponse`, to its last octet.
fn read(response: &[u8]) -> Option<Envelope<'_>> {
    let mut reader = Reader::new(response);
    let mut outer = reader.enter(tag::SEQUENCE)?;
    reader.finish()?;
    let status = outer.expect(tag::ENUMERATED)?;
    match status.content {
        [0] => {}
        // malformedRequest, internalError, tryLater, sigRequired, unauthorized.
        [1 | 2 | 3 | 5 | 6] if outer.is_empty() => return Some(Envelope::Error),
        _ => return None,
    }
    let mut tagged = outer.enter(tag::constructed(0))?;
    outer.finish()?;
    let mut bytes = tagged.enter(tag::SEQUENCE)?;
    tagged.finish()?;
    if bytes.expect(tag::OID)?.content != BASIC {
        return None;
    }
    let mut octets = Reader::new(bytes.expect(tag::OCTET_STRING)?.content);
    bytes.finish()?;
    let basic = octets.enter(tag::SEQUENCE)?;
    octets.finish()?;
    read_basic(basic).map(Envelope::Basic)
}

fn read_basic(mut reader: Reader<'_>) -> Option<Basic<'_>> {
    let data = reader.expect(tag::SEQUENCE)?;
    let algorithm = reader.expect(tag::SEQUENCE)?.content;
    let signature = bits(reader.expect(tag::BIT_STRING)?)?;
    let mut certificates = Vec::new();
    if let Some(tagged) = reader.optional(tag::constructed(0))? {
        let mut tagged = Reader::new(tagged.content);
        let mut list = tagged.enter(tag::SEQUENCE)?;
        tagged.finish()?;
        while !list.is_empty() {
            let certificate = list.expect(tag::SEQUENCE)?;
            if certificates.len() < SIGNERS_MAX {
                certificates.push(CertificateDer::from(certificate.whole));
            }
        }
    }
    reader.finish()?;
    let (responder, singles) = read_data(Reader::new(data.content))?;
    Some(Basic { signed: data.whole, responder, singles, algorithm, signature, certificates })
}

/// `ResponseData`.
fn read_data(mut data: Reader<'_>) -> Option<(Responder<'_>, Vec<Single<'_>>)> {
    // Only v1 exists, and DER leaves out a default. Some responders write it.
    if let Some(version) = data.optional(tag::constructed(0))?
        && version.content != [tag::INTEGER, 1, 0]
    {
        return None;
    }
    let id = data.value()?;
    let mut within = Reader::new(id.content);
    let responder = if id.tag == tag::constructed(1) {
        Responder::Name(within.expect(tag::SEQUENCE)?.whole)
    } else if id.tag == tag::constructed(2) {
        Responder::Key(within.expect(tag::OCTET_STRING)?.content)
    } else {
        return None;
    };
    within.finish()?;
    time(data.expect(tag::GENERALIZED_TIME)?)?;
    let mut list = data.enter(tag::SEQUENCE)?;
    let mut singles = Vec::new();
    while !list.is_empty() {
        singles.extend(read_single(list.enter(tag::SEQUENCE)?)?);
    }
    no_critical_extensions(data.optional(tag::constructed(1))?)?;
    data.finish()?;
    Some((responder, singles))
}

/// `SingleResponse`; `Some(None)` where it names its certificate by a digest that is not known here.
fn read_single(mut reader: Reader<'_>) -> Option<Option<Single<'_>>> {
    let mut id = reader.enter(tag::SEQUENCE)?;
    let mut algorithm = id.enter(tag::SEQUENCE)?;
    let hash: Option<&'static digest::Algorithm> = match algorithm.expect(tag::OID)?.content {
        SHA1 => Some(&digest::SHA1_FOR_LEGACY_USE_ONLY),
        SHA256 => Some(&digest::SHA256),
        SHA384 => Some(&digest::SHA384),
        SHA512 => Some(&digest::SHA512),
        _ => None,
    };
    let issuer_name = id.expect(tag::OCTET_STRING)?.content;
    let issuer_key = id.expect(tag::OCTET_STRING)?.content;
    let serial = id.expect(tag::INTEGER)?.content;
    id.finish()?;
    let status = reader.value()?;
    let status = if status.tag == tag::primitive(0) && status.content.is_empty() {
        Status::Good
    } else if status.tag == tag::constructed(1) {
        time(Reader::new(status.content).expect(tag::GENERALIZED_TIME)?)?;
        Status::Revoked
    } else if status.tag == tag::primitive(2) && status.content.is_empty() {
        Status::Unknown
    } else {
        return None;
    };
    let this_update = time(reader.expect(tag::GENERALIZED_TIME)?)?;
    let next_update = match reader.optional(tag::constructed(0))? {
        Some(tagged) => {
            let mut tagged = Reader::new(tagged.content);
            let at = time(tagged.expect(tag::GENERALIZED_TIME)?)?;
            tagged.finish()?;
            Some(at)
        }
        None => None,
    };
    no_critical_extensions(reader.optional(tag::constructed(1))?)?;
    reader.finish()?;
    let single = |hash| Single { hash, issuer_name, issuer_key, serial, status, this_update, next_update };
    Some(hash.map(single))
}

/// `None` where `Extensions` cannot be read, or one of them is critical.
fn no_critical_extensions(tagged: Option<Value<'_>>) -> Option<()> {
    let Some(tagged) = tagged else { return Some(()) };
    let mut reader = Reader::new(tagged.content);
    let mut list = reader.enter(tag::SEQUENCE)?;
    reader.finish()?;
    while !list.is_empty() {
        let mut extension = list.enter(tag::SEQUENCE)?;
        extension.expect(tag::OID)?;
        if let Some(critical) = extension.optional(tag::BOOLEAN)?
            && critical.content != [0]
        {
            return None;
        }
        extension.expect(tag::OCTET_STRING)?;
        extension.finish()?;
    }
    Some(())
}

/// A GeneralizedTime in seconds since 1970; what was before is 1970.
fn time(value: Value<'_>) -> Option<u64> {
    let (rest, time) = ASN1Time::from_der(value.whole).ok()?;
    rest.is_empty().then(|| u64::try_from(time.timestamp()).unwrap_or(0))
}
