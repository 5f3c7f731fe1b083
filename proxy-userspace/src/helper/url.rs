use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

use super::protocol::{FetchFault, URL_BYTES_MAX};

/// Where HTTP is spoken. A stranger's URL may name no other port.
pub(super) const HTTP_PORT: u16 = 80;
/// Where HTTP is spoken over TLS, unless the URL names another port.
const HTTPS_PORT: u16 = 443;
/// Octets of a name (RFC 1035 section 2.3.4), without its last dot.
const NAME_BYTES_MAX: usize = 253;
/// Octets of a label.
const LABEL_BYTES_MAX: usize = 63;
/// Digits of a port.
const PORT_DIGITS_MAX: usize = 5;

/// Where something is posted: to an authority, or to the owner's webhook.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct HttpUrl {
    /// Whether HTTP is spoken over TLS.
    pub(super) is_tls: bool,
    pub(super) host: UrlHost,
    pub(super) port: u16,
    /// Path and query, of visible characters. In the URL of a webhook it is often the secret that lets somebody post.
    pub(super) target: String,
}

/// Whose.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum UrlHost {
    /// In lower case, without a dot at its end.
    Name(String),
    Address(IpAddr),
}

/// Why a text is no URL to post to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum UrlFault {
    /// No space and no line's end may reach the request.
    #[error("not a URL of at most {URL_BYTES_MAX} visible ASCII characters")]
    Characters,
    /// Another scheme, or none.
    #[error("a URL that begins neither with https:// nor with http://")]
    Scheme,
    /// `user@` or `user:password@`.
    #[error("a URL with a user or a password")]
    User,
    /// `#part`.
    #[error("a URL with a fragment (#), which no server is sent")]
    Fragment,
    /// Also another spelling of an address than the usual one.
    #[error("a URL whose host is neither a DNS name nor an address (IPv6 stands in brackets)")]
    Host,
    /// Not from 1 to 65535.
    #[error("a URL whose port is no number from 1 to 65535")]
    Port,
}

impl HttpUrl {
    /// A stranger wrote it: HTTP at port 80 alone.
    ///
    /// # Errors
    /// [`FetchFault::Url`].
    pub(super) fn parse(text: &str) -> Result<Self, FetchFault> {
        let url = Self::of_owner(text).ok().filter(|url| !url.is_tls && url.port == HTTP_PORT);
        url.ok_or(FetchFault::Url)
    }

    /// The owner wrote it: HTTP or HTTPS, at any port. RFC 3986, narrowed: no user, no fragment, no spelling of an address
    /// but the usual one.
    ///
    /// # Errors
    /// [`UrlFault`].
    pub(crate) fn of_owner(text: &str) -> Result<Self, UrlFault> {
        if text.len() > URL_BYTES_MAX || !text.bytes().all(|octet| octet.is_ascii_graphic()) {
            return Err(UrlFault::Characters);
        }
        let (scheme, rest) = text.split_once("://").ok_or(UrlFault::Scheme)?;
        let is_tls = scheme.eq_ignore_ascii_case("https");
        if !is_tls && !scheme.eq_ignore_ascii_case("http") {
            return Err(UrlFault::Scheme);
        }
        if rest.contains('#') {
            return Err(UrlFault::Fragment);
        }
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, target) = rest.split_at_checked(end).ok_or(UrlFault::Host)?;
        if authority.contains('@') {
            return Err(UrlFault::User);
        }
        let (host, port) = host(authority).ok_or(UrlFault::Host)?;
        let port = match port {
            "" | ":" => usual_port(is_tls),
            port => written_port(port).ok_or(UrlFault::Port)?,
        };
        let slash = if target.starts_with('/') { "" } else { "/" };
        Ok(Self { is_tls, host, port, target: format!("{slash}{target}") })
    }

    /// As the header `Host` says it.
    pub(super) fn authority(&self) -> String {
        let host = match &self.host {
            UrlHost::Name(name) => name.clone(),
            UrlHost::Address(IpAddr::V4(address)) => address.to_string(),
            UrlHost::Address(IpAddr::V6(address)) => format!("[{address}]"),
        };
        if self.port == usual_port(self.is_tls) { host } else { format!("{host}:{}", self.port) }
    }

    /// Scheme, host and port, which are no secret.
    pub(crate) fn origin(&self) -> String {
        format!("{}://{}", if self.is_tls { "https" } else { "http" }, self.authority())
    }

    /// The whole, as [`Self::of_owner`] takes it.
    pub(crate) fn text(&self) -> String {
        format!("{}{}", self.origin(), self.target)
    }

    /// Whether nobody on the way can read what is posted.
    pub(crate) const fn is_tls(&self) -> bool {
        self.is_tls
    }

    /// Where it is connected to.
    pub(super) const fn port(&self) -> u16 {
        self.port
    }
}

