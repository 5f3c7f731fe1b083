//! Entry points of fuzz targets: parsers of what only an authenticated peer can send, without the cryptography that a
//! fuzzer cannot guess.

use std::sync::{LazyLock, Mutex, PoisonError};

use rustls::{ProtocolVersion, version};

use super::aead::{ContentType, Header, Opener, Sealer};
use super::handshaken::{HandshakeRole, handshaken, secrets};
use super::post::{Control, HANDSHAKE_BYTES_MAX, PostHandshake};
use super::{KernelSide, PLAINTEXT_BYTES_MAX};

static KERNELS: LazyLock<Mutex<[KernelSide; 4]>> = LazyLock::new(|| {
    let kernel = |role, version| handshaken(role, version).1;
    Mutex::new([
        kernel(HandshakeRole::Client, &version::TLS12),
        kernel(HandshakeRole::Server, &version::TLS12),
        kernel(HandshakeRole::Client, &version::TLS13),
        kernel(HandshakeRole::Server, &version::TLS13),
    ])
});

/// Parse handshake records with this content. The parser never panics, what it keeps is bounded, and the content in one
/// record gives the same result as one octet per record. `which` chooses version and role.
pub fn post_handshake(which: u8, content: &[u8]) {
    let mut kernels = KERNELS.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(kernel) = kernels.get_mut(usize::from(which % 4)) else { return };
    let mut whole = PostHandshake::default();
    let at_once = if content.is_empty() { Ok(Control::Done) } else { whole.handshake(content, kernel) };
    let mut split = PostHandshake::default();
    let mut last = Ok(Control::Done);
    for octet in content {
        last = split.handshake(std::slice::from_ref(octet), kernel);
        assert!(split.kept() <= HANDSHAKE_BYTES_MAX + 4, "what is kept is bounded");
        if !matches!(last, Ok(Control::Done)) {
            break;
        }
    }
    // A KeyUpdate may not share its record. Only there do the two results differ.
    if !matches!(last, Ok(Control::KeyUpdate { .. })) {
        assert_eq!(at_once.map_err(|fault| fault.reason()), last.map_err(|fault| fault.reason()));
    }
}

/// Open an unauthenticated record with this header and body. Seal the body, open the result, and compare.
pub fn records(octets: &[u8]) {
    for version in [ProtocolVersion::TLSv1_2, ProtocolVersion::TLSv1_3] {
        for gcm in [true, false] {
            let opener = || Opener::new(version, &(3, secrets(gcm)));
            let (Ok(mut forged), Ok(mut honest)) = (opener(), opener()) else { return };
            if let Some(header) = Header::parse(octets)
                && forged.admit(header).is_ok()
            {
                assert!(forged.open(header, &mut octets.to_vec()).is_err(), "nobody forges a tag");
            }
            if octets.len() > PLAINTEXT_BYTES_MAX {
                return;
            }
            let Ok(mut sealer) = Sealer::new(version, &(3, secrets(gcm)), None) else { return };
            let mut body = octets.to_vec();
            let Ok(seal) = sealer.seal(ContentType::Handshake, &mut body) else { return };
            let mut wire = [seal.head(), &body, seal.tail()].concat();
            let opened = Header::parse(&wire).map(|header| honest.open(header, &mut wire));
            let opened = opened.and_then(Result::ok);
            let plain = opened.and_then(|opened| wire.get(opened.start..opened.start + opened.length));
            assert_eq!(plain, Some(octets));
        }
    }
}
