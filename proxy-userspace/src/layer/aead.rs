//! Sealing and opening one record: keys, nonces, additional data, for all three ciphers and both versions.
//!
//! rustls' own AES-GCM encrypter cannot start above sequence number 0, and copies every record. The types here work in
//! place and start at any number. RFC 8446 sections 5.2 and 5.3; RFC 5246 section 6.2.3.3, RFC 5288, RFC 7905.

use aws_lc_rs::aead::{AES_128_GCM, AES_256_GCM, Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use rustls::{ConnectionTrafficSecrets, ProtocolVersion};

use super::shared::Secrets;
use super::{LayerFault, PLAINTEXT_BYTES_MAX};

/// Octets of a record's header.
pub(crate) const HEADER_BYTES: usize = 5;
/// Octets of an authentication tag, the same in all three ciphers.
pub(super) const TAG_BYTES: usize = 16;
/// Octets of the nonce that TLS 1.2 sends with every AES-GCM record.
const EXPLICIT_NONCE_BYTES: usize = 8;
/// Room for what stands before a sealed body: header and explicit nonce.
pub(super) const HEAD_BYTES_MAX: usize = HEADER_BYTES + EXPLICIT_NONCE_BYTES;
/// Room for what stands after a sealed body: TLS 1.3's inner type and the tag.
pub(super) const TAIL_BYTES_MAX: usize = 1 + TAG_BYTES;
/// RFC 8446 section 5.2: what a TLS 1.3 record may add to its plaintext.
pub(crate) const EXPANSION_TLS13_BYTES_MAX: usize = 256;
/// RFC 5246 section 6.2.3: what a TLS 1.2 record may add to its plaintext.
pub(crate) const EXPANSION_TLS12_BYTES_MAX: usize = 2048;
/// The largest record of either version, header included.
pub(super) const RECORD_BYTES_MAX: usize = HEADER_BYTES + PLAINTEXT_BYTES_MAX + EXPANSION_TLS12_BYTES_MAX;
/// Records that may be sealed under one AES-GCM key (RFC 8446 section 5.5, as rustls rounds it).
pub(super) const AES_GCM_RECORDS_MAX: u64 = 1 << 24;

/// The content types of RFC 8446 section 5.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ContentType {
    ChangeCipherSpec,
    Alert,
    Handshake,
    ApplicationData,
}

impl ContentType {
    pub(crate) const fn octet(self) -> u8 {
        match self {
            Self::ChangeCipherSpec => 20,
            Self::Alert => 21,
            Self::Handshake => 22,
            Self::ApplicationData => 23,
        }
    }

    pub(crate) const fn parse(octet: u8) -> Option<Self> {
        match octet {
            20 => Some(Self::ChangeCipherSpec),
            21 => Some(Self::Alert),
            22 => Some(Self::Handshake),
            23 => Some(Self::ApplicationData),
            _ => None,
        }
    }
}

/// A record's header, as received.
#[derive(Clone, Copy, Debug)]
pub(super) struct Header {
    octets: [u8; HEADER_BYTES],
}

impl Header {
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        bytes.first_chunk().map(|octets| Self { octets: *octets })
    }

    /// Octets after the header.
    pub(super) fn length(self) -> usize {
        let [.., high, low] = self.octets;
        usize::from(u16::from_be_bytes([high, low]))
    }

    fn outer_type(self) -> u8 {
        let [octet, ..] = self.octets;
        octet
    }
}

/// The format of records, by version and cipher.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    /// TLS 1.3: inner type, nonce from the sequence number.
    Tls13,
    /// TLS 1.2 AES-GCM: eight octets of nonce in every record.
    Tls12Explicit,
    /// TLS 1.2 ChaCha20-Poly1305: nonce from the sequence number.
    Tls12Implicit,
}

/// The number of a record under one key. Neither `Copy` nor `Clone`: a number is used once.
#[derive(Debug)]
struct Sequence(u64);

impl Sequence {
    /// The number for this record; the next call gives the next one.
    fn take(&mut self) -> Result<u64, LayerFault> {
        let now = self.0;
        self.0 = now.checked_add(1).ok_or(LayerFault::ConfidentialityLimit)?;
        Ok(now)
    }
}

/// A key, and the state that its nonces are made from.
struct RecordCipher {
    key: LessSafeKey,
    iv: [u8; 12],
    shape: Shape,
    sequence: Sequence,
    records_max: u64,
}

