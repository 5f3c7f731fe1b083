//! What this kernel's TLS can do, probed once at the start, and whether the kernel is given a side's records.

use std::borrow::Cow;
use std::fmt;
use std::io;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ktls::CryptoInfo;
use ktls_sys::bindings;
use rustix::io::Errno;
use rustls::{CipherSuite, ConnectionTrafficSecrets, ProtocolVersion, SupportedCipherSuite, crypto};
use serde::{Deserialize, Serialize};

use super::measure::Measurement;
use super::shared::Secrets;
use super::{KernelSide, LayerFault};
use crate::config::Offload;
use crate::sys::{self, Half};

/// The ciphers of kernel TLS that are negotiated here (linux/tls.h).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Cipher {
    /// `TLS_CIPHER_AES_GCM_128`.
    Aes128Gcm,
    /// `TLS_CIPHER_AES_GCM_256`.
    Aes256Gcm,
    /// `TLS_CIPHER_CHACHA20_POLY1305`.
    ChaCha20Poly1305,
}

impl Cipher {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Aes128Gcm, Self::Aes256Gcm, Self::ChaCha20Poly1305];

    /// As suites are named.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Aes128Gcm => "AES-128-GCM",
            Self::Aes256Gcm => "AES-256-GCM",
            Self::ChaCha20Poly1305 => "ChaCha20-Poly1305",
        }
    }

    pub(super) fn of(suite: SupportedCipherSuite) -> Option<Self> {
        match suite.suite() {
            CipherSuite::TLS13_AES_128_GCM_SHA256
            | CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256
            | CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256 => Some(Self::Aes128Gcm),
            CipherSuite::TLS13_AES_256_GCM_SHA384
            | CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384
            | CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384 => Some(Self::Aes256Gcm),
            CipherSuite::TLS13_CHACHA20_POLY1305_SHA256
            | CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256
            | CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256 => Some(Self::ChaCha20Poly1305),
            _ => None,
        }
    }
}

/// The versions of kernel TLS.
const VERSIONS: [ProtocolVersion; 2] = [ProtocolVersion::TLSv1_2, ProtocolVersion::TLSv1_3];

/// Why a kernel has no TLS for us, and what an owner who wants it does about that.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NoKernelTls {
    /// What was found.
    pub why: String,
    /// What to do.
    pub remedy: Cow<'static, str>,
}

impl fmt::Display for NoKernelTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.why, self.remedy)
    }
}

/// What a kernel's TLS can do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Abilities {
    /// Why the kernel has no TLS at all.
    pub absent: Option<NoKernelTls>,
    /// Versions with the ciphers that work in them.
    #[serde(with = "by_number")]
    pub suites: Vec<(ProtocolVersion, Cipher)>,
    /// Keys can be changed (Linux 6.14): TLS 1.3 needs it to receive.
    pub rekey: bool,
    /// The kernel can receive without a copy from a peer that does not pad (Linux 6.0).
    pub no_pad: bool,
}

/// Versions as they stand on the wire, because rustls' own type is not written.
mod by_number {
    use rustls::ProtocolVersion;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::Cipher;

    pub(super) fn serialize<S: Serializer>(
        suites: &[(ProtocolVersion, Cipher)],
        to: S,
    ) -> Result<S::Ok, S::Error> {
        let numbers: Vec<(u16, Cipher)> =
            suites.iter().map(|(version, cipher)| (u16::from(*version), *cipher)).collect();
        numbers.serialize(to)
    }

    pub(super) fn deserialize<'a, D: Deserializer<'a>>(
        from: D,
    ) -> Result<Vec<(ProtocolVersion, Cipher)>, D::Error> {
        let numbers = Vec::<(u16, Cipher)>::deserialize(from)?;
        Ok(numbers.into_iter().map(|(version, cipher)| (ProtocolVersion::from(version), cipher)).collect())
    }
}

