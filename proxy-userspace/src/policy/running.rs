//! Sessions that run, under other policies than those that they began with: which rules they take, and which of them the
//! policies would refuse.

use rustls::{NamedGroup, ProtocolVersion, SupportedCipherSuite};

use super::{Policies, PolicyInForce};
use crate::config::{Action, ClearText, ImplicitTls, Inspection, StartTls, Tls, TlsVersion, Traffic};
use crate::words::{Service, Side};

/// What is known of a session that runs.
pub(crate) struct RunningSession<'a> {
    /// By which policies are looked through: as at its accept, with the name that its client asked for.
    pub(crate) traffic: Traffic<'a>,
    /// What becomes of its octets.
    pub(crate) carriage: Carriage,
    /// What the client's handshake agreed on, and the server's.
    pub(crate) tls: [NegotiatedTls; 2],
}

/// What becomes of the octets of a session that runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Carriage {
    /// Client and server have TLS with each other.
    Untouched,
    /// TLS is ended on both sides, and nobody reads what is inside.
    Unread,
    /// TLS is ended on both sides, and mail is judged.
    Judged,
    /// Neither side has TLS, and mail is judged.
    ClearText,
}

/// What a side's handshake agreed on. What is not known, or was not exchanged, is `None`.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct NegotiatedTls {
    pub(crate) version: Option<ProtocolVersion>,
    pub(crate) suite: Option<SupportedCipherSuite>,
    pub(crate) group: Option<NamedGroup>,
}

/// Why policies that came later would refuse a session that runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CutCause {
    /// No policy fits.
    #[error("no policy admits it any more (`postern explain`)")]
    NoPolicy,
    /// Policy denies implicit TLS.
    #[error("TLS from the first octet is denied now (action.implicit)")]
    ImplicitDenied,
    /// Policy refuses clear text.
    #[error("clear text is refused now (action.cleartext)")]
    ClearText,
    /// Nobody looks into the session, and policy has such sessions looked into.
    #[error("nobody looks into it, and the policy that fits it now has its TLS ended or its mail judged")]
    Unread,
    /// This side's TLS version is older than the profile's oldest.
    #[error("{side} TLS is of an older version than the profile allows now (tls.min_version)", side = of_side(*.0))]
    TlsVersion(Side),
    /// This side's cipher suite is none of the profile's.
    #[error("{side} cipher suite is none of the profile's any more (tls.ciphers)", side = of_side(*.0))]
    Cipher(Side),
    /// The group of this side's key exchange is none of the profile's.
    #[error(
        "{side} keys were exchanged in a group that is none of the profile's any more (tls.groups)",
        side = of_side(*.0)
    )]
    Group(Side),
}

const fn of_side(side: Side) -> &'static str {
    match side {
        Side::Downstream => "the client's",
        Side::Upstream => "the server's",
    }
}

impl Policies {
    /// The policy whose rules judge the mail of this session from now on; `None` where none does, so that the session keeps
    /// the rules that it has.
    pub(crate) fn judging(&self, session: &RunningSession<'_>) -> Option<&PolicyInForce> {
        let policy = self.find(&session.traffic)?;
        let is_judged = policy.action().settings.inspect == Inspection::Full;
        let is_passed = leaves_untouched(policy, session)
            || refused_by_action(&policy.action().settings, session.traffic.service, session.carriage)
                .is_some();
        (is_judged && !is_passed).then_some(policy)
    }

    /// Why these policies would refuse this session; `None` where they would not. What its handshakes proved is not judged
    /// again: certificates, pins, revocation, deviations.
    pub(crate) fn refusal(&self, session: &RunningSession<'_>) -> Option<CutCause> {
        let Some(policy) = self.find(&session.traffic) else { return Some(CutCause::NoPolicy) };
        if leaves_untouched(policy, session) {
            return None;
        }
        let settings = &policy.action().settings;
        let refused = refused_by_action(settings, session.traffic.service, session.carriage);
        refused.or_else(|| match session.carriage {
            Carriage::Untouched => Some(CutCause::Unread),
            Carriage::Unread if settings.inspect == Inspection::Full => Some(CutCause::Unread),
            Carriage::ClearText => None,
            Carriage::Unread | Carriage::Judged => {
                let profile = &policy.profile(session.traffic.service).settings;
                let [client, server] = &session.tls;
                refused_by_profile(profile, client, Side::Downstream)
                    .or_else(|| refused_by_profile(profile, server, Side::Upstream))
            }
        })
    }
}

