use std::io::Write as _;
use std::net::TcpStream;

use anyhow::{Context as _, Result, ensure};
use postern_tests::client::{Session, Tls};
use postern_tests::kernel_tls::{expected, told};
use postern_tests::lab::Family;
use postern_tests::scripted::{accept_tls, half_close, line, to_end};
use rustls::ConnectionCommon;

use super::{SIDES, outgoing, session, under_each};

/// What becomes of a stream in the middle of mail, with the reason in the record.
#[derive(Clone, Copy, Debug)]
enum Damage {
    Alert,
    Truncation,
    Corruption,
}

const ALL: [(Damage, &str); 3] =
    [(Damage::Alert, "peer_alert"), (Damage::Truncation, "truncated"), (Damage::Corruption, "bad_record")];

impl Damage {
    /// Do it to one end's stream.
    fn apply<D>(self, connection: &mut ConnectionCommon<D>, tcp: &mut TcpStream) -> Result<()> {
        match self {
            Self::Alert => {
                // A forgery that only this end sees: its answer is the alert bad_record_mac.
                let forged = [&[23, 3, 3, 0, 40][..], &[0; 40]].concat();
                connection.read_tls(&mut &forged[..])?;
                ensure!(connection.process_new_packets().is_err(), "a forgery was taken");
                tcp.write_all(&outgoing(connection)?)?;
            }
            Self::Truncation => half_close(tcp),
            Self::Corruption => {
                connection.writer().write_all(b"the other half of a line, with one bit turned\r\n")?;
                let mut octets = outgoing(connection)?;
                *octets.last_mut().context("nothing to say")? ^= 1;
                tcp.write_all(&octets)?;
            }
        }
        Ok(())
    }
}

#[test]
fn damage_in_the_middle_of_mail_ends_the_session_with_the_right_reason() -> Result<()> {
    under_each(|mode, scene, postern| {
        for tls in Tls::ALL {
            for side in SIDES {
                for (damage, reason) in ALL {
                    let (_, record) = session(
                        (scene, postern),
                        tls,
                        move |tcp, config| {
                            let mut stream = accept_tls(tcp, config)?;
                            stream.write_all(b"* OK ready\r\n* 1 FETCH (BODY[] {100}\r\nhalf")?;
                            stream.flush()?;
                            // The client has that: the layers are in their places.
                            line(&mut stream)?;
                            if side == "upstream" {
                                damage.apply(&mut stream.conn, &mut stream.sock)?;
                            }
                            to_end(&mut stream.sock).map(drop)
                        },
                        |tcp, config| {
                            let mut client = Session::on(tcp, Family::V4.name(), &config)?;
                            // All that was good comes.
                            client.line()?;
                            client.literal(b"half".len())?;
                            client.send(b"a NOOP\r\n")?;
                            if side == "downstream" {
                                let (connection, mut tcp) = client.parts()?;
                                damage.apply(connection, &mut tcp)?;
                            }
                            to_end(&mut client.socket().try_clone()?).map(drop)
                        },
                    )
                    .with_context(|| format!("{damage:?} from {side}, {tls:?}"))?;
                    assert_eq!(record.text("event.reason"), reason, "{damage:?}, {tls:?}: {record:#?}");
                    assert_eq!(record.text("postern.side"), side, "{damage:?}, {tls:?}: {record:#?}");
                    for side in SIDES {
                        assert_eq!(told(&record, side), expected(mode), "{record:#?}");
                    }
                }
            }
        }
        Ok(())
    })
}
