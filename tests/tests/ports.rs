//! Ports besides 143 and 993, and listed ports that no policy admits.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use postern::accept::{SocketBuffers, listen};
use postern::config::SteeringConfig;
use postern::steering::device::Device;
use postern::steering::ports::PortPlan;
use postern::steering::program::Program;
use postern::steering::upkeep::{Occasion, Steering};
use postern::steering::{forward, routing};
use postern::words::Size;
use postern_tests::client::Session;
use postern_tests::lab::{EGRESS, Family, INGRESS, Lab};
use postern_tests::postern::Policy;
use postern_tests::scene::{MESSAGE, Scene};
use postern_tests::wait::{self, PATIENCE};
use proxy_ebpf::{Class, Exit};

/// Less than the second after which TCP sends its SYN again: what is dropped is not there after it.
const ONE_SYN: Duration = Duration::from_millis(700);
/// The two listed ports, of which no policy admits the first.
const REFUSED: u16 = 143;
const ADMITTED: u16 = 993;

fn further() -> Policy {
    Policy::new().steering("starttls_ports = [143, 1143]").steering("implicit_tls_ports = [993, 1993]")
}

#[test]
fn mail_of_further_ports_is_taken_over_in_the_way_that_their_list_says() -> Result<()> {
    let scene = Scene::new(&further())?;
    let postern = scene.start()?;
    postern.wait_log("steering IMAP (ports 143, 1143, 993, 1993)")?;
    let server = scene.serve_also(&[1143, 1993])?;
    for family in Family::ALL {
        for (port, mode) in [(143, "starttls"), (1143, "starttls"), (993, "implicit"), (1993, "implicit")] {
            // The client trusts Postern's authority alone.
            let mut session = scene.session(family, port)?;
            session.enter()?;
            ensure!(session.fetch(1)? == MESSAGE, "{family:?}, {port}");
            session.logout()?;
            let what = format!("the record of {family:?}, port {port}");
            let record = postern.wait_record(&what, |record| {
                record.number("server.port") == u64::from(port)
                    && record.text("server.ip") == family.server().to_string()
            })?;
            ensure!(record.succeeded() && record.text("postern.mode") == mode, "{record:#?}");
        }
    }
    // The second defence knows the same ports, and so do rules.
    let status = serde_json::to_string(&postern.status()?)?;
    for rule in ["iif lan0 ipproto tcp dport 1143 lookup", "iif lan0 ipproto tcp dport 1993 lookup"] {
        ensure!(status.contains(rule), "{rule}: {status}");
    }
    drop(server);
    postern.stop()?;
    scene.finish()
}

#[test]
fn the_chain_against_forwarded_mail_has_the_listed_ports() -> Result<()> {
    let scene = Scene::new(&further().on_exit("closed"))?;
    let postern = scene.start()?;
    let status = serde_json::to_string(&postern.status()?)?;
    for port in [143, 1143, 993, 1993] {
        let rule = format!("nft inet postern forward: iifname lan0 tcp dport {port} drop");
        ensure!(status.contains(&rule), "{rule}: {status}");
    }
    postern.stop()?;
    scene.installation.command(&scene.lab.gateway, &["clear"])?;
    scene.finish()
}

#[test]
fn a_usual_port_that_is_not_listed_is_left_alone() -> Result<()> {
    let scene = Scene::new(&Policy::new().steering("starttls_ports = [1143]"))?;
    let postern = scene.start()?;
    let server = scene.serve_also(&[1143])?;
    for family in Family::ALL {
        let stranger = scene.lab.client.connect(scene.server(family, 143))?;
        let near = stranger.local_addr()?;
        let seen = format!("{near} connected to port 143");
        wait::until("the client itself at the server", PATIENCE, || {
            Ok(server.log().contains(&seen).then_some(()))
        })?;
        let mut session = scene.session(family, 1143)?;
        session.enter()?;
        session.logout()?;
    }
    drop(server);
    postern.stop()?;
    scene.finish()
}