impl RecordCipher {
    fn new(version: ProtocolVersion, (sequence, secrets): &Secrets) -> Result<Self, LayerFault> {
        let (algorithm, key, iv, explicit, records_max) = match secrets {
            ConnectionTrafficSecrets::Aes128Gcm { key, iv } => {
                (&AES_128_GCM, key, iv, true, AES_GCM_RECORDS_MAX)
            }
            ConnectionTrafficSecrets::Aes256Gcm { key, iv } => {
                (&AES_256_GCM, key, iv, true, AES_GCM_RECORDS_MAX)
            }
            ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } => {
                (&CHACHA20_POLY1305, key, iv, false, u64::MAX)
            }
            _ => return Err(LayerFault::UnknownCipher),
        };
        let iv = iv.as_ref().try_into().map_err(|_| LayerFault::UnknownCipher)?;
        let key = UnboundKey::new(algorithm, key.as_ref()).map_err(|_| LayerFault::UnknownCipher)?;
        let shape = match (version, explicit) {
            (ProtocolVersion::TLSv1_3, _) => Shape::Tls13,
            (ProtocolVersion::TLSv1_2, true) => Shape::Tls12Explicit,
            (ProtocolVersion::TLSv1_2, false) => Shape::Tls12Implicit,
            _ => return Err(LayerFault::UnknownCipher),
        };
        Ok(Self { key: LessSafeKey::new(key), iv, shape, sequence: Sequence(*sequence), records_max })
    }

    /// RFC 8446 section 5.3. The same rule serves TLS 1.2's AES-GCM, whose records carry the lower eight octets.
    fn nonce(&self, sequence: u64) -> [u8; 12] {
        let mut nonce = self.iv;
        if let Some(low) = nonce.last_chunk_mut::<8>() {
            *low = (u64::from_be_bytes(*low) ^ sequence).to_be_bytes();
        }
        nonce
    }
}

/// RFC 5246 section 6.2.3.3: sequence number, type, version, length of the plaintext.
fn additional_data_tls12(sequence: u64, content: u8, plaintext_bytes: usize) -> [u8; 13] {
    let [a, b, c, d, e, f, g, h] = sequence.to_be_bytes();
    let [high, low] = wire_length(plaintext_bytes);
    [a, b, c, d, e, f, g, h, content, 3, 3, high, low]
}

/// A length as two octets. Lengths here are at most [`RECORD_BYTES_MAX`]; a larger one would fail authentication.
fn wire_length(octets: usize) -> [u8; 2] {
    u16::try_from(octets).unwrap_or(u16::MAX).to_be_bytes()
}

/// What stands around a body that was sealed in place.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Seal {
    head: [u8; HEAD_BYTES_MAX],
    head_bytes: u8,
    tail: [u8; TAIL_BYTES_MAX],
    tail_bytes: u8,
}

impl Seal {
    pub(super) fn head(&self) -> &[u8] {
        self.head.get(..usize::from(self.head_bytes)).unwrap_or_default()
    }

    pub(super) fn tail(&self) -> &[u8] {
        self.tail.get(..usize::from(self.tail_bytes)).unwrap_or_default()
    }
}

/// Seals records of one direction under one key.
pub(super) struct Sealer(RecordCipher);

impl Sealer {
    /// `secrets` with the first sequence number that was not used yet; `records_max` lowers the suite's bound.
    pub(super) fn new(
        version: ProtocolVersion,
        secrets: &Secrets,
        records_max: Option<u64>,
    ) -> Result<Self, LayerFault> {
        let mut cipher = RecordCipher::new(version, secrets)?;
        cipher.records_max = records_max.map_or(cipher.records_max, |max| max.min(cipher.records_max));
        Ok(Self(cipher))
    }

    /// Records that this key may still seal.
    pub(super) fn records_left(&self) -> u64 {
        self.0.records_max.saturating_sub(self.0.sequence.0)
    }

    /// Whether the key has sealed nothing yet.
    pub(super) const fn is_unused(&self) -> bool {
        self.0.sequence.0 == 0
    }

    /// Encrypt `body` in place, and return what stands before and after it on the wire.
    pub(super) fn seal(&mut self, content: ContentType, body: &mut [u8]) -> Result<Seal, LayerFault> {
        if self.records_left() == 0 {
            return Err(LayerFault::ConfidentialityLimit);
        }
        let sequence = self.0.sequence.take()?;
        let nonce = self.0.nonce(sequence);
        match self.0.shape {
            Shape::Tls13 => self.seal_tls13(content, nonce, body),
            Shape::Tls12Explicit => {
                let [_, _, _, _, explicit @ ..] = nonce;
                self.seal_tls12(content, sequence, nonce, &explicit, body)
            }
            Shape::Tls12Implicit => self.seal_tls12(content, sequence, nonce, &[], body),
        }
    }

