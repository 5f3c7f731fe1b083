//! Servers whose certificate was revoked, or may have been: `openssl` is the authority, and signs what its
//! responder says.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use postern_tests::client::{Session, Tls};
use postern_tests::lab::{EGRESS, ELSEWHERE, Family};
use postern_tests::netns;
use postern_tests::openssl::OpenSslServer;
use postern_tests::pki::{Authority, Identity, Wanted};
use postern_tests::postern::{Policy, Postern};
use postern_tests::record::Record;
use postern_tests::responder::{NameServer, Reply, Responder};
use postern_tests::scene::{MESSAGE, Scene};
use postern_tests::wait::{self, PATIENCE};
use rustix::process::Signal;
use rustls::{ALL_VERSIONS, ServerConfig};

/// How the authority's book says of a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Status {
    Good,
    Revoked,
    /// It is not in the book.
    Unknown,
}

/// An authority's book, from which `openssl` makes answers and lists.
struct Book {
    dir: PathBuf,
}

impl Book {
    /// Of the scene's authority for servers.
    fn new(scene: &Scene) -> Result<Self> {
        Self::of(&scene.roots, scene.installation.dir())
    }

    fn of(authority: &Authority, dir: &Path) -> Result<Self> {
        let dir = dir.join("book");
        fs::create_dir_all(&dir)?;
        fs::write(dir.join("ca.pem"), authority.pem())?;
        fs::write(dir.join("ca.key"), authority.key_pem())?;
        fs::write(dir.join("index.txt.attr"), "unique_subject = no\n")?;
        fs::write(dir.join("crlnumber"), "01\n")?;
        let database = dir.join("index.txt");
        let settings = "[ca]\ndefault_ca = book\n[book]\ndefault_md = sha256\ndatabase = ";
        let numbers =
            format!("{settings}{}\ncrlnumber = {}\n", database.display(), dir.join("crlnumber").display());
        fs::write(dir.join("openssl.cnf"), numbers)?;
        Ok(Self { dir })
    }

    fn openssl(&self, args: &[&str]) -> Result<String> {
        let mut command = Command::new("openssl");
        command.args(args).current_dir(&self.dir);
        netns::success(&args.join(" "), &netns::run(&mut command, "", PATIENCE)?)
    }

    fn note(&self, identity: &Identity, status: Status) -> Result<()> {
        fs::write(self.dir.join("leaf.pem"), &identity.cert_pem)?;
        let serial = self.openssl(&["x509", "-in", "leaf.pem", "-noout", "-serial"])?;
        let serial = serial.trim().rsplit('=').next().context("no serial number")?.to_owned();
        let line = match status {
            Status::Good => format!("V\t491231235959Z\t\t{serial}\tunknown\t/CN=server\n"),
            Status::Revoked => format!("R\t491231235959Z\t200101000000Z\t{serial}\tunknown\t/CN=server\n"),
            Status::Unknown => String::new(),
        };
        Ok(fs::write(self.dir.join("index.txt"), line)?)
    }

    /// The responder's answer about this certificate.
    fn answer(&self, identity: &Identity, status: Status) -> Result<Vec<u8>> {
        self.note(identity, status)?;
        let asking = ["ocsp", "-issuer", "ca.pem", "-cert", "leaf.pem", "-no_nonce", "-reqout", "asked"];
        self.openssl(&asking)?;
        let answering = [
            "ocsp",
            "-index",
            "index.txt",
            "-CA",
            "ca.pem",
            "-rsigner",
            "ca.pem",
            "-rkey",
            "ca.key",
            "-reqin",
            "asked",
            "-respout",
            "answer",
            "-ndays",
            "1",
        ];
        self.openssl(&answering)?;
        Ok(fs::read(self.dir.join("answer"))?)
    }

    /// The list of revoked certificates, in PEM.
    fn list(&self, identity: &Identity, status: Status) -> Result<Vec<u8>> {
        self.note(identity, status)?;
        let listing = [
            "ca",
            "-config",
            "openssl.cnf",
            "-gencrl",
            "-cert",
            "ca.pem",
            "-keyfile",
            "ca.key",
            "-crldays",
            "7",
            "-out",
            "list.pem",
        ];
        self.openssl(&listing)?;
        Ok(fs::read(self.dir.join("list.pem"))?)
    }
}