#[test]
fn what_is_denied_to_implicit_tls_is_denied_on_each_of_its_ports() -> Result<()> {
    let scene = Scene::new(&further().action("implicit = \"deny\""))?;
    let postern = scene.start()?;
    let server = scene.serve_also(&[1143, 1993])?;
    let to = scene.server(Family::V4, 1993);
    let mut session = Session::implicit(&scene.lab.client, to, Family::V4.name(), &scene.client()?)?;
    let told = session.line()?;
    ensure!(told.contains("this gateway denies implicit TLS"), "{told}");
    let mut session = scene.session(Family::V6, 1143)?;
    session.enter()?;
    session.logout()?;
    drop(server);
    postern.stop()?;
    scene.finish()
}

/// Steering as the daemon installs it, with a listener for each family, under policies that admit one port only.
struct Steered {
    lab: Lab,
    settings: SteeringConfig,
    steering: Option<Steering>,
    listeners: Vec<(Family, TcpListener)>,
    /// At the server, on both ports and families.
    servers: Vec<(SocketAddr, TcpListener)>,
}

impl Steered {
    fn new(on_exit: &str, unmatched: &str) -> Result<Self> {
        let lab = Lab::new()?;
        let text = format!(
            "[steering]\ningress = [\"{INGRESS}\"]\negress = [\"{EGRESS}\"]\non_exit = \"{on_exit}\"\n\
             unmatched = \"{unmatched}\"\n[certificates]\nauthority = {{ cert = \"a.pem\", key = \"a.key\" }}\n"
        );
        let settings = postern::config::parse(&text, std::path::Path::new("postern.toml"))?.steering;
        let mut servers = Vec::new();
        for family in Family::ALL {
            for port in [REFUSED, ADMITTED] {
                let at = SocketAddr::new(family.server(), port);
                let server = lab.server.listen(at)?;
                server.set_nonblocking(true)?;
                servers.push((at, server));
            }
        }
        let plan = admitting(&settings, ADMITTED);
        let (steering, listeners) = lab.gateway.enter(|| {
            let device = Device::open()?;
            let mut program = Program::load()?;
            let mut listeners = Vec::new();
            for (family, of) in [(Family::V4, proxy_ebpf::Family::V4), (Family::V6, proxy_ebpf::Family::V6)] {
                let listener = listen(of, 0, SocketBuffers::of_session(Size(512 << 10)))?;
                program.add_listener(0, of, 0, &listener)?;
                listeners.push((family, listener));
            }
            let (steering, _) = Steering::install(settings.clone(), plan, device, program)?;
            Ok((steering, listeners))
        })?;
        Ok(Self { lab, settings, steering: Some(steering), listeners, servers })
    }

    /// In the gateway's namespace.
    fn replan(&mut self, admitted: u16) -> Result<()> {
        let plan = admitting(&self.settings, admitted);
        let steering = self.steering.as_mut().context("it runs")?;
        let settings = self.settings.clone();
        self.lab.gateway.enter(|| Ok(steering.change(settings, plan).map(drop)?))
    }

    fn knock(&self, family: Family, port: u16, patience: Duration) -> Result<std::io::Result<TcpStream>> {
        let to = SocketAddr::new(family.server(), port);
        self.lab.client.enter(|| Ok(TcpStream::connect_timeout(&to, patience)))
    }

    /// That the client is told by an ICMP error, and that nothing came to the server. On this wire the error may arrive
    /// before `connect` has let go of its socket; TCP then heeds the next one, a second later (`tcp_v6_err`).
    fn assert_refused(&self, port: u16) -> Result<()> {
        for family in Family::ALL {
            let knocked = self.knock(family, port, PATIENCE)?;
            let Err(error) = knocked else { anyhow::bail!("{family:?}: somebody answered") };
            let kinds = [ErrorKind::HostUnreachable, ErrorKind::PermissionDenied];
            ensure!(kinds.contains(&error.kind()), "{family:?}: {error:?}");
        }
        ensure!(!self.server_saw_a_client(port), "a client reached the server");
        Ok(())
    }