    fn seal_tls13(&self, content: ContentType, nonce: [u8; 12], body: &mut [u8]) -> Result<Seal, LayerFault> {
        let [high, low] = wire_length(body.len() + TAIL_BYTES_MAX);
        let header = [ContentType::ApplicationData.octet(), 3, 3, high, low];
        let mut seal = Seal::default();
        self.0
            .key
            .seal_in_place_scatter(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(header),
                body,
                &[content.octet()],
                &mut seal.tail,
            )
            .map_err(|_| LayerFault::SealFailed)?;
        seal.tail_bytes = TAIL_BYTES_MAX as u8;
        seal.head_bytes = put(&mut seal.head, &[&header]);
        Ok(seal)
    }

    fn seal_tls12(
        &self,
        content: ContentType,
        sequence: u64,
        nonce: [u8; 12],
        explicit: &[u8],
        body: &mut [u8],
    ) -> Result<Seal, LayerFault> {
        let aad = additional_data_tls12(sequence, content.octet(), body.len());
        let tag = self
            .0
            .key
            .seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), Aad::from(aad), body)
            .map_err(|_| LayerFault::SealFailed)?;
        let [high, low] = wire_length(explicit.len() + body.len() + TAG_BYTES);
        let mut seal = Seal::default();
        seal.head_bytes = put(&mut seal.head, &[&[content.octet(), 3, 3, high, low], explicit]);
        seal.tail_bytes = put(&mut seal.tail, &[tag.as_ref()]);
        Ok(seal)
    }
}

/// Write `parts` one after the other, and return their length.
fn put(room: &mut [u8], parts: &[&[u8]]) -> u8 {
    let mut at = 0;
    for part in parts {
        if let Some(slot) = room.get_mut(at..at + part.len()) {
            slot.copy_from_slice(part);
            at += part.len();
        }
    }
    at as u8
}

/// A record that was opened in place.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) content: ContentType,
    /// Where the plaintext begins, from the record's first octet.
    pub(super) start: usize,
    /// Octets of plaintext.
    pub(super) length: usize,
}

/// Opens records of one direction under one key.
pub(super) struct Opener(RecordCipher);

impl Opener {
    /// `secrets` with the first sequence number that was not used yet.
    pub(super) fn new(version: ProtocolVersion, secrets: &Secrets) -> Result<Self, LayerFault> {
        RecordCipher::new(version, secrets).map(Self)
    }

    /// Check a record's header before its body is read: its type and its length.
    pub(super) fn admit(&self, header: Header) -> Result<(), LayerFault> {
        let content = ContentType::parse(header.outer_type()).ok_or(LayerFault::NotTls)?;
        let (least, most) = match self.0.shape {
            Shape::Tls13 if content != ContentType::ApplicationData => {
                return Err(LayerFault::UnexpectedRecord);
            }
            Shape::Tls13 => (TAIL_BYTES_MAX, PLAINTEXT_BYTES_MAX + EXPANSION_TLS13_BYTES_MAX),
            _ if content == ContentType::ChangeCipherSpec => return Err(LayerFault::UnexpectedRecord),
            Shape::Tls12Explicit => {
                (EXPLICIT_NONCE_BYTES + TAG_BYTES, PLAINTEXT_BYTES_MAX + EXPANSION_TLS12_BYTES_MAX)
            }
            Shape::Tls12Implicit => (TAG_BYTES, PLAINTEXT_BYTES_MAX + EXPANSION_TLS12_BYTES_MAX),
        };
        match header.length() {
            length if length > most => Err(LayerFault::RecordOverflow),
            length if length < least => Err(LayerFault::BadRecord),
            _ => Ok(()),
        }
    }

    /// Decrypt `record` (exactly one, header included) in place.
    pub(super) fn open(&mut self, header: Header, record: &mut [u8]) -> Result<Opened, LayerFault> {
        let sequence = self.0.sequence.take()?;
        let opened = match self.0.shape {
            Shape::Tls13 => self.open_tls13(header, sequence, record),
            _ => self.open_tls12(header, sequence, record),
        }?;
        if opened.length > PLAINTEXT_BYTES_MAX {
            return Err(LayerFault::RecordOverflow);
        }
        Ok(opened)
    }

