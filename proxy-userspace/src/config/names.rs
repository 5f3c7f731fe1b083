use ipnet::IpNet;
use std::net::IpAddr;

use super::fault::Reason;
use super::{
    ClearText, ForbiddenType, ImplicitTls, Inspection, InterfaceName, NamePattern, Offload, OnExit, Source,
    StartTls, TlsVersion, Verdict,
};
use crate::words::Size;

/// Octets of an interface name without its NUL: `IFNAMSIZ` - 1 (linux/if.h).
const INTERFACE_NAME_BYTES_MAX: usize = 15;
/// Octets of a DNS name in text form (RFC 1035 section 2.3.4).
const DNS_NAME_BYTES_MAX: usize = 253;
/// Octets of one label (RFC 1035 section 2.3.4).
const DNS_LABEL_BYTES_MAX: usize = 63;
/// Octets of a pattern for file names: no file on Linux has a longer name (`NAME_MAX`, linux/limits.h).
const NAME_PATTERN_BYTES_MAX: usize = 255;

/// The kernel's own rule: `dev_valid_name` in net/core/dev.c.
pub(super) fn interface(text: &str) -> Result<InterfaceName, Reason> {
    let fits = (1..=INTERFACE_NAME_BYTES_MAX).contains(&text.len());
    let forbidden = |octet: u8| {
        octet == b'/' || octet == b':' || octet.is_ascii_whitespace() || octet == 0x0b || octet == 0
    };
    if !fits || matches!(text, "." | "..") || text.bytes().any(forbidden) {
        return Err(Reason::NotAnInterface);
    }
    Ok(InterfaceName(text.to_owned()))
}

/// A bare address is a network of one host.
pub(super) fn network(text: &str) -> Result<IpNet, Reason> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(IpNet::from(address));
    }
    let net: IpNet = text.parse().map_err(|_| Reason::NotANetwork)?;
    if net.trunc() != net {
        return Err(Reason::HostBits { network: net.trunc() });
    }
    Ok(net)
}

/// A name that may stand in SNI (RFC 6066 section 3), lower-cased; `*` stands for exactly one first label (RFC 6125).
pub(super) fn server_name(text: &str) -> Result<String, Reason> {
    let refuse = |why| Err(Reason::NotAServerName { why });
    if !text.is_ascii() {
        return refuse("not ASCII, write international names as xn-- labels");
    }
    if text.len() > DNS_NAME_BYTES_MAX {
        return refuse("longer than 253 octets");
    }
    let name = text.to_ascii_lowercase();
    let host = name.strip_prefix("*.").unwrap_or(&name);
    if host.contains('*') {
        return refuse("`*` stands only for the whole first label");
    }
    if host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok() {
        return refuse("clients never send an address as SNI");
    }
    if let Some(why) = host.split('.').find_map(label_fault) {
        return refuse(why);
    }
    Ok(name)
}

fn label_fault(label: &str) -> Option<&'static str> {
    let allowed = |octet: u8| octet.is_ascii_alphanumeric() || octet == b'-' || octet == b'_';
    if label.is_empty() {
        Some("empty label (two dots, or a dot at an end)")
    } else if label.len() > DNS_LABEL_BYTES_MAX {
        Some("a label longer than 63 octets")
    } else if !label.bytes().all(allowed) {
        Some("only letters, digits, `-` and dots")
    } else if label.starts_with('-') || label.ends_with('-') {
        Some("a label starts or ends with `-`")
    } else {
        None
    }
}

/// A whole number and a unit, such as `512 MiB`.
pub(super) fn size(text: &str) -> Result<Size, Reason> {
    let read = || {
        let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
        let unit = text.strip_prefix(digits)?.trim();
        let (_, octets) = Size::UNITS.into_iter().find(|(name, _)| *name == unit)?;
        Some(Size(digits.parse::<u64>().ok()?.checked_mul(octets)?))
    };
    read().ok_or(Reason::NotASize)
}

pub(super) fn verdict(text: &str) -> Result<Verdict, Reason> {
    match text {
        "block" => Ok(Verdict::Block),
        "mirror" => Ok(Verdict::Mirror),
        "allow" => Ok(Verdict::Allow),
        _ => Err(Reason::UnknownWord { what: "verdict", known: &["block", "mirror", "allow"] }),
    }
}