    fn assert_dropped(&self, port: u16) -> Result<()> {
        for family in Family::ALL {
            let knocked = self.knock(family, port, ONE_SYN)?;
            let Err(error) = knocked else { anyhow::bail!("{family:?}: somebody answered") };
            ensure!(error.kind() == ErrorKind::TimedOut, "{family:?}: {error:?}");
        }
        ensure!(!self.server_saw_a_client(port), "a client reached the server");
        Ok(())
    }

    fn assert_reaches_the_server(&self, port: u16) -> Result<()> {
        for family in Family::ALL {
            let _open =
                self.knock(family, port, PATIENCE)?.with_context(|| format!("{family:?}, port {port}"))?;
            wait::until("the client at the server", PATIENCE, || {
                Ok(self.server_saw_a_client(port).then_some(()))
            })?;
        }
        Ok(())
    }

    fn server_saw_a_client(&self, port: u16) -> bool {
        let at = self.servers.iter().filter(|(at, _)| at.port() == port);
        at.fold(false, |seen, (_, server)| seen | server.accept().is_ok())
    }

    /// A connection that the daemon has: the client's end, then the daemon's.
    fn steered(&self, family: Family, port: u16) -> Result<(TcpStream, TcpStream)> {
        let client = self.knock(family, port, PATIENCE)??;
        let (_, listener) = self.listeners.iter().find(|(of, _)| *of == family).context("a listener")?;
        let (session, _) = wait::until("the connection", PATIENCE, || Ok(listener.accept().ok()))?;
        session.set_nonblocking(false)?;
        session.set_read_timeout(Some(PATIENCE))?;
        Ok((client, session))
    }

    fn count(&self, class: Class) -> Result<u64> {
        let classes = self.steering.as_ref().context("it runs")?.program().classes()?;
        Class::ALL
            .into_iter()
            .zip(classes)
            .find(|(other, _)| *other == class)
            .map(|(_, n)| n)
            .context("a class")
    }

    fn exits(&self, exit: Exit) -> Result<u64> {
        let exits = self.steering.as_ref().context("it runs")?.program().counters()?;
        Exit::ALL.into_iter().zip(exits).find(|(other, _)| *other == exit).map(|(_, n)| n).context("an exit")
    }

    /// What a kill does to it.
    fn kill(&mut self) -> Result<()> {
        let steering = self.steering.take();
        self.lab.gateway.enter(|| {
            drop(steering);
            Ok(())
        })
    }

    fn clear(&self) -> Result<()> {
        self.lab.gateway.enter(|| {
            routing::clear()?;
            forward::clear()?;
            Ok(())
        })
    }
}

fn admitting(settings: &SteeringConfig, admitted: u16) -> PortPlan {
    PortPlan::admitting(settings, |_, port| port == admitted)
}

/// One octet from one to the other.
fn says(mut from: &TcpStream, mut to: &TcpStream) -> Result<()> {
    use std::io::{Read as _, Write as _};
    let mut octet = [0];
    from.write_all(b"x")?;
    to.set_read_timeout(Some(PATIENCE))?;
    Ok(to.read_exact(&mut octet)?)
}