impl Abilities {
    /// Probe this kernel, on connections to ourselves over loopback.
    #[must_use]
    pub fn probe() -> Self {
        let mut abilities = Self::default();
        match pair().and_then(|(near, _far)| sys::set_tls_ulp(&near)) {
            Ok(()) => {}
            Err(error) => {
                abilities.absent = Some(absent(&error));
                return abilities;
            }
        }
        for version in VERSIONS {
            for cipher in Cipher::ALL {
                if try_keys(version, cipher, 1).is_ok() {
                    abilities.suites.push((version, cipher));
                }
            }
        }
        abilities.rekey = try_keys(ProtocolVersion::TLSv1_3, Cipher::Aes128Gcm, 2).is_ok();
        abilities.no_pad = try_no_pad().is_ok();
        abilities
    }

    /// Whether keys of this kind can be given to the kernel.
    #[must_use]
    pub fn can(&self, version: ProtocolVersion, suite: SupportedCipherSuite) -> bool {
        Cipher::of(suite).is_some_and(|cipher| self.suites.contains(&(version, cipher)))
    }
}

impl fmt::Display for Abilities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(absent) = &self.absent {
            return write!(f, "none ({})", absent.why);
        }
        for (number, version) in VERSIONS.into_iter().enumerate() {
            let ciphers =
                self.suites.iter().filter(|(of, _)| *of == version).map(|(_, cipher)| cipher.as_str());
            let ciphers: Vec<&str> = ciphers.collect();
            let name = if version == ProtocolVersion::TLSv1_3 { "TLS 1.3" } else { "TLS 1.2" };
            let ciphers = if ciphers.is_empty() { "nothing".to_owned() } else { ciphers.join(", ") };
            write!(f, "{}{name} {ciphers}", if number > 0 { "; " } else { "" })?;
        }
        f.write_str(if self.rekey { "; changes keys" } else { "; cannot change keys (Linux 6.14 can)" })?;
        f.write_str(if self.no_pad { "; receives without a copy" } else { "; receives with a copy" })
    }
}

fn absent(error: &io::Error) -> NoKernelTls {
    let (why, remedy) = match Errno::from_io_error(error) {
        Some(Errno::NOENT) => (
            "it was built without TLS, or the module is not loaded".to_owned(),
            "`modprobe tls`, and name it in /etc/modules-load.d",
        ),
        Some(Errno::NETUNREACH | Errno::ADDRNOTAVAIL) => {
            ("not asked, because loopback is down".to_owned(), "`ip link set lo up`")
        }
        _ => (
            format!("not asked, because a connection to 127.0.0.1 cannot be made ({error})"),
            "let this machine connect to itself, then start again",
        ),
    };
    NoKernelTls { why, remedy: remedy.into() }
}

/// The bound on a connection to ourselves: a firewall may drop its packets.
const LOOPBACK: Duration = Duration::from_millis(500);

fn pair() -> io::Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let near = TcpStream::connect_timeout(&listener.local_addr()?, LOOPBACK)?;
    Ok((near, listener.accept()?.0))
}

/// A key for the probe, with which nothing is encrypted.
fn nobodys_key(version: ProtocolVersion, cipher: Cipher) -> Option<CryptoInfo> {
    let mut suites = crypto::aws_lc_rs::ALL_CIPHER_SUITES.iter().copied();
    let suite =
        suites.find(|suite| suite.version().version == version && Cipher::of(*suite) == Some(cipher))?;
    let (key, iv) = ([7; 32], [9; 12].into());
    let secrets = match cipher {
        // rustls makes no keys of 16 octets for others.
        Cipher::Aes128Gcm => return Some(aes_128(version)),
        Cipher::Aes256Gcm => ConnectionTrafficSecrets::Aes256Gcm { key: key.into(), iv },
        Cipher::ChaCha20Poly1305 => ConnectionTrafficSecrets::Chacha20Poly1305 { key: key.into(), iv },
    };
    crypto_info(suite, Half::Transmit, (0, secrets)).ok()
}

