use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::protocol::{FetchFault, URL_BYTES_MAX};

/// Octets of a name (RFC 1035 section 2.3.4), without its last dot.
const NAME_BYTES_MAX: usize = 253;
/// Octets of a label.
const LABEL_BYTES_MAX: usize = 63;

/// Where an answer is asked for, by HTTP at port 80.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct HttpUrl {
    pub(super) host: UrlHost,
    /// Path and query, of visible characters.
    pub(super) target: String,
}

/// Whose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum UrlHost {
    /// In lower case, without a dot at its end.
    Name(String),
    Address(IpAddr),
}

impl HttpUrl {
    /// A stranger wrote it. RFC 3986, narrowed: no user, no other port, no fragment, no spelling of an address but the
    /// usual one.
    ///
    /// # Errors
    /// [`FetchFault::Url`].
    pub(super) fn parse(text: &str) -> Result<Self, FetchFault> {
        Self::read(text).ok_or(FetchFault::Url)
    }

    fn read(text: &str) -> Option<Self> {
        // No space and no line's end reaches the request.
        if text.len() > URL_BYTES_MAX || !text.bytes().all(|octet| octet.is_ascii_graphic()) {
            return None;
        }
        let (scheme, rest) = text.split_once("://")?;
        if !scheme.eq_ignore_ascii_case("http") || rest.contains('#') {
            return None;
        }
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, target) = rest.split_at_checked(end)?;
        if authority.contains('@') {
            return None;
        }
        let slash = if target.starts_with('/') { "" } else { "/" };
        Some(Self { host: host(authority)?, target: format!("{slash}{target}") })
    }

    /// As the header `Host` says it.
    pub(super) fn authority(&self) -> String {
        match &self.host {
            UrlHost::Name(name) => name.clone(),
            UrlHost::Address(IpAddr::V4(address)) => address.to_string(),
            UrlHost::Address(IpAddr::V6(address)) => format!("[{address}]"),
        }
    }
}

fn host(authority: &str) -> Option<UrlHost> {
    if let Some(rest) = authority.strip_prefix('[') {
        let (address, port) = rest.split_once(']')?;
        let address: Ipv6Addr = address.parse().ok()?;
        return is_usual(port).then_some(UrlHost::Address(IpAddr::V6(address)));
    }
    let end = authority.find(':').unwrap_or(authority.len());
    let (host, port) = authority.split_at_checked(end)?;
    if !is_usual(port) {
        return None;
    }
    if let Ok(address) = host.parse::<Ipv4Addr>() {
        return Some(UrlHost::Address(IpAddr::V4(address)));
    }
    let name = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
    is_name(&name).then_some(UrlHost::Name(name))
}

/// Behind the host: nothing, or port 80.
fn is_usual(port: &str) -> bool {
    matches!(port, "" | ":" | ":80")
}

/// What ends in a number is an address in some spelling (`127.1`, `0x7f000001`), and no name.
fn is_name(name: &str) -> bool {
    let is_label = |label: &str| {
        (1..=LABEL_BYTES_MAX).contains(&label.len())
            && label.bytes().all(|octet| octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'_'))
    };
    let last = name.rsplit('.').next().unwrap_or_default();
    let is_number = last.bytes().all(|octet| octet.is_ascii_digit()) || last.starts_with("0x");
    name.len() <= NAME_BYTES_MAX && !is_number && name.split('.').all(is_label)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_of_http_at_port_80_is_read_and_no_other() {
        for (text, host, target) in [
            ("http://ocsp.example.org", "ocsp.example.org", "/"),
            ("HTTP://OCSP.Example.org./a/b?c=d", "ocsp.example.org", "/a/b?c=d"),
            ("http://ocsp.example.org:80/", "ocsp.example.org", "/"),
            ("http://ocsp.example.org:?x", "ocsp.example.org", "/?x"),
            ("http://responder", "responder", "/"),
            ("http://192.0.2.7/x", "192.0.2.7", "/x"),
            ("http://[2001:db8::7]:80/x", "[2001:db8::7]", "/x"),
            ("http://xn--bcher-kva.example/%20/@:8080", "xn--bcher-kva.example", "/%20/@:8080"),
        ] {
            let url = HttpUrl::parse(text).unwrap();
            assert_eq!((url.authority().as_str(), url.target.as_str()), (host, target), "{text}");
        }
        let long = format!("http://ocsp.example.org/{}", "a".repeat(URL_BYTES_MAX));
        let long_name = format!("http://{}org", "abcdefg.".repeat(32));
        let long_label = format!("http://{}.org", "a".repeat(64));
        for text in [
            "",
            "ocsp.example.org",
            "https://ocsp.example.org/",
            "ldap://ocsp.example.org/",
            "file:///etc/passwd",
            "http:ocsp.example.org",
            "http://",
            "http:///path",
            "http://ocsp.example.org:8080/",
            "http://ocsp.example.org:080/",
            "http://user@ocsp.example.org/",
            "http://ocsp.example.org@127.0.0.1/",
            "http://user:80@127.0.0.1/",
            "http://ocsp.example.org/#part",
            "http://ocsp.example.org/a b",
            "http://ocsp.example.org/\r\nHost: x",
            "http://ocsp.example.org/\u{7f}",
            "http://ocsp.example.org/\u{fc}",
            "http://b\u{fc}cher.example/",
            "http://127.1/",
            "http://2130706433/",
            "http://0x7f.0.0.0x1/",
            "http://0177.0.0.1/",
            "http://1.2.3.4.5/",
            "http://[::1/",
            "http://[fe80::1%25eth0]/",
            "http://::1/",
            "http://a..b/",
            "http://.org/",
            "http://a%2eb/",
            "http://a\\b/",
            &long,
            &long_name,
            &long_label,
        ] {
            assert_eq!(HttpUrl::parse(text), Err(FetchFault::Url), "{text}");
        }
    }
}
