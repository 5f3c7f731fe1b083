//! Addresses of a name, asked of the configured name servers over UDP. They are resolvers of the operator's: they follow
//! delegations and verify, and here the answer to one question is read.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use aws_lc_rs::rand;
use domain::base::iana::Rcode;
use domain::base::{Message, MessageBuilder, Name, Rtype};
use domain::rdata::{A, Aaaa};
use tokio::net::UdpSocket;
use tokio::time::timeout;

use super::fetch::FetchFailure;
use super::protocol::FetchFault;

/// Where name servers are asked.
const DNS_PORT: u16 = 53;
/// For one name server: a resolver that does not know the name asks others meanwhile. The next one is asked in the rest of
/// the fetch's time.
const NAME_SERVER_TIME_MAX: Duration = Duration::from_millis(800);
/// Octets of an answer: without EDNS a name server sends 512 (RFC 1035 section 4.2.1), and some send more.
const ANSWER_DATAGRAM_BYTES_MAX: usize = 4_096;
/// Addresses of one kind that are looked at.
const ADDRESSES_MAX: usize = 8;

/// One question.
struct Query {
    rtype: Rtype,
    message: Message<Vec<u8>>,
}

/// The addresses of a name, those of IPv4 first.
///
/// # Errors
/// [`FetchFault::Unresolved`]: no name server answered, or there are none.
pub(super) async fn resolve(name_servers: &[IpAddr], name: &str) -> Result<Vec<IpAddr>, FetchFailure> {
    let failed = |what: String| FetchFailure { fault: FetchFault::Unresolved, what };
    let mut told = "no name server is known; set helper.name_servers".to_owned();
    for server in name_servers {
        match ask(*server, name).await {
            Ok(addresses) if addresses.is_empty() => {
                return Err(failed(format!("the name server {server} knows no address of {name}")));
            }
            Ok(addresses) => return Ok(addresses),
            Err(error) => told = format!("the name server {server}: {error}"),
        }
    }
    Err(failed(told))
}

/// Both kinds of addresses, at the same time and each from a port of its own.
async fn ask(server: IpAddr, name: &str) -> io::Result<Vec<IpAddr>> {
    let bounded = async |rtype| match timeout(NAME_SERVER_TIME_MAX, ask_for(server, name, rtype)).await {
        Ok(answered) => answered,
        Err(_) => Err(io::Error::other("it does not answer")),
    };
    let (four, six) = tokio::join!(bounded(Rtype::A), bounded(Rtype::AAAA));
    match (four, six) {
        (Ok(four), Ok(six)) => Ok([four, six].concat()),
        // Some name servers refuse the other question, or drop it.
        (Ok(found), Err(_)) | (Err(_), Ok(found)) if !found.is_empty() => Ok(found),
        (Err(error), _) | (_, Err(error)) => Err(error),
    }
}