fn aes_128(version: ProtocolVersion) -> CryptoInfo {
    CryptoInfo::AesGcm128(bindings::tls12_crypto_info_aes_gcm_128 {
        info: bindings::tls_crypto_info {
            version: u16::from(version),
            cipher_type: bindings::TLS_CIPHER_AES_GCM_128 as u16,
        },
        iv: [9; 8],
        key: [7; 16],
        salt: [9; 4],
        rec_seq: [0; 8],
    })
}

/// Set so many keys of a kind on a connection to ourselves, one after the other.
fn try_keys(version: ProtocolVersion, cipher: Cipher, keys: u32) -> io::Result<()> {
    let info = nobodys_key(version, cipher).ok_or(io::ErrorKind::Unsupported)?;
    let (near, _far) = pair()?;
    sys::set_tls_ulp(&near)?;
    (0..keys).try_for_each(|_| sys::set_tls_key(&near, Half::Transmit, &info))
}

fn try_no_pad() -> io::Result<()> {
    let info = aes_128(ProtocolVersion::TLSv1_3);
    let (near, _far) = pair()?;
    sys::set_tls_ulp(&near)?;
    sys::set_tls_key(&near, Half::Receive, &info)?;
    sys::expect_no_pad(&near)
}

/// A key in the kernel's form.
///
/// # Errors
/// A cipher that was never offered.
pub(super) fn crypto_info(
    suite: SupportedCipherSuite,
    half: Half,
    secrets: Secrets,
) -> Result<CryptoInfo, LayerFault> {
    let mut info = CryptoInfo::from_rustls(suite, secrets).map_err(|_| LayerFault::UnknownCipher)?;
    if half == Half::Transmit && suite.version().version == ProtocolVersion::TLSv1_2 {
        match &mut info {
            CryptoInfo::AesGcm128(info) => info.iv = unused_nonce(info.iv),
            CryptoInfo::AesGcm256(info) => info.iv = unused_nonce(info.iv),
            // Its nonces are made from the sequence number alone (RFC 7905 section 2).
            _ => {}
        }
    }
    Ok(info)
}

/// The first explicit nonce of TLS 1.2 for the kernel.
///
/// The kernel counts up from the nonce that it is given. rustls makes nonces by XOR of `iv` with the sequence number,
/// so that our Finished has the nonce `iv ^ 0`. A kernel that began at `iv` would use that nonce again, which breaks
/// the key. The nonces that rustls used differ from `iv` in low bits only, so the kernel begins half of all nonces
/// away.
fn unused_nonce(iv: [u8; 8]) -> [u8; 8] {
    (u64::from_be_bytes(iv) ^ (1 << 63)).to_be_bytes()
}

/// The namespace's counters of kernel TLS (Documentation/networking/tls.rst, "Statistics").
const STATISTICS: &str = "/proc/thread-self/net/tls_stat";
/// Whether some peer has padded its records, as far as this network namespace's kernel counts.
#[must_use]
pub fn peers_pad() -> bool {
    violations(&std::fs::read_to_string(STATISTICS).unwrap_or_default()) > 0
}

/// Whether peers are still trusted not to pad: one that pads costs two decryptions a record, so the first that is
/// counted ends it for all connections that come. The supervisor reads the counter, because the worker has no files.
#[derive(Debug, Default)]
pub struct NoPad {
    off: AtomicBool,
}

impl NoPad {
    fn holds(&self) -> bool {
        !self.off.load(Ordering::Relaxed)
    }

    /// A peer pads.
    pub fn end(&self) {
        if !self.off.swap(true, Ordering::Relaxed) {
            tracing::info!("a peer pads its TLS records: the kernel receives with a copy from now on");
        }
    }
}

fn violations(statistics: &str) -> u64 {
    let line = statistics.lines().find_map(|line| line.strip_prefix("TlsRxNoPadViolation"));
    line.and_then(|value| value.trim().parse().ok()).unwrap_or(0)
}