    fn open_tls13(&self, header: Header, sequence: u64, record: &mut [u8]) -> Result<Opened, LayerFault> {
        let body = record.get_mut(HEADER_BYTES..).ok_or(LayerFault::BadRecord)?;
        let nonce = Nonce::assume_unique_for_key(self.0.nonce(sequence));
        let inner = self
            .0
            .key
            .open_in_place(nonce, Aad::from(header.octets), body)
            .map_err(|_| LayerFault::BadRecord)?;
        // RFC 8446 section 5.4: zeros are padding, and the last other octet is the type. A record of zeros has no type.
        if inner.len() > PLAINTEXT_BYTES_MAX + 1 {
            return Err(LayerFault::RecordOverflow);
        }
        let length = inner.iter().rposition(|octet| *octet != 0).ok_or(LayerFault::UnexpectedRecord)?;
        let content = inner.get(length).copied().and_then(ContentType::parse);
        let content = content.ok_or(LayerFault::UnexpectedRecord)?;
        if content == ContentType::ChangeCipherSpec {
            return Err(LayerFault::UnexpectedRecord);
        }
        Ok(Opened { content, start: HEADER_BYTES, length })
    }

    fn open_tls12(&self, header: Header, sequence: u64, record: &mut [u8]) -> Result<Opened, LayerFault> {
        let explicit_bytes = if self.0.shape == Shape::Tls12Explicit { EXPLICIT_NONCE_BYTES } else { 0 };
        let start = HEADER_BYTES + explicit_bytes;
        let (head, body) = record.split_at_mut_checked(start).ok_or(LayerFault::BadRecord)?;
        let mut nonce = self.0.nonce(sequence);
        if explicit_bytes > 0
            && let (Some(low), Some(sent)) = (nonce.last_chunk_mut::<8>(), head.last_chunk::<8>())
        {
            *low = *sent;
        }
        let length = body.len().checked_sub(TAG_BYTES).ok_or(LayerFault::BadRecord)?;
        let aad = additional_data_tls12(sequence, header.outer_type(), length);
        self.0
            .key
            .open_in_place(Nonce::assume_unique_for_key(nonce), Aad::from(aad), body)
            .map_err(|_| LayerFault::BadRecord)?;
        let content = ContentType::parse(header.outer_type()).ok_or(LayerFault::NotTls)?;
        Ok(Opened { content, start, length })
    }
}

#[cfg(test)]
mod tests {
    use super::super::handshaken::secrets;
    use super::*;

    fn record(sealer: &mut Sealer, content: ContentType, body: &[u8]) -> Vec<u8> {
        let mut sealed = body.to_vec();
        let seal = sealer.seal(content, &mut sealed).unwrap();
        [seal.head(), &sealed, seal.tail()].concat()
    }

    #[test]
    fn what_is_sealed_opens_from_any_first_sequence_number_and_no_octet_may_change() {
        for version in [ProtocolVersion::TLSv1_2, ProtocolVersion::TLSv1_3] {
            for gcm in [true, false] {
                let mut sealer = Sealer::new(version, &(5, secrets(gcm)), None).unwrap();
                let mut opener = Opener::new(version, &(5, secrets(gcm))).unwrap();
                for body in [&b""[..], b"a", &[3; PLAINTEXT_BYTES_MAX]] {
                    let mut wire = record(&mut sealer, ContentType::ApplicationData, body);
                    let header = Header::parse(&wire).unwrap();
                    opener.admit(header).unwrap();
                    let opened = opener.open(header, &mut wire).unwrap();
                    assert_eq!(&wire[opened.start..opened.start + opened.length], body);
                }
                let whole = record(&mut sealer, ContentType::Alert, b"ab");
                for at in 0..whole.len() {
                    let mut wire = whole.clone();
                    wire[at] ^= 1;
                    let mut opener = Opener::new(version, &(8, secrets(gcm))).unwrap();
                    let header = Header::parse(&wire).unwrap();
                    // TLS 1.2 authenticates a version of its own, not the header's.
                    let ignored = version == ProtocolVersion::TLSv1_2 && (1..5).contains(&at);
                    assert!(opener.open(header, &mut wire).is_err() || ignored, "{version:?} octet {at}");
                }
            }
        }
    }

    #[test]
    fn a_key_seals_no_record_beyond_its_limit() {
        let mut sealer = Sealer::new(ProtocolVersion::TLSv1_3, &(0, secrets(true)), Some(2)).unwrap();
        let mut seal = || sealer.seal(ContentType::ApplicationData, &mut [0; 8]).map(|_| ());
        assert!(seal().is_ok() && seal().is_ok());
        assert!(matches!(seal(), Err(LayerFault::ConfidentialityLimit)));
    }
}
