use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::url::HttpUrl;

/// Octets of a URL: those of public authorities have 60.
pub(super) const URL_BYTES_MAX: usize = 1_024;
/// Octets of an answer: one of a responder with a chain of certificates has some 4 KiB.
pub(super) const ANSWER_BYTES_MAX: usize = 16 * 1_024;
/// From the request to the last octet of the answer, names and all. Responders answer within some tenths of a second.
pub(super) const FETCH_TIME_MAX: Duration = Duration::from_secs(2);
/// Fetches at once. A certificate's answer serves for hours, so that few are under way.
pub(super) const FETCHES_MAX: usize = 8;
/// Fetches at once and those that wait for their turn, whose time runs.
pub(super) const FETCHES_WAITING_MAX: usize = 64;

/// From the first question of a name to the status of the webhook's answer. Nobody waits for it, so that it may be longer
/// than [`FETCH_TIME_MAX`]: a function that has to be started first answers within some seconds.
pub(super) const POST_TIME_MAX: Duration = Duration::from_secs(10);

/// From the supervisor.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum ToHelper {
    /// Whom it may ask, and whom it trusts, from now on: [`HelperTerms`](super::HelperTerms) in sealed memory, which comes as
    /// a descriptor, because all of a system's roots are more than a message holds.
    Terms,
    /// A worker's channel comes as a descriptor, to be served beside an earlier one.
    Serve,
    /// The supervisor's own channel for alarms comes as a descriptor.
    Posts,
}

/// The worker's request; the reply repeats its id.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct FetchRequest {
    pub(super) id: u64,
    /// As it stands in the certificate.
    pub(super) url: String,
    /// What is sent there.
    pub(super) body: Vec<u8>,
}

/// The answer to a [`FetchRequest`].
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct FetchReply {
    pub(super) id: u64,
    /// The octets that came, at most [`ANSWER_BYTES_MAX`].
    pub(super) answer: Result<Vec<u8>, FetchFault>,
}

/// Why no answer came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub(crate) enum FetchFault {
    /// Another scheme or port, a user, or no URL at all.
    #[error("the URL is not one of HTTP at port 80")]
    Url,
    /// Private, local, or of no host.
    #[error("the address is not a public one")]
    Address,
    /// The route leads elsewhere.
    #[error("no route leads to the address through steering.egress")]
    Egress,
    /// No name server knew an address.
    #[error("the name has no address")]
    Unresolved,
    /// No connection, or one that broke.
    #[error("the responder cannot be reached")]
    Unreachable,
    /// It sends the asker elsewhere.
    #[error("the responder redirects, which is not followed")]
    Redirect,
    /// Another status than 200.
    #[error("the responder answered with an error of HTTP")]
    Status,
    /// Not HTTP, or not an OCSP response's type.
    #[error("the responder's answer is not an OCSP response by HTTP")]
    Malformed,
    /// Over [`ANSWER_BYTES_MAX`].
    #[error("the responder's answer has more than {ANSWER_BYTES_MAX} octets")]
    TooLarge,
    /// Not within [`FETCH_TIME_MAX`], or the helper hangs.
    #[error("no answer came within {} s", FETCH_TIME_MAX.as_secs())]
    Late,
    /// Over [`FETCHES_WAITING_MAX`].
    #[error("too many answers are asked for at once ({FETCHES_WAITING_MAX} wait)")]
    Busy,
    /// There is no helper.
    #[error("the process that asks is not there; the log says why, and another is started")]
    Gone,
}

impl FetchFault {
    /// The word in records.
    #[must_use]
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Url => "url_refused",
            Self::Address => "address_refused",
            Self::Egress => "egress_refused",
            Self::Unresolved => "unresolved",
            Self::Unreachable => "unreachable",
            Self::Redirect => "redirect",
            Self::Status => "http_status",
            Self::Malformed => "http_malformed",
            Self::TooLarge => "too_large",
            Self::Late => "late",
            Self::Busy => "busy",
            Self::Gone => "helper_gone",
        }
    }
}

/// An alarm of the supervisor's; the reply repeats its id.
#[derive(Serialize, Deserialize)]
pub(super) struct PostRequest {
    pub(super) id: u64,
    /// The owner's.
    pub(super) url: HttpUrl,
    /// One JSON object.
    pub(super) body: String,
}