/// A server of this version that staples these octets.
fn stapling(identity: &Identity, tls: Tls, staple: Vec<u8>) -> Result<ServerConfig> {
    let config = ServerConfig::builder_with_protocol_versions(tls.versions()).with_no_client_auth();
    Ok(config.with_single_cert_with_ocsp(identity.chain()?, identity.key()?, staple)?)
}

fn under(mode: &str) -> Policy {
    Policy::new().tls(&format!("ocsp = \"{mode}\""))
}

fn last(postern: &Postern<'_>, count: usize) -> Result<Record> {
    postern.wait_records(count)?.pop().context("no record")
}

/// A session that fetches a message, on either port.
fn fetch(scene: &Scene, port: u16) -> Result<()> {
    let mut session =
        if port == 143 { scene.starttls(Family::V4)? } else { scene.session(Family::V4, port)? };
    session.enter()?;
    assert_eq!(session.fetch(1)?, MESSAGE);
    session.logout()
}

/// What a client is told that may not talk to the server.
fn refusal(scene: &Scene, port: u16) -> Result<String> {
    let (to, name, client) = (scene.server(Family::V4, port), Family::V4.name(), scene.client()?);
    let mut session = if port == 143 {
        Session::on(scene.lab.client.connect(to)?, name, &client)?
    } else {
        Session::implicit(&scene.lab.client, to, name, &client)?
    };
    Ok(String::from_utf8_lossy(&session.to_end()?).into_owned())
}

const REVOKED: &str = "the server's certificate was revoked";
const MISSING: &str = "nothing shows that the server's certificate was not revoked";