/// The terms by which a side's records go to the kernel or to this process.
#[derive(Clone, Debug, Default)]
pub struct OffloadTerms {
    /// Whether the kernel may be told that peers do not pad.
    pub no_pad: Arc<NoPad>,
    /// `tls.offload`.
    pub mode: Offload,
    /// What the kernel can do.
    pub abilities: Abilities,
    /// The cost of either layer, for `auto`.
    pub measurement: Arc<Measurement>,
    /// Lowers the suite's bound on records under one sending key; `None` keeps it.
    pub records_max: Option<u64>,
}

/// What was found out about this machine's kernel TLS, for a process that cannot look.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct OffloadMessage {
    mode: Offload,
    abilities: Abilities,
    measurement: Measurement,
}

/// Whether the kernel is used and what it can do, for the log and the status. A remedy is named only where something is
/// wrong: under `always`, without kernel TLS.
impl fmt::Display for OffloadTerms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.mode, &self.abilities.absent) {
            (Offload::Always, None) => write!(f, "used; this kernel has {}", self.abilities),
            (Offload::Always, Some(absent)) => {
                write!(f, "none, every connection is refused (tls.offload is \"always\"): {absent}")
            }
            (Offload::Auto, _) => {
                write!(f, "used where it pays (tls.offload is \"auto\"); this kernel has {}", self.abilities)
            }
            (Offload::Never, _) => {
                write!(f, "not used (tls.offload is \"never\"); this kernel has {}", self.abilities)
            }
        }
    }
}

impl OffloadTerms {
    /// Probe this kernel. Under `auto`, also measure both layers.
    #[must_use]
    pub fn find(mode: Offload) -> Self {
        let abilities = Abilities::probe();
        let measurement = match mode {
            Offload::Auto => Measurement::take(&abilities),
            Offload::Always | Offload::Never => Measurement::default(),
        };
        Self { mode, abilities, measurement: Arc::new(measurement), ..Self::default() }
    }

    /// What another process needs to decide alike.
    #[must_use]
    pub fn message(&self) -> OffloadMessage {
        let (abilities, measurement) = (self.abilities.clone(), (*self.measurement).clone());
        OffloadMessage { mode: self.mode, abilities, measurement }
    }

    /// As another process found out; what this one learned of peers stays.
    #[must_use]
    pub fn with(&self, message: OffloadMessage) -> Self {
        let OffloadMessage { mode, abilities, measurement } = message;
        Self { mode, abilities, measurement: Arc::new(measurement), ..self.clone() }
    }

    pub(super) fn expects_no_pad(&self) -> bool {
        self.abilities.no_pad && self.no_pad.holds()
    }

    /// Check, under `always`, that the kernel can take both halves of a side.
    ///
    /// # Errors
    /// [`LayerFault::NotOffloaded`], with what the kernel lacks.
    pub fn admit(&self, side: &KernelSide) -> Result<(), LayerFault> {
        let (version, suite) = (side.version(), side.suite());
        if self.mode != Offload::Always || self.offloads(version, suite) {
            return Ok(());
        }
        let lacking = || format!("its TLS has no {version:?} with {:?}", suite.suite());
        let absent = self.abilities.absent.as_ref().map(NoKernelTls::to_string);
        Err(LayerFault::NotOffloaded { why: absent.unwrap_or_else(lacking) })
    }

    /// Whether the kernel is given both halves of such a side. Under `always`, on kernels that cannot change keys
    /// (before Linux 6.14), the connection then ends at a peer's KeyUpdate, or after 2^24 records.
    pub(super) fn offloads(&self, version: ProtocolVersion, suite: SupportedCipherSuite) -> bool {
        let wanted = match self.mode {
            Offload::Never => false,
            Offload::Always => true,
            Offload::Auto => {
                self.abilities.rekey
                    && Cipher::of(suite).is_some_and(|cipher| self.measurement.prefers_kernel(cipher))
            }
        };
        wanted && self.abilities.can(version, suite)
    }

