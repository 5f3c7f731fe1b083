//! PEM files that the owner names: read whole, each mistake told with the file and the remedy.

use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::process::geteuid;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use crate::signer::KEY_FILE_BYTES_MAX;

/// What chmod(1) sets.
const PERMISSION_BITS: u32 = 0o7777;
/// What the group and all others may do.
const OTHERS_BITS: u32 = 0o077;

/// A PEM file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PemError {
    /// The operating system refused to read it.
    #[error("{}: cannot be read ({source}); correct the path or the file's permissions", file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// A private key that others can read: whoever does can impersonate every server to the clients.
    #[error("{}: has mode {mode:04o}, so that others than its owner can read the private key; chmod 600 {}", file.display(), file.display())]
    Exposed {
        /// The file.
        file: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// A private key of somebody who is neither root nor the user of this process.
    #[error("{}: the private key's file belongs to user {owner}, who can read and replace it; chown {user} {}", file.display(), file.display())]
    Owned {
        /// The file.
        file: PathBuf,
        /// The owner's number.
        owner: u32,
        /// The number of this process's user.
        user: u32,
    },
    /// A section that is not PEM.
    #[error("{}: is damaged ({fault}); export it again as PEM", file.display())]
    Damaged {
        /// The file.
        file: PathBuf,
        /// What was wrong with the text.
        fault: String,
    },
    /// A private key's file that is too long to be read whole.
    #[error("{}: is longer than {KEY_FILE_BYTES_MAX} octets; put the private key into a file of its own", file.display())]
    TooLong {
        /// The file.
        file: PathBuf,
    },
    /// No certificate in it.
    #[error("{}: holds no \"BEGIN CERTIFICATE\"; DER files are converted with `openssl x509 -inform der -in FILE`", file.display())]
    NoCertificate {
        /// The file.
        file: PathBuf,
    },
    /// No private key in it, or an encrypted one.
    #[error(
        "{}: holds no private key that can be read (PKCS#8, PKCS#1 or SEC1, not encrypted); \
         an encrypted one is opened with `openssl pkey -in FILE`", file.display()
    )]
    NoKey {
        /// The file.
        file: PathBuf,
    },
    /// A private key of a kind that TLS here cannot use.
    #[error("{}: holds a private key that cannot be used ({fault}); use ECDSA P-256, P-384, P-521, RSA (2048 bits or more) or Ed25519", file.display())]
    UnsupportedKey {
        /// The file.
        file: PathBuf,
        /// What the cryptographic library said.
        fault: String,
    },
}

/// Every certificate of a file, in its order; at least one.
pub(crate) fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, PemError> {
    let text = read(file)?;
    let certificates = CertificateDer::pem_slice_iter(&text)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| PemError::Damaged { file: file.into(), fault: error.to_string() })?;
    if certificates.is_empty() {
        return Err(PemError::NoCertificate { file: file.into() });
    }
    Ok(certificates)
}

/// The file of a private key, opened and not read: whoever signs with it reads it.
pub(crate) fn open_key(file: &Path) -> Result<File, PemError> {
    let failed = |source| PemError::Read { file: file.into(), source };
    let opened = File::open(file).map_err(failed)?;
    // Of what was opened, not of what the path leads to by then.
    guarded(file, &opened.metadata().map_err(failed)?)?;
    Ok(opened)
}

/// Whether a private key is its owner's alone, and the owner root or the user of this process.
fn guarded(file: &Path, metadata: &Metadata) -> Result<(), PemError> {
    let mode = metadata.mode() & PERMISSION_BITS;
    if mode & OTHERS_BITS != 0 {
        return Err(PemError::Exposed { file: file.into(), mode });
    }
    let (owner, user) = (metadata.uid(), geteuid().as_raw());
    if owner != 0 && owner != user {
        return Err(PemError::Owned { file: file.into(), owner, user });
    }
    Ok(())
}

fn read(file: &Path) -> Result<Vec<u8>, PemError> {
    std::fs::read(file).map_err(|source| PemError::Read { file: file.into(), source })
}
