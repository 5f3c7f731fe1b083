use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::fault::Reason;
use super::kinds::TextValue;

/// Octets of an interface name without its NUL: `IFNAMSIZ` - 1 (linux/if.h).
const INTERFACE_NAME_BYTES_MAX: usize = 15;
/// Octets of a DNS name in text form (RFC 1035 section 2.3.4).
const DNS_NAME_BYTES_MAX: usize = 253;
/// Octets of one label (RFC 1035 section 2.3.4).
const DNS_LABEL_BYTES_MAX: usize = 63;
/// Octets of an object's name: it fits into a file's name and into a column.
const OBJECT_NAME_BYTES_MAX: usize = 64;
/// Octets of a pattern for file names: no file on Linux has a longer name (`NAME_MAX`, linux/limits.h).
const NAME_PATTERN_BYTES_MAX: usize = 255;

/// A Linux interface name: 1 to 15 octets, no `/`, no white space (kernel `dev_valid_name`). As an entry of the
/// configuration it may be a pattern: one that ends with `*` stands for every name that begins so.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct InterfaceName(pub(crate) String);

impl InterfaceName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it stands for more than one interface.
    #[must_use]
    pub fn is_pattern(&self) -> bool {
        self.prefix().is_some()
    }

    /// What the names begin with that a pattern stands for.
    pub(crate) fn prefix(&self) -> Option<&str> {
        self.0.strip_suffix('*')
    }

    /// Whether it means the interface of this name.
    #[must_use]
    pub fn means(&self, name: &str) -> bool {
        self.prefix().map_or(self.0 == name, |prefix| name.starts_with(prefix))
    }

    /// Whether an interface could be meant by both.
    pub(crate) fn overlaps(&self, other: &Self) -> bool {
        match (self.prefix(), other.prefix()) {
            (Some(prefix), Some(other)) => prefix.starts_with(other) || other.starts_with(prefix),
            (_, Some(_)) => other.means(&self.0),
            _ => self.means(&other.0),
        }
    }

    /// The entry of a list that an interface belongs to, and its place: the one with its name, or else the longest pattern
    /// that means it.
    pub(crate) fn entry_of<'a>(list: &'a [Self], name: &str) -> Option<(u32, &'a Self)> {
        let meaning = (0..).zip(list).filter(|(_, entry)| entry.means(name));
        meaning.max_by_key(|(_, entry)| entry.prefix().map_or(usize::MAX, str::len))
    }
}

impl TextValue for InterfaceName {
    type Value = Self;
    const WHAT: &'static str = "an interface name, or a pattern such as \"ppp*\"";

    /// The kernel's own rule: `dev_valid_name` in net/core/dev.c.
    fn parse(text: &str) -> Result<Self, Reason> {
        let fits = (1..=INTERFACE_NAME_BYTES_MAX).contains(&text.len());
        let forbidden = |octet: u8| {
            octet == b'/' || octet == b':' || octet.is_ascii_whitespace() || octet == 0x0b || octet == 0
        };
        if !fits || matches!(text, "." | "..") || text.bytes().any(forbidden) {
            let remedy = "use a name that `ip link` shows: 1 to 15 octets, no `/`, `:` or white space";
            return Err(Reason::unfit("not an interface name", remedy));
        }
        let name = Self(text.to_owned());
        let stem = name.prefix().unwrap_or(text);
        if stem.is_empty() || stem.contains('*') {
            let remedy = "write the beginning of the names and one `*` at the end, such as \"ppp*\"";
            return Err(Reason::unfit("not a pattern for interface names", remedy));
        }
        Ok(name)
    }

    fn show(value: &Self) -> String {
        value.0.clone()
    }
}

impl TextValue for IpNet {
    type Value = Self;
    const WHAT: &'static str = "an address or a network";

    /// A bare address is a network of one host.
    fn parse(text: &str) -> Result<Self, Reason> {
        if let Ok(address) = text.parse::<IpAddr>() {
            return not_mapped(address).map(Self::from);
        }
        let remedy = "write an address or a network such as \"192.0.2.0/24\" or \"2001:db8::/32\"";
        let net: Self = text.parse().map_err(|_| Reason::unfit("not a network", remedy))?;
        if let Self::V6(net) = net
            && net.prefix_len() >= MAPPED_PREFIX
            && net.addr().to_ipv4_mapped().is_some()
        {
            return Err(mapped());
        }
        if net.trunc() != net {
            let remedy =
                format!("write \"{}\" for the network or the address alone for one host", net.trunc());
            return Err(Reason::unfit("has address bits beyond its prefix length", remedy));
        }
        Ok(net)
    }

    fn show(value: &Self) -> String {
        value.to_string()
    }
}