/// Without what may be a secret.
impl fmt::Debug for HttpUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/…", self.origin())
    }
}

const fn usual_port(is_tls: bool) -> u16 {
    if is_tls { HTTPS_PORT } else { HTTP_PORT }
}

/// Behind the host: a colon and a number without a zero before it.
fn written_port(text: &str) -> Option<u16> {
    let digits = text.strip_prefix(':')?;
    let is_number = digits.len() <= PORT_DIGITS_MAX
        && !digits.starts_with('0')
        && digits.bytes().all(|octet| octet.is_ascii_digit());
    is_number.then(|| digits.parse().ok()).flatten()
}

/// The host, and what stands behind it.
fn host(authority: &str) -> Option<(UrlHost, &str)> {
    if let Some(rest) = authority.strip_prefix('[') {
        let (address, port) = rest.split_once(']')?;
        let address: Ipv6Addr = address.parse().ok()?;
        return Some((UrlHost::Address(IpAddr::V6(address)), port));
    }
    let end = authority.find(':').unwrap_or(authority.len());
    let (host, port) = authority.split_at_checked(end)?;
    // IPv6 without brackets.
    if port.matches(':').count() > 1 {
        return None;
    }
    if let Ok(address) = host.parse::<Ipv4Addr>() {
        return Some((UrlHost::Address(IpAddr::V4(address)), port));
    }
    let name = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
    is_name(&name).then_some((UrlHost::Name(name), port))
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

    #[test]
    fn an_owners_url_names_any_port_and_shows_no_more_than_its_host() {
        for (text, is_tls, port, authority, target) in [
            ("https://alerts.example.org", true, 443, "alerts.example.org", "/"),
            ("HTTPS://Alerts.Example.org:443/T0/B0?k=v", true, 443, "alerts.example.org", "/T0/B0?k=v"),
            ("https://alerts.example.org:80/", true, 80, "alerts.example.org:80", "/"),
            ("http://127.0.0.1:8080/hook", false, 8080, "127.0.0.1:8080", "/hook"),
            ("http://[fd00::7]:65535?x", false, 65535, "[fd00::7]:65535", "/?x"),
            ("http://siem:443", false, 443, "siem:443", "/"),
        ] {
            let url = HttpUrl::of_owner(text).unwrap();
            assert_eq!(
                (url.is_tls(), url.port(), url.authority().as_str()),
                (is_tls, port, authority),
                "{text}"
            );
            assert_eq!(url.target, target, "{text}");
            assert_eq!(HttpUrl::of_owner(&url.text()).as_ref(), Ok(&url), "{text}");
            let scheme = if is_tls { "https" } else { "http" };
            assert_eq!(format!("{url:?}"), format!("{scheme}://{authority}/…"));
        }
        for (text, fault) in [
            ("", UrlFault::Scheme),
            ("alerts.example.org", UrlFault::Scheme),
            ("ftp://alerts.example.org/", UrlFault::Scheme),
            ("https://alerts.example.org/a b", UrlFault::Characters),
            ("https://alerts.example.org/\r\nX: y", UrlFault::Characters),
            ("https://user:word@alerts.example.org/", UrlFault::User),
            ("https://alerts.example.org/#part", UrlFault::Fragment),
            ("https:///path", UrlFault::Host),
            ("https://127.1/", UrlFault::Host),
            ("https://fd00::7/", UrlFault::Host),
            ("https://alerts.example.org:0/", UrlFault::Port),
            ("https://alerts.example.org:0443/", UrlFault::Port),
            ("https://alerts.example.org:65536/", UrlFault::Port),
            ("https://alerts.example.org:+443/", UrlFault::Port),
            ("https://[fd00::7]443/", UrlFault::Port),
        ] {
            assert_eq!(HttpUrl::of_owner(text), Err(fault), "{text}");
        }
    }
}