    /// Which layer opens and seals records, and why, in words.
    #[must_use]
    pub fn choice(&self) -> String {
        match (self.mode, &self.abilities.absent) {
            (Offload::Never, _) => "this process (tls.offload is \"never\")".to_owned(),
            (Offload::Always, None) => "kernel (tls.offload is \"always\")".to_owned(),
            (Offload::Always, Some(absent)) => {
                format!("nobody: tls.offload is \"always\", so every connection is refused: {absent}")
            }
            (Offload::Auto, _) => self.measurement.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::measure::{Comparison, Spent};
    use super::*;

    #[test]
    fn a_remedy_is_named_only_where_kernel_tls_was_asked_for() {
        for (mode, begins) in
            [(Offload::Always, "none, "), (Offload::Auto, "used where"), (Offload::Never, "not")]
        {
            let mut terms = OffloadTerms { mode, ..OffloadTerms::default() };
            let able = terms.to_string();
            assert!(able.contains("this kernel has TLS 1.2 ") && !able.contains("modprobe"), "{able}");
            assert_eq!(able.starts_with("not"), mode == Offload::Never, "{able}");
            terms.abilities.absent = Some(absent(&Errno::NOENT.into()));
            let unable = terms.to_string();
            assert!(unable.starts_with(begins), "{unable}");
            assert_eq!(unable.contains("modprobe tls"), mode == Offload::Always, "{unable}");
        }
    }

    #[test]
    fn a_padded_record_is_counted_and_ends_the_promise() {
        assert_eq!(violations("TlsDecryptError\t7\nTlsRxNoPadViolation           \t3\n"), 3);
        assert_eq!(violations("TlsRxNoPadViolation           \t0\n"), 0);
        assert_eq!(violations(""), 0);
        let (promise, broken) = (NoPad::default(), NoPad::default());
        broken.end();
        assert_eq!((promise.holds(), broken.holds()), (true, false));
    }

    #[test]
    fn auto_gives_the_kernel_what_it_is_better_at_and_can_change_keys_of() {
        let suites = crypto::aws_lc_rs::ALL_CIPHER_SUITES;
        let spent = |milliseconds| Spent { octets: 1_000_000_000, cpu: Duration::from_millis(milliseconds) };
        let comparison = |cipher, kernel| Comparison { cipher, user: spent(100), kernel: spent(kernel) };
        let measurement =
            Measurement::Taken(vec![comparison(Cipher::Aes128Gcm, 50), comparison(Cipher::Aes256Gcm, 120)]);
        let all = VERSIONS.into_iter().flat_map(|version| Cipher::ALL.map(|cipher| (version, cipher)));
        let abilities = Abilities { suites: all.collect(), rekey: true, ..Abilities::default() };
        let able = OffloadTerms { abilities, measurement: Arc::new(measurement), ..OffloadTerms::default() };
        let mut old = able.clone();
        old.abilities.rekey = false;
        for suite in suites {
            let (version, cipher) = (suite.version().version, Cipher::of(*suite).unwrap());
            assert_eq!(able.offloads(version, *suite), cipher == Cipher::Aes128Gcm, "{suite:?}");
            assert!(!old.offloads(version, *suite), "{suite:?}");
            for (mode, offloads) in [(Offload::Always, true), (Offload::Never, false)] {
                assert_eq!(
                    OffloadTerms { mode, ..old.clone() }.offloads(version, *suite),
                    offloads,
                    "{suite:?}"
                );
            }
        }
    }

    #[test]
    fn the_kernels_nonces_begin_where_rustls_used_none() {
        for iv in [0, 1, u64::MAX, 0x0102_0304_0506_0708, 1 << 63] {
            let start = u64::from_be_bytes(unused_nonce(iv.to_be_bytes()));
            for sequence in 0..1000_u64 {
                let used = iv ^ sequence;
                assert!(used.wrapping_sub(start) > 1 << 32, "reached after {}", used.wrapping_sub(start));
            }
        }
    }
}