/// What became of a [`PostRequest`]. It holds no text: the supervisor hears no word of a peer's.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct PostReply {
    pub(super) id: u64,
    pub(super) posted: Result<(), PostFault>,
}

/// Why an alarm may not have reached the webhook.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub(crate) enum PostFault {
    /// No name server knew an address.
    #[error("its name has no address; see helper.name_servers")]
    Unresolved,
    /// No connection, or one that broke.
    #[error("it cannot be reached, or the connection broke")]
    Unreachable,
    /// Not trusted, of another name, expired.
    #[error(
        "its certificate is not valid for it, or comes from no authority of the system's or of tls.roots"
    )]
    Certificate,
    /// TLS failed for another reason.
    #[error("it does not speak TLS as Postern does")]
    Tls,
    /// It sends the alarm elsewhere.
    #[error("it redirects (HTTP status {0}), which is not followed; write the new URL")]
    Redirect(u16),
    /// It did not take the alarm.
    #[error("it answered with HTTP status {0}")]
    Status(u16),
    /// Not HTTP/1.1, or more before the body than is read.
    #[error("its answer is not HTTP/1.1")]
    Malformed,
    /// Not within [`POST_TIME_MAX`], or the helper hangs. The alarm may have arrived.
    #[error("no answer came within {} s", POST_TIME_MAX.as_secs())]
    Late,
    /// More than a message between processes holds.
    #[error("the alarm has more octets than can be passed to the helper; please report it")]
    TooLarge,
    /// There is no helper.
    #[error("the helper is not there; the log says why, and another is started")]
    Gone,
}

impl PostFault {
    /// Whether another attempt may succeed without anybody's help. A 429, and what begins with 5, is said of the moment
    /// (RFC 6585 section 4, RFC 9110 section 15.6).
    pub(crate) const fn may_pass(self) -> bool {
        match self {
            Self::Unresolved | Self::Unreachable | Self::Late | Self::Gone => true,
            Self::Status(status) => status == 429 || status >= 500,
            Self::Certificate | Self::Tls | Self::Redirect(_) | Self::Malformed | Self::TooLarge => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn each_fault_has_a_word_of_its_own_on_the_page_of_records() {
        use FetchFault::*;
        const PAGE: &str = include_str!("../../../docs/records.md");
        let row = PAGE.lines().find(|line| line.starts_with("| `postern.certificate.ocsp_fault`")).unwrap();
        let faults = [
            Url,
            Address,
            Egress,
            Unresolved,
            Unreachable,
            Redirect,
            Status,
            Malformed,
            TooLarge,
            Late,
            Busy,
            Gone,
        ];
        for fault in faults {
            assert_eq!(row.matches(&format!("`{}`", fault.as_str())).count(), 1, "{fault}");
            assert_eq!(faults.iter().filter(|other| other.as_str() == fault.as_str()).count(), 1);
        }
    }

    proptest! {
        /// Either end may have been taken over.
        #[test]
        fn any_octets_are_a_message_or_a_fault(octets in proptest::collection::vec(any::<u8>(), 0..256)) {
            let _ = postcard::from_bytes::<FetchRequest>(&octets);
            let _ = postcard::from_bytes::<FetchReply>(&octets);
            let _ = postcard::from_bytes::<ToHelper>(&octets);
            let _ = postcard::from_bytes::<PostRequest>(&octets);
            let _ = postcard::from_bytes::<PostReply>(&octets);
        }

        #[test]
        fn a_message_arrives_as_it_was_sent(
            id: u64, url in ".{0,40}", body in proptest::collection::vec(any::<u8>(), 0..256)
        ) {
            let sent = postcard::to_stdvec(&FetchRequest { id, url: url.clone(), body: body.clone() }).unwrap();
            let got: FetchRequest = postcard::from_bytes(&sent).unwrap();
            prop_assert_eq!((got.id, got.url, &got.body), (id, url, &body));
            let sent = postcard::to_stdvec(&FetchReply { id, answer: Ok(body.clone()) }).unwrap();
            let got: FetchReply = postcard::from_bytes(&sent).unwrap();
            prop_assert_eq!((got.id, got.answer), (id, Ok(body)));
        }
    }
}