/// Whether the policy would have client and server speak TLS with each other. Where a name decides, and the session's is not
/// known, the name would be read first.
fn leaves_untouched(policy: &PolicyInForce, session: &RunningSession<'_>) -> bool {
    let traffic = &session.traffic;
    if policy.depends_on_name() && session.carriage == Carriage::Untouched && traffic.sni.is_unread() {
        return false;
    }
    let has_tls = session.carriage != Carriage::ClearText;
    let is_passed =
        traffic.service == Service::StartTls && policy.action().settings.starttls == StartTls::Bypass;
    (is_passed && has_tls) || policy.leaves_alone(traffic.service, traffic.client, traffic.destination)
}

fn refused_by_action(settings: &Action, service: Service, carriage: Carriage) -> Option<CutCause> {
    if service == Service::ImplicitTls && settings.implicit == ImplicitTls::Deny {
        return Some(CutCause::ImplicitDenied);
    }
    let is_clear = carriage == Carriage::ClearText;
    (is_clear && settings.cleartext == ClearText::Refuse).then_some(CutCause::ClearText)
}

fn refused_by_profile(profile: &Tls, tls: &NegotiatedTls, side: Side) -> Option<CutCause> {
    let is_older = tls.version.is_some_and(|version| {
        version != ProtocolVersion::TLSv1_3 && profile.min_version == TlsVersion::Tls13
    });
    let suite = tls.suite.map(|suite| suite.suite());
    let lacks_suite = suite.is_some_and(|suite| profile.ciphers.iter().all(|cipher| cipher.suite() != suite));
    let lacks_group =
        tls.group.is_some_and(|group| profile.groups.iter().all(|listed| listed.named() != group));
    if is_older {
        Some(CutCause::TlsVersion(side))
    } else if lacks_suite {
        Some(CutCause::Cipher(side))
    } else {
        lacks_group.then_some(CutCause::Group(side))
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use rustls::crypto::aws_lc_rs::cipher_suite::{TLS13_AES_256_GCM_SHA384, TLS13_CHACHA20_POLY1305_SHA256};

    use super::*;
    use crate::config::{TlsCipher, TlsGroup, parse};

    fn action(lines: &str) -> Action {
        let text = format!(
            "[steering]\ningress = [\"lan0\"]\negress = [\"wan0\"]\n\
             [certificates]\nauthority = {{ cert = \"a\", key = \"b\" }}\n[action]\n{lines}\n"
        );
        parse(&text, Path::new("/postern.toml")).unwrap().unnamed_action
    }

    #[test]
    fn an_action_refuses_clear_text_and_implicit_tls_as_it_would_refuse_a_new_connection() {
        let cases = [
            ("", Service::StartTls, Carriage::ClearText, Some(CutCause::ClearText)),
            ("cleartext = \"inspect\"", Service::StartTls, Carriage::ClearText, None),
            ("", Service::StartTls, Carriage::Judged, None),
            ("implicit = \"deny\"", Service::ImplicitTls, Carriage::Judged, Some(CutCause::ImplicitDenied)),
            (
                "implicit = \"deny\"",
                Service::ImplicitTls,
                Carriage::Untouched,
                Some(CutCause::ImplicitDenied),
            ),
            ("implicit = \"deny\"", Service::StartTls, Carriage::Judged, None),
        ];
        for (lines, service, carriage, expected) in cases {
            let refused = refused_by_action(&action(lines), service, carriage);
            assert_eq!(refused, expected, "{lines} {service:?} {carriage:?}");
        }
    }

    #[test]
    fn a_profile_refuses_what_it_would_not_negotiate_and_nothing_that_is_not_known() {
        let negotiated = NegotiatedTls {
            version: Some(ProtocolVersion::TLSv1_2),
            suite: Some(TLS13_AES_256_GCM_SHA384),
            group: Some(NamedGroup::X25519),
        };
        let newer = NegotiatedTls { version: Some(ProtocolVersion::TLSv1_3), ..negotiated };
        let strict = Tls { min_version: TlsVersion::Tls13, ..Tls::default() };
        let other_suite = Tls { ciphers: vec![TlsCipher::Tls13ChaCha20], ..Tls::default() };
        let other_group = Tls { groups: vec![TlsGroup::Secp384r1], ..Tls::default() };
        let side = Side::Upstream;
        for (profile, tls, expected) in [
            (&Tls::default(), negotiated, None),
            (&strict, negotiated, Some(CutCause::TlsVersion(side))),
            (&strict, newer, None),
            (&other_suite, newer, Some(CutCause::Cipher(side))),
            (&other_suite, NegotiatedTls { suite: Some(TLS13_CHACHA20_POLY1305_SHA256), ..newer }, None),
            (&other_group, newer, Some(CutCause::Group(side))),
            (&other_group, NegotiatedTls { group: None, ..newer }, None),
            (&other_group, NegotiatedTls::default(), None),
        ] {
            assert_eq!(refused_by_profile(profile, &tls, side), expected, "{tls:?}");
        }
    }
}
