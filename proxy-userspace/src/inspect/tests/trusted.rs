//! Known mail of servers that the owner trusts.

use std::net::IpAddr;

use super::known::{long_mail, whole};
use super::*;

const SERVER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(198, 51, 100, 1));

/// With a memory of its own, one message in it, and a server that is trusted.
fn trusting(mail: &str) -> (Dialogue, TrustedServers) {
    let held = HeldOctets::new(Size(1 << 32));
    let vault = Arc::new(Vault::start(VaultFiles::default(), Size(1 << 30), held).unwrap());
    let servers = TrustedServers::of(&[SERVER], None);
    let mut dialogue = Dialogue::trusting(vault, servers.trust(SERVER).unwrap());
    dialogue.client("s SELECT INBOX\r\n").server("* OK [UIDVALIDITY 5] v\r\ns OK done\r\n");
    dialogue.client("a UID FETCH 7 (UID BODY.PEEK[])\r\n").server(&whole("a", 7, mail));
    assert!(dialogue.client_got().ends_with(&whole("a", 7, mail)), "judged");
    (dialogue, servers)
}

/// Ask for the message, and answer up to its literal; whether its octets go on without a look.
fn begins(dialogue: &mut Dialogue, mail: &str) -> bool {
    dialogue.client("b UID FETCH 7 (UID BODY.PEEK[])\r\n").client_got();
    dialogue.server(&head(mail));
    match dialogue.session.wants(Side::Upstream) {
        Want::Counted(octets) => {
            assert_eq!(octets, mail.len() as u64);
            assert_eq!(dialogue.client_got(), head(mail), "what stands before the octets has gone on");
            true
        }
        Want::Octets => false,
        other => panic!("{other:?}"),
    }
}

fn head(mail: &str) -> String {
    format!("* 1 FETCH (UID 7 BODY[] {{{}}}\r\n", mail.len())
}

#[test]
fn of_sixteen_known_messages_fifteen_go_on_without_a_look_and_one_is_compared() {
    let mail = long_mail("clean");
    let (mut dialogue, servers) = trusting(&mail);
    let mut unseen = 0;
    for _ in 0..16 {
        if begins(&mut dialogue, &mail) {
            unseen += 1;
            // Half of it is spliced, the rest is received.
            let (spliced, received) = mail.split_at(40_000);
            dialogue.session.moved(Side::Upstream, 10_000);
            assert_eq!(dialogue.session.wants(Side::Upstream), Want::Counted(mail.len() as u64 - 10_000));
            dialogue.session.moved(Side::Upstream, spliced.len() as u64 - 10_000);
            dialogue.server(&format!("{received})\r\nb OK done\r\n"));
            assert_eq!(dialogue.client_got(), format!("{received})\r\nb OK done\r\n"));
        } else {
            dialogue.server(&format!("{mail})\r\nb OK done\r\n"));
            assert_eq!(dialogue.client_got(), whole("b", 7, &mail));
        }
        assert_eq!(dialogue.session.wants(Side::Upstream), Want::Octets, "only the literal is trusted");
    }
    assert_eq!(unseen, 15);
    assert!(servers.withdrawn().is_empty());
}

#[test]
fn what_stands_behind_a_message_that_was_spliced_to_its_last_octet_is_looked_at() {
    for (tail, passes) in [
        (" FLAGS (\\Seen))\r\n".to_owned(), true),
        (format!(" BODY[TEXT] {{{}}}\r\n{EICAR})\r\n", EICAR.len()), false),
        (" PREVIEW \"x\")\r\n".to_owned(), false),
    ] {
        let mail = long_mail("clean");
        let (mut dialogue, _servers) = trusting(&mail);
        while !begins(&mut dialogue, &mail) {
            dialogue.server(&format!("{mail})\r\nb OK done\r\n"));
        }
        assert!(!dialogue.session.is_at_boundary(Side::Downstream), "nobody speaks into mail");
        dialogue.session.moved(Side::Upstream, mail.len() as u64);
        let ended = dialogue.says(Side::Upstream, tail.as_bytes());
        assert_eq!(ended.is_ok(), passes, "{tail}");
        let got = dialogue.client_got();
        assert_eq!(got, if passes { tail.as_str() } else { "" });
    }
}

#[test]
fn the_first_octet_that_differs_ends_the_trust() {
    let mail = long_mail("clean");
    let longer = format!("{mail}{EICAR}\r\n");
    let hostile = format!("{}{EICAR}{}", &mail[..100], &mail[100 + EICAR.len()..]);
    for other in [&longer, &hostile] {
        let (mut dialogue, servers) = trusting(&mail);
        while servers.withdrawn().is_empty() {
            if begins(&mut dialogue, other) {
                // The owner has said that this cannot be.
                assert_eq!(other.len(), mail.len(), "another length is not what is known");
                dialogue.session.moved(Side::Upstream, other.len() as u64);
                dialogue.server(")\r\nb OK done\r\n").client_got();
            } else {
                dialogue.server(&format!("{other})\r\nb OK done\r\n"));
                let got = dialogue.client_got();
                assert!(!got.contains(EICAR) && got.len() == whole("b", 7, other).len(), "filled");
            }
        }
        assert_eq!(servers.withdrawn(), [SERVER]);
        for _ in 0..32 {
            assert!(!begins(&mut dialogue, &mail), "every octet is compared again");
            dialogue.server(&format!("{mail})\r\nb OK done\r\n"));
            assert_eq!(dialogue.client_got(), whole("b", 7, &mail));
        }
    }
}

#[test]
fn mail_that_nobody_judged_and_parts_are_not_trusted() {
    let mail = long_mail("clean");
    let (mut dialogue, _servers) = trusting(&mail);
    for _ in 0..32 {
        dialogue.client("c UID FETCH 8 (UID BODY.PEEK[])\r\n");
        dialogue.server(&format!("* 1 FETCH (UID 8 BODY[] {{{}}}\r\n", mail.len()));
        assert_eq!(dialogue.session.wants(Side::Upstream), Want::Octets);
        let hostile = format!("{EICAR}{}", &mail[EICAR.len()..]);
        dialogue.server(&format!("{hostile})\r\nc OK done\r\n"));
        assert!(!dialogue.client_got().contains(EICAR));
    }
}

#[test]
fn a_server_that_leaves_within_a_message_that_nobody_looks_at_is_noticed() {
    let mail = long_mail("clean");
    let (mut dialogue, _servers) = trusting(&mail);
    while !begins(&mut dialogue, &mail) {
        dialogue.server(&format!("{mail})\r\nb OK done\r\n"));
    }
    dialogue.session.moved(Side::Upstream, 1_000);
    let ended = dialogue.session.ended(Side::Upstream, StreamEnd::Closed);
    assert_eq!(ended, Err(InspectRefusal::ResponseCut));
}