#[test]
fn a_port_that_no_policy_admits_is_refused_at_once_and_counted() -> Result<()> {
    for on_exit in ["closed", "open"] {
        let mut scene = Steered::new(on_exit, "refuse")?;
        scene.assert_refused(REFUSED)?;
        ensure!(scene.count(Class::Refused)? >= 2, "{}", scene.count(Class::Refused)?);
        let chain = scene.lab.gateway.enter(|| Ok(forward::held()?))?;
        let dropped = chain.rules.iter().filter(|rule| rule.contains("tcp dport 143 drop")).count();
        ensure!(dropped == usize::from(on_exit == "closed"), "{chain:?}");
        for family in Family::ALL {
            let (client, session) = scene.steered(family, ADMITTED)?;
            says(&client, &session)?;
        }
        ensure!(scene.exits(Exit::Steered4)? == 1 && scene.exits(Exit::Steered6)? == 1, "not steered");
        // Whoever deletes the rules has them back.
        for family in ["-4", "-6"] {
            let rule = "rule delete iif lan0 ipproto tcp dport 143 prohibit";
            let words: Vec<&str> = std::iter::once(family).chain(rule.split(' ')).collect();
            scene.lab.gateway.ip(&words)?;
        }
        let steering = scene.steering.as_mut().context("it runs")?;
        let (repair, done) = scene.lab.gateway.enter(|| Ok(steering.repair(Occasion::Time)))?;
        done?;
        ensure!(repair.put_back.len() == 2, "{repair:?}");
        ensure!(repair.put_back.iter().all(|rule| rule.contains("dport 143 prohibit")), "{repair:?}");
        scene.assert_refused(REFUSED)?;
        let steering = scene.steering.take().context("it runs")?;
        scene.lab.gateway.enter(|| Ok(steering.release()?))?;
        if on_exit == "closed" {
            scene.assert_refused(REFUSED)?;
            scene.assert_dropped(ADMITTED)?;
        } else {
            scene.assert_reaches_the_server(REFUSED)?;
            scene.assert_reaches_the_server(ADMITTED)?;
        }
        scene.clear()?;
        scene.lab.finish()?;
    }
    Ok(())
}

#[test]
fn after_a_kill_a_refused_port_stays_refused_until_it_is_cleared() -> Result<()> {
    for on_exit in ["closed", "open"] {
        let mut scene = Steered::new(on_exit, "refuse")?;
        scene.kill()?;
        scene.assert_refused(REFUSED)?;
        match on_exit {
            "closed" => scene.assert_dropped(ADMITTED)?,
            _ => scene.assert_reaches_the_server(ADMITTED)?,
        }
        scene.clear()?;
        scene.assert_reaches_the_server(REFUSED)?;
        scene.lab.finish()?;
    }
    Ok(())
}

#[test]
fn unmatched_connections_that_may_pass_reach_the_server_uncounted() -> Result<()> {
    for on_exit in ["closed", "open"] {
        let mut scene = Steered::new(on_exit, "pass")?;
        scene.assert_reaches_the_server(REFUSED)?;
        ensure!(scene.count(Class::Refused)? == 0, "nothing is refused");
        let chain = scene.lab.gateway.enter(|| Ok(forward::held()?))?;
        ensure!(chain.rules.iter().all(|rule| !rule.contains("dport 143")), "{chain:?}");
        ensure!(chain.rules.len() == usize::from(on_exit == "closed"), "{chain:?}");
        let (client, session) = scene.steered(Family::V6, ADMITTED)?;
        says(&client, &session)?;
        scene.kill()?;
        scene.clear()?;
        scene.lab.finish()?;
    }
    Ok(())
}

#[test]
fn other_policies_refuse_and_admit_at_once_and_no_session_is_lost() -> Result<()> {
    let mut scene = Steered::new("closed", "refuse")?;
    scene.replan(REFUSED)?;
    let mut sessions = Vec::new();
    for family in Family::ALL {
        let (client, session) = scene.steered(family, REFUSED)?;
        says(&client, &session)?;
        sessions.push((client, session));
    }
    scene.assert_refused(ADMITTED)?;
    scene.replan(ADMITTED)?;
    scene.assert_refused(REFUSED)?;
    for (client, session) in &sessions {
        says(client, session)?;
        says(session, client)?;
    }
    ensure!(scene.count(Class::MarkedClient)? >= 4, "sessions go on by their mark");
    for family in Family::ALL {
        let (client, session) = scene.steered(family, ADMITTED)?;
        says(&client, &session)?;
    }
    drop(sessions);
    scene.kill()?;
    scene.clear()?;
    scene.lab.finish()
}