/// Bits of `::ffff:0:0/96`, IPv4 in the form of IPv6 (RFC 4291 section 2.5.5.2).
const MAPPED_PREFIX: u8 = 96;

/// Listeners are of one family each, so that no connection has such an address, and an entry with one would never count.
fn not_mapped(address: IpAddr) -> Result<IpAddr, Reason> {
    match address {
        IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some() => Err(mapped()),
        _ => Ok(address),
    }
}

fn mapped() -> Reason {
    Reason::unfit("IPv4 in the form of IPv6, which no connection has", "write it as IPv4")
}

impl TextValue for IpAddr {
    type Value = Self;
    const WHAT: &'static str = "the address of one host";

    fn parse(text: &str) -> Result<Self, Reason> {
        let remedy = "write the address of one server, such as \"192.0.2.7\" or \"2001:db8::7\"";
        let address = text.parse().map_err(|_| Reason::unfit("not an address", remedy))?;
        not_mapped(address)
    }

    fn show(value: &Self) -> String {
        value.to_string()
    }
}

/// A name that may stand in SNI (RFC 6066 section 3), lower-cased; `*` stands for exactly one first label (RFC 6125).
pub(super) struct ServerName;

impl TextValue for ServerName {
    type Value = String;
    const WHAT: &'static str = "a DNS name, whose first label may be `*`";

    fn parse(text: &str) -> Result<String, Reason> {
        let remedy = "write a DNS name such as \"imap.example.org\" or \"*.example.org\"";
        let refuse = |why| Err(Reason::unfit(format!("not a server name: {why}"), remedy));
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

    fn show(value: &String) -> String {
        value.clone()
    }
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

/// The name of a policy, a proxy action or a TLS profile: 1 to 64 letters, digits, dots, hyphens and underscores, of which
/// the first is a letter or a digit. It is also a part of a file's name.
pub(super) struct ObjectName;

impl TextValue for ObjectName {
    type Value = String;
    const WHAT: &'static str = "a name";

    fn parse(text: &str) -> Result<String, Reason> {
        let is_part = |octet: u8| octet.is_ascii_alphanumeric() || matches!(octet, b'.' | b'-' | b'_');
        let fits = (1..=OBJECT_NAME_BYTES_MAX).contains(&text.len())
            && text.bytes().all(is_part)
            && text.starts_with(|first: char| first.is_ascii_alphanumeric());
        if fits {
            return Ok(text.to_owned());
        }
        let remedy =
            "use 1 to 64 letters, digits, dots, hyphens and underscores, such as \"IMAP-Client.Office\"";
        Err(Reason::unfit("not a name", remedy))
    }

    fn show(value: &String) -> String {
        value.clone()
    }
}

/// SHA-256 of a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fingerprint(pub [u8; 32]);

impl TextValue for Fingerprint {
    type Value = Self;
    const WHAT: &'static str = "a SHA-256 fingerprint";

    /// With or without the colons of openssl.
    fn parse(text: &str) -> Result<Self, Reason> {
        let remedy = "write the 64 hexadecimal digits that `openssl x509 -noout -fingerprint -sha256 -in FILE` prints, with \
                      or without colons";
        let digits: String = text.chars().filter(|c| *c != ':').collect();
        let octet =
            |at: usize| digits.get(2 * at..2 * at + 2).and_then(|pair| u8::from_str_radix(pair, 16).ok());
        let mut octets = [0; 32];
        for (at, place) in octets.iter_mut().enumerate() {
            *place = octet(at).ok_or_else(|| Reason::unfit("not a SHA-256 fingerprint", remedy))?;
        }
        // A sign would pass as a digit.
        if digits.len() != 64 || !digits.bytes().all(|octet| octet.is_ascii_hexdigit()) {
            return Err(Reason::unfit("not a SHA-256 fingerprint", remedy));
        }
        Ok(Self(octets))
    }

    fn show(value: &Self) -> String {
        value.0.iter().map(|octet| format!("{octet:02X}")).collect()
    }
}

/// A pattern for file names: 1 to 255 octets, no `/`, no control characters. `*` stands for any characters, also none,
/// and `?` for one; every other character stands for itself.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct NamePattern(pub(crate) String);

impl NamePattern {
    /// The pattern as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TextValue for NamePattern {
    type Value = Self;
    const WHAT: &'static str = "a pattern for file names";

    /// No system has files with a `/` in their names, so that such a pattern is a mistake.
    fn parse(text: &str) -> Result<Self, Reason> {
        let remedy =
            "write a file name in which `*` stands for any characters and `?` for one, such as \"*.exe\"";
        let refuse = |why| Err(Reason::unfit(format!("not a pattern for file names: {why}"), remedy));
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
        Ok(Self(text.to_owned()))
    }

    fn show(value: &Self) -> String {
        value.0.clone()
    }
}