async fn ask_for(server: IpAddr, name: &str, rtype: Rtype) -> io::Result<Vec<IpAddr>> {
    let query = Query::new(name, rtype).ok_or_else(|| io::Error::other("not a name of DNS"))?;
    let any: IpAddr = match server {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    // A port of the kernel's choice for each question, and no datagram of others (RFC 5452 section 4.5).
    let socket = UdpSocket::bind(SocketAddr::new(any, 0)).await?;
    socket.connect(SocketAddr::new(server, DNS_PORT)).await?;
    socket.send(query.message.as_slice()).await?;
    let mut octets = vec![0; ANSWER_DATAGRAM_BYTES_MAX];
    loop {
        let count = socket.recv(&mut octets).await?;
        // What is no answer to this question may be forged: the real one is waited for.
        if let Some(answered) = query.read(octets.get(..count).unwrap_or_default()) {
            return answered;
        }
    }
}

impl Query {
    fn new(name: &str, rtype: Rtype) -> Option<Self> {
        let name: Name<Vec<u8>> = Name::from_chars(name.chars()).ok()?;
        let mut id = [0; 2];
        rand::fill(&mut id).ok()?;
        let mut message = MessageBuilder::new_vec();
        message.header_mut().set_id(u16::from_be_bytes(id));
        message.header_mut().set_rd(true);
        let mut question = message.question();
        question.push((&name, rtype)).ok()?;
        Some(Self { rtype, message: question.into_message() })
    }

    /// `None` where it is no answer to this question; no addresses where there are none.
    fn read(&self, octets: &[u8]) -> Option<io::Result<Vec<IpAddr>>> {
        let answer = Message::from_octets(octets).ok().filter(|answer| answer.is_answer(&self.message))?;
        match answer.header().rcode() {
            Rcode::NOERROR | Rcode::NXDOMAIN => Some(Ok(self.addresses(&answer).unwrap_or_default())),
            code => Some(Err(io::Error::other(format!("it says {code}")))),
        }
    }

    /// Of the name, or of what it is another name for.
    fn addresses(&self, answer: &Message<&[u8]>) -> Option<Vec<IpAddr>> {
        let owner = answer.canonical_name()?;
        let records = answer.answer().ok()?;
        let addresses: Vec<IpAddr> = if self.rtype == Rtype::A {
            let found = records.limit_to_in::<A>().filter_map(Result::ok);
            let own = found.filter(|record| record.owner() == &owner);
            own.map(|record| record.data().addr().into()).take(ADDRESSES_MAX).collect()
        } else {
            let found = records.limit_to_in::<Aaaa>().filter_map(Result::ok);
            let own = found.filter(|record| record.owner() == &owner);
            own.map(|record| record.data().addr().into()).take(ADDRESSES_MAX).collect()
        };
        Some(addresses)
    }
}

#[cfg(test)]
mod tests {
    use domain::base::Ttl;
    use domain::rdata::Cname;
    use proptest::prelude::*;

    use super::*;

    fn name(text: &str) -> Name<Vec<u8>> {
        Name::from_chars(text.chars()).unwrap()
    }

    fn answer(query: &Query, rcode: Rcode, records: &[(&str, &str)]) -> Vec<u8> {
        let mut answer = MessageBuilder::new_vec().start_answer(&query.message, rcode).unwrap();
        for (owner, value) in records {
            let (owner, ttl) = (name(owner), Ttl::from_secs(60));
            match value.parse() {
                Ok(IpAddr::V4(address)) => answer.push((&owner, ttl, A::new(address))).unwrap(),
                Ok(IpAddr::V6(address)) => answer.push((&owner, ttl, Aaaa::new(address))).unwrap(),
                Err(_) => answer.push((&owner, ttl, Cname::new(name(value)))).unwrap(),
            }
        }
        answer.finish()
    }

    fn read(query: &Query, octets: &[u8]) -> Option<Result<Vec<String>, String>> {
        let texts = |addresses: Vec<IpAddr>| addresses.iter().map(IpAddr::to_string).collect();
        query.read(octets).map(|answered| answered.map(texts).map_err(|error| error.to_string()))
    }

    #[test]
    fn addresses_of_the_name_and_of_what_it_stands_for_are_read_and_no_others() {
        let query = Query::new("ocsp.lab.test", Rtype::A).unwrap();
        let read = |records: &[(&str, &str)]| read(&query, &answer(&query, Rcode::NOERROR, records)).unwrap();
        assert_eq!(
            read(&[("OCSP.lab.test", "192.0.2.1"), ("ocsp.lab.test", "192.0.2.2")]).unwrap(),
            ["192.0.2.1", "192.0.2.2"]
        );
        let by_way =
            [("cdn.lab.test", "192.0.2.3"), ("ocsp.lab.test", "cdn.lab.test"), ("x.test", "192.0.2.9")];
        assert_eq!(read(&by_way).unwrap(), ["192.0.2.3"]);
        assert!(read(&[("ocsp.lab.test", "2001:db8::1")]).unwrap().is_empty(), "of the other kind");
        let ring = [("ocsp.lab.test", "a.test"), ("a.test", "ocsp.lab.test"), ("x.test", "192.0.2.9")];
        assert!(read(&ring).unwrap().is_empty());
        let many = vec![("ocsp.lab.test", "192.0.2.1"); 20];
        assert_eq!(read(&many).unwrap().len(), ADDRESSES_MAX);
    }

    #[test]
    fn an_answer_to_another_question_is_none() {
        let query = Query::new("ocsp.lab.test", Rtype::AAAA).unwrap();
        let good = answer(&query, Rcode::NOERROR, &[("ocsp.lab.test", "2001:db8::1")]);
        assert_eq!(read(&query, &good).unwrap().unwrap(), ["2001:db8::1"]);
        let mut other_id = good.clone();
        other_id[1] ^= 1;
        let of = |name, rtype| {
            let other = Query::new(name, rtype).unwrap();
            let mut octets = answer(&other, Rcode::NOERROR, &[(name, "2001:db8::1")]);
            octets[..2].copy_from_slice(&good[..2]);
            octets
        };
        let forged = [
            other_id,
            of("ocsp.lab.test", Rtype::A),
            of("mail.lab.test", Rtype::AAAA),
            query.message.as_slice().to_vec(),
        ];
        for octets in forged {
            assert_eq!(read(&query, &octets), None, "{octets:02x?}");
        }
        for length in 0..12 {
            assert_eq!(read(&query, &good[..length]), None);
        }
        assert!(read(&query, &answer(&query, Rcode::NXDOMAIN, &[])).unwrap().unwrap().is_empty());
        let failed = read(&query, &answer(&query, Rcode::SERVFAIL, &[])).unwrap().unwrap_err();
        assert!(failed.contains("SERVFAIL"), "{failed}");
    }

    proptest! {
        #[test]
        fn any_octets_behind_the_head_are_read_without_a_panic(
            rest in proptest::collection::vec(any::<u8>(), 0..300), counts: [u8; 2]
        ) {
            let query = Query::new("ocsp.lab.test", Rtype::A).unwrap();
            let mut octets = answer(&query, Rcode::NOERROR, &[]);
            octets[6] = counts[0] & 1;
            octets[7] = counts[1];
            octets.extend(rest);
            if let Some(Ok(addresses)) = query.read(&octets) {
                prop_assert!(addresses.len() <= ADDRESSES_MAX);
            }
        }
    }
}