pub(super) fn version(text: &str) -> Result<TlsVersion, Reason> {
    match text {
        "1.2" => Ok(TlsVersion::Tls12),
        "1.3" => Ok(TlsVersion::Tls13),
        "1.0" | "1.1" | "SSLv2" | "SSLv3" => Err(Reason::ObsoleteVersion),
        _ => Err(Reason::UnknownWord { what: "TLS version", known: &["1.2", "1.3"] }),
    }
}

pub(super) fn source(text: &str) -> Result<Source, Reason> {
    match text {
        "gateway" => Ok(Source::Gateway),
        "client" => Ok(Source::Client),
        _ => Err(Reason::UnknownWord { what: "source", known: &["gateway", "client"] }),
    }
}

pub(super) fn on_exit(text: &str) -> Result<OnExit, Reason> {
    match text {
        "closed" => Ok(OnExit::Closed),
        "open" => Ok(OnExit::Open),
        _ => Err(Reason::UnknownWord { what: "behaviour while no daemon runs", known: &["closed", "open"] }),
    }
}

pub(super) fn offload(text: &str) -> Result<Offload, Reason> {
    match text {
        "auto" => Ok(Offload::Auto),
        "always" => Ok(Offload::Always),
        "never" => Ok(Offload::Never),
        _ => Err(Reason::UnknownWord { what: "offload", known: &["auto", "always", "never"] }),
    }
}

pub(super) fn starttls(text: &str) -> Result<StartTls, Reason> {
    match text {
        "inspect" => Ok(StartTls::Inspect),
        "strip" => Ok(StartTls::Strip),
        "bypass" => Ok(StartTls::Bypass),
        _ => {
            Err(Reason::UnknownWord { what: "treatment of STARTTLS", known: &["inspect", "strip", "bypass"] })
        }
    }
}

pub(super) fn cleartext(text: &str) -> Result<ClearText, Reason> {
    match text {
        "refuse" => Ok(ClearText::Refuse),
        "inspect" => Ok(ClearText::Inspect),
        _ => Err(Reason::UnknownWord { what: "treatment of clear text", known: &["refuse", "inspect"] }),
    }
}

pub(super) fn implicit(text: &str) -> Result<ImplicitTls, Reason> {
    match text {
        "inspect" => Ok(ImplicitTls::Inspect),
        "allow" => Ok(ImplicitTls::Allow),
        "deny" => Ok(ImplicitTls::Deny),
        _ => Err(Reason::UnknownWord {
            what: "treatment of implicit TLS",
            known: &["inspect", "allow", "deny"],
        }),
    }
}

pub(super) fn inspect(text: &str) -> Result<Inspection, Reason> {
    match text {
        "none" => Ok(Inspection::None),
        "full" => Ok(Inspection::Full),
        _ => Err(Reason::UnknownWord { what: "depth of inspection", known: &["none", "full"] }),
    }
}

/// A pattern for the file names of parts. No system has files with a `/` in their names, so that such a pattern is a
/// mistake.
pub(super) fn name_pattern(text: &str) -> Result<NamePattern, Reason> {
    let refuse = |why| Err(Reason::NotANamePattern { why });
    if text.is_empty() {
        return Err(Reason::Empty { remedy: "write a file name such as \"*.exe\"" });
    }
    if text.len() > NAME_PATTERN_BYTES_MAX {
        return refuse("longer than 255 octets");
    }
    if text.contains('/') {
        return refuse("a file name has no `/`");
    }
    if text.contains(char::is_control) {
        return refuse("it has a control character");
    }
    Ok(NamePattern(text.to_owned()))
}

pub(super) fn forbidden_type(text: &str) -> Result<ForbiddenType, Reason> {
    let known = ForbiddenType::ALL.into_iter().find(|known| known.as_str() == text);
    known.ok_or(Reason::UnknownWord { what: "type of content", known: &["executable"] })
}

/// Keys that the design knows and this version does not, by their path.
pub(super) fn later(path: &str) -> Option<Reason> {
    let (what, remedy) = match path {
        "tls.fault.revoked" | "tls.fault.ocsp_missing" => {
            ("revocation is not looked at; this fault comes with a later release", "remove the line")
        }
        "action.client_certificate" => (
            "a server that asks for a client certificate is answered with none; the choice comes with a later release",
            "remove the line",
        ),
        "policy" | "policies" | "profile" | "profiles" | "unmatched" | "steering.unmatched" => (
            "there is one implicit policy, and ports 143 and 993 are always steered; policies come with a later release",
            "remove it, and use [tls] and [action]",
        ),
        _ => return None,
    };
    Some(Reason::NotYet { what, remedy })
}