#[test]
fn a_stapled_answer_decides_what_the_mode_promises() -> Result<()> {
    // What is stapled, the record's word for it, and what is wrong under each mode.
    type Case = (&'static str, &'static str, [Option<&'static str>; 3]);
    let cases: [Case; 5] = [
        ("good", "good", [None, None, None]),
        ("revoked", "revoked", [None, Some("revoked"), Some("revoked")]),
        ("unknown", "unknown", [None, None, Some("ocsp_missing")]),
        ("garbage", "malformed", [None, None, Some("ocsp_missing")]),
        ("absent", "absent", [None, None, Some("ocsp_missing")]),
    ];
    let scene = Scene::new(&Policy::new())?;
    let book = Book::new(&scene)?;
    for (index, mode) in ["disabled", "lenient", "strict"].into_iter().enumerate() {
        scene.installation.configure(&under(mode))?;
        let postern = scene.start()?;
        let mut count = 0;
        for tls in Tls::ALL {
            for (what, word, faults) in cases {
                let identity = &scene.identity;
                let staple = match what {
                    "good" => book.answer(identity, Status::Good)?,
                    "revoked" => book.answer(identity, Status::Revoked)?,
                    "unknown" => book.answer(identity, Status::Unknown)?,
                    "garbage" => b"no response".to_vec(),
                    _ => Vec::new(),
                };
                let server = scene.serve_with(stapling(identity, tls, staple)?, vec![MESSAGE.to_vec()])?;
                count += 1;
                let fault = *faults.get(index).context("no such mode")?;
                match fault {
                    None => fetch(&scene, 993)?,
                    Some(fault) => {
                        let words = if fault == "revoked" { REVOKED } else { MISSING };
                        let said = refusal(&scene, 993)?;
                        assert!(said.starts_with("* BYE") && said.contains(words), "{mode} {what}: {said}");
                        assert!(!server.log().join("\n").contains("LOGIN"));
                    }
                }
                let record = last(&postern, count)?;
                assert_eq!(record.faults(), Vec::from_iter(fault), "{mode} {what} {tls:?}: {record:#?}");
                let told = if mode == "disabled" { "" } else { word };
                assert_eq!(record.text("postern.certificate.ocsp"), told, "{mode} {what}: {record:#?}");
                drop(server);
            }
        }
        postern.stop()?;
    }
    scene.finish()
}

#[test]
fn a_resumed_session_counts_with_the_answer_that_it_began_with() -> Result<()> {
    for tls in Tls::ALL {
        let scene = Scene::new(&under("strict"))?;
        let book = Book::new(&scene)?;
        let postern = scene.start()?;
        let staple = book.answer(&scene.identity, Status::Good)?;
        let server = scene.serve_with(stapling(&scene.identity, tls, staple)?, vec![MESSAGE.to_vec()])?;
        for session in 1..=3 {
            fetch(&scene, 993)?;
            let record = last(&postern, session)?;
            assert_eq!(record.flag("postern.upstream.tls.resumed"), session > 1, "{tls:?}: {record:#?}");
            assert_eq!(record.text("postern.certificate.ocsp"), "good", "{record:#?}");
        }
        drop(server);
        postern.stop()?;
        scene.finish()?;
    }
    Ok(())
}

#[test]
fn a_server_of_openssl_staples_to_starttls_and_implicit_tls() -> Result<()> {
    let scene = Scene::new(&under("lenient"))?;
    let book = Book::new(&scene)?;
    let postern = scene.start()?;
    let (cert, key) = scene.identity.write(scene.installation.dir(), "server")?;
    let at = scene.server(Family::V4, 993);
    for (count, (version, status)) in [
        ("-tls1_2", Status::Good),
        ("-tls1_3", Status::Good),
        ("-tls1_2", Status::Revoked),
        ("-tls1_3", Status::Revoked),
    ]
    .into_iter()
    .enumerate()
    {
        let file = scene.installation.dir().join("staple");
        fs::write(&file, book.answer(&scene.identity, status)?)?;
        let file = file.to_string_lossy();
        let mut server = OpenSslServer::with(&scene, at, (&cert, &key), &["-status_file", &file, version])?;
        let (name, client) = (Family::V4.name(), scene.client()?);
        let mut session = Session::implicit(&scene.lab.client, at, name, &client)?;
        if status == Status::Good {
            server.say("* OK ready")?;
            assert!(session.greeting()?.contains("ready"));
        } else {
            assert!(String::from_utf8_lossy(&session.to_end()?).contains(REVOKED));
        }
        drop((session, server));
        let word = if status == Status::Good { "good" } else { "revoked" };
        let record = last(&postern, count + 1)?;
        assert_eq!(record.text("postern.certificate.ocsp"), word, "{version}: {record:#?}");
    }
    postern.stop()?;
    scene.finish()
}

#[test]
fn a_list_revokes_from_the_reload_on_and_a_broken_one_changes_nothing() -> Result<()> {
    let scene = Scene::new(&Policy::new())?;
    let book = Book::new(&scene)?;
    let file = scene.installation.dir().join("company.crl");
    fs::write(&file, book.list(&scene.identity, Status::Good)?)?;
    scene.installation.configure(&under("strict").tls("crls = [\"company.crl\"]"))?;
    let checked = scene.installation.command(&scene.lab.gateway, &["check"])?;
    assert!(
        checked.stdout.contains("revoked certificates: 0 of \"CN=Lab Root\", next list:"),
        "{}",
        checked.stdout
    );
    let postern = scene.start()?;
    let server = scene.serve()?;
    // The list is the good answer that "strict" demands.
    fetch(&scene, 993)?;
    let mut held = scene.session(Family::V4, 993)?;
    fs::write(&file, book.list(&scene.identity, Status::Revoked)?)?;
    postern.signal(Signal::HUP)?;
    postern.wait_log("configuration reloaded")?;
    let said = refusal(&scene, 993)?;
    assert!(said.contains(REVOKED), "{said}");
    let record = postern.wait_record("the refusal", |record| !record.faults().is_empty())?;
    assert_eq!(record.faults(), ["revoked"], "{record:#?}");
    assert_eq!(record.text("event.reason"), "certificate_blocked", "{record:#?}");
    assert_eq!(record.text("postern.certificate.crl"), "revoked", "{record:#?}");
    held.command("NOOP")?.ok()?;
    held.logout()?;
    fs::write(&file, "no list")?;
    postern.signal(Signal::HUP)?;
    postern.wait_log("company.crl: holds no list of revoked certificates")?;
    assert!(refusal(&scene, 993)?.contains(REVOKED), "the list in force stays");
    drop(server);
    postern.stop()?;
    scene.finish()
}

#[test]
fn a_revoked_server_is_mirrored_or_allowed_where_the_owner_says_so() -> Result<()> {
    for verdict in ["mirror", "allow"] {
        let scene = Scene::new(&under("lenient").fault("revoked", verdict))?;
        let book = Book::new(&scene)?;
        let postern = scene.start()?;
        let staple = book.answer(&scene.identity, Status::Revoked)?;
        let tls = stapling(&scene.identity, Tls::V13, staple)?;
        let server = scene.serve_with(tls, vec![MESSAGE.to_vec()])?;
        for port in [143, 993] {
            assert_eq!(fetch(&scene, port).is_ok(), verdict == "allow", "{port}");
        }
        for record in postern.wait_records(2)? {
            assert_eq!(record.faults(), ["revoked"], "{record:#?}");
            assert_eq!(record.text("postern.certificate.verdict"), verdict);
        }
        drop(server);
        postern.stop()?;
        scene.finish()?;
    }
    Ok(())
}

/// An address of the whole world's, where the lab's server is, too.
const PUBLIC: &str = "1.2.3.4";

/// A policy whose helper asks the lab's name server, and may reach the server at one of its addresses, and where nobody
/// listens.
fn asking(mode: &str) -> Policy {
    let (server, silent) = (Family::V4.server(), Family::V4.elsewhere());
    under(mode).table(&format!(
        "[helper]\nname_servers = [\"{server}\"]\nreach = [\"{server}/32\", \"{silent}/32\"]"
    ))
}

/// The lab's authority by HTTP, and the names that its certificates have.
fn responder(scene: &Scene) -> Result<(Responder, NameServer)> {
    let (server, other) = (Family::V4.server(), Family::V4.other_server());
    let public = PUBLIC.parse()?;
    scene.lab.server.ip(&["address", "add", &format!("{PUBLIC}/32"), "dev", "lo"])?;
    let names = [
        ("ocsp.lab.test", server),
        ("private.lab.test", other),
        ("local.lab.test", "127.0.0.1".parse()?),
        ("gateway.lab.test", Family::V4.gateway_wan()),
        ("public.lab.test", public),
        ("gone.lab.test", Family::V4.elsewhere()),
    ];
    let at = [server, other, public].map(|address| SocketAddr::new(address, 80));
    let responder = Responder::start(&scene.lab.server, &at)?;
    Ok((responder, NameServer::start(&scene.lab.server, server, &names)?))
}

/// A new certificate, which names this responder.
fn naming(scene: &Scene, url: &str) -> Result<Identity> {
    scene.roots.issue(&Wanted { responder: Some(url.to_owned()), ..Wanted::server() })
}

fn route_public(scene: &Scene, interface: &str) -> Result<()> {
    let via = if interface == EGRESS { Family::V4.server() } else { Family::V4.elsewhere() };
    scene.lab.gateway.ip(&["route", "replace", PUBLIC, "via", &via.to_string(), "dev", interface]).map(drop)
}

/// What a responder says, as an authority's book says of the certificate or in other words.
enum Answers {
    Book(Status),
    Chunked,
    Says(Reply),
}

#[test]
fn an_authority_that_is_asked_decides_what_the_mode_promises() -> Result<()> {
    use Answers::{Book as Booked, Chunked, Says};
    /// What the certificate names, what is answered there; the record's words for the answer, who brought it and why there
    /// is none; what is wrong under "lenient" and "strict"; how often somebody was asked.
    type Case = (&'static str, Answers, [&'static str; 3], [Option<&'static str>; 2], usize);
    let (named, missing) = ("http://ocsp.lab.test/x", [None, Some("ocsp_missing")]);
    let none = |fault| ["absent", "", fault];
    let cases = || -> Vec<Case> {
        vec![
            (named, Booked(Status::Good), ["good", "fetched", ""], [None, None], 1),
            (named, Chunked, ["good", "fetched", ""], [None, None], 1),
            (named, Booked(Status::Revoked), ["revoked", "fetched", ""], [Some("revoked"); 2], 1),
            (named, Booked(Status::Unknown), ["unknown", "fetched", ""], missing, 1),
            (named, Says(Reply::response(b"garbage")), ["malformed", "fetched", ""], missing, 1),
            (named, Says(Reply::Octets(b"220 mail\r\n".to_vec())), none("http_malformed"), missing, 1),
            (
                named,
                Says(Reply::with("302 Found\r\nLocation: http://10.77.2.3/", b"")),
                none("redirect"),
                missing,
                1,
            ),
            (named, Says(Reply::with("404 Gone", b"")), none("http_status"), missing, 1),
            (named, Says(Reply::response(&[0; 16 * 1024 + 1])), none("too_large"), missing, 1),
            (named, Says(Reply::Silence), none("late"), missing, 1),
            ("http://gone.lab.test/", Booked(Status::Good), none("unreachable"), missing, 0),
            ("http://nobody.lab.test/", Booked(Status::Good), none("unresolved"), missing, 0),
            ("https://ocsp.lab.test/", Booked(Status::Good), none("url_refused"), missing, 0),
            ("http://ocsp.lab.test:8080/", Booked(Status::Good), none("url_refused"), missing, 0),
            ("http://10.77.2.3/", Booked(Status::Good), none("address_refused"), missing, 0),
            ("http://private.lab.test/", Booked(Status::Good), none("address_refused"), missing, 0),
            ("http://local.lab.test/", Booked(Status::Good), none("address_refused"), missing, 0),
            ("http://gateway.lab.test/", Booked(Status::Good), none("address_refused"), missing, 0),
            ("http://public.lab.test/", Booked(Status::Good), ["good", "fetched", ""], [None, None], 1),
        ]
    };
    let scene = Scene::new(&asking("lenient"))?;
    let book = Book::new(&scene)?;
    let (responder, names) = responder(&scene)?;
    route_public(&scene, EGRESS)?;
    for (index, mode) in ["lenient", "strict"].into_iter().enumerate() {
        scene.installation.configure(&asking(mode))?;
        let postern = scene.start()?;
        let mut sessions = 0;
        for (url, answers, words, faults, asked) in cases() {
            let identity = naming(&scene, url)?;
            responder.says(match answers {
                Booked(status) => Reply::response(&book.answer(&identity, status)?),
                Chunked => {
                    let body = book.answer(&identity, Status::Good)?;
                    let chunk =
                        [format!("{:x}\r\n", body.len()).as_bytes(), &body, b"\r\n0\r\n\r\n"].concat();
                    Reply::with("200 OK\r\nTransfer-Encoding: chunked", &chunk)
                }
                Says(reply) => reply,
            });
            let before = responder.asked().len();
            let server = scene.serve_with(identity.server_config(ALL_VERSIONS)?, vec![MESSAGE.to_vec()])?;
            let fault = *faults.get(index).context("no such mode")?;
            // The second session of each certificate has what is known from the first.
            for round in [0, 1] {
                match fault {
                    None => fetch(&scene, 993)?,
                    Some(fault) => {
                        let said = refusal(&scene, 993)?;
                        let words = if fault == "revoked" { REVOKED } else { MISSING };
                        assert!(said.starts_with("* BYE") && said.contains(words), "{mode} {url}: {said}");
                        assert!(!server.log().join("\n").contains("LOGIN"));
                    }
                }
                sessions += 1;
                let record = last(&postern, sessions)?;
                let [ocsp, source, unanswered] = words;
                let source = if round == 1 && source == "fetched" { "cached" } else { source };
                let told = ["ocsp", "ocsp_source", "ocsp_fault"];
                let told = told.map(|field| record.text(&format!("postern.certificate.{field}")).to_owned());
                assert_eq!(told, [ocsp, source, unanswered], "{mode} {url}: {record:#?}\n{}", postern.log());
                assert_eq!(record.faults(), Vec::from_iter(fault), "{mode} {url}: {record:#?}");
            }
            assert_eq!(responder.asked().len() - before, asked, "{mode} {url}: a question each");
            drop(server);
        }
        postern.stop()?;
    }
    // What was sent is what openssl sends.
    let first = responder.asked().into_iter().next().context("nobody was asked")?;
    fs::write(book.dir.join("sent"), first)?;
    assert!(book.openssl(&["ocsp", "-reqin", "sent", "-req_text"])?.contains("Hash Algorithm: sha1"));
    drop((responder, names));
    scene.lab.gateway.ip(&["route", "del", PUBLIC])?;
    scene.finish()
}

#[test]
fn nobody_is_asked_where_policy_does_not_want_it_or_an_answer_is_there() -> Result<()> {
    let scene = Scene::new(&asking("disabled"))?;
    let book = Book::new(&scene)?;
    let (responder, names) = responder(&scene)?;
    let postern = scene.start()?;
    assert!(postern.process("helper").is_err(), "nobody needs it");
    let identity = naming(&scene, "http://ocsp.lab.test/")?;
    responder.says(Reply::response(&book.answer(&identity, Status::Revoked)?));
    let server = scene.serve_with(identity.server_config(ALL_VERSIONS)?, vec![MESSAGE.to_vec()])?;
    fetch(&scene, 993)?;
    assert_eq!(last(&postern, 1)?.text("postern.certificate.ocsp"), "");
    // From the reload on it is asked, also behind STARTTLS.
    scene.installation.configure(&asking("lenient"))?;
    postern.signal(Signal::HUP)?;
    wait::until("the helper", PATIENCE, || Ok(postern.process("helper").ok()))?;
    assert!(refusal(&scene, 143)?.contains(REVOKED));
    assert_eq!(responder.asked().len(), 1);
    drop(server);
    // The server's own answer counts.
    let staple = book.answer(&identity, Status::Good)?;
    let server = scene.serve_with(stapling(&identity, Tls::V13, staple)?, vec![MESSAGE.to_vec()])?;
    fetch(&scene, 993)?;
    let record = last(&postern, 3)?;
    assert_eq!(record.text("postern.certificate.ocsp_source"), "stapled", "{record:#?}");
    drop(server);
    // A certificate that nobody here trusts leads nowhere.
    let stranger = Authority::new("Stranger")?;
    let url = Some("http://ocsp.lab.test/".to_owned());
    let strange = stranger.issue(&Wanted { responder: url, ..Wanted::server() })?;
    let server = scene.serve_with(strange.server_config(ALL_VERSIONS)?, vec![MESSAGE.to_vec()])?;
    assert!(refusal(&scene, 993)?.contains("does not come from a trusted authority"));
    drop(server);
    // A public address that is not reached through an egress.
    route_public(&scene, ELSEWHERE)?;
    let identity = naming(&scene, "http://public.lab.test/")?;
    let server = scene.serve_with(identity.server_config(ALL_VERSIONS)?, vec![MESSAGE.to_vec()])?;
    fetch(&scene, 993)?;
    let record = last(&postern, 5)?;
    assert_eq!(record.text("postern.certificate.ocsp_fault"), "egress_refused", "{record:#?}");
    postern.wait_log("routed out of")?;
    assert_eq!(responder.asked().len(), 1, "nobody else was asked");
    // And nobody is left that asks.
    scene.installation.configure(&asking("disabled"))?;
    postern.signal(Signal::HUP)?;
    wait::until("the helper's end", PATIENCE, || Ok(postern.process("helper").is_err().then_some(())))?;
    fetch(&scene, 993)?;
    drop((server, responder, names));
    postern.stop()?;
    scene.lab.gateway.ip(&["route", "del", PUBLIC])?;
    scene.finish()
}
