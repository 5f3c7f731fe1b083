//! What happens to mail without a daemon, or when the daemon has no room. The kernel enforces it, whatever ended the
//! daemon.

use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::UnixListener;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use postern_tests::client::{self, Session};
use postern_tests::crowd::Crowd;
use postern_tests::lab::{Family, Lab, Shape};
use postern_tests::postern::{Installation, Policy, Postern};
use postern_tests::scene::Scene;
use postern_tests::wait::{self, PATIENCE};
use serde_json::Value;

/// Less than the second after which TCP sends its SYN again: what is dropped is not there after it.
const ONE_SYN: Duration = Duration::from_millis(700);
/// How often a daemon is killed.
const KILLS: u32 = 20;

/// Servers on both ports and families that only note their peers.
struct Lookouts(Vec<(Family, TcpListener)>);

impl Lookouts {
    fn new(lab: &Lab) -> Result<Self> {
        let mut listeners = Vec::new();
        for family in Family::ALL {
            for port in [143, 993] {
                let listener = lab.server.listen(SocketAddr::new(family.server(), port))?;
                listener.set_nonblocking(true)?;
                listeners.push((family, listener));
            }
        }
        Ok(Self(listeners))
    }

    /// Whether a peer with a client's own address came since the last call.
    fn saw_a_client(&self) -> bool {
        let peers = self.0.iter().flat_map(|(family, listener)| {
            std::iter::from_fn(move || listener.accept().ok().map(|(_, peer)| peer.ip() == family.client()))
        });
        // All of them are taken, so that the next question begins anew.
        peers.fold(false, |seen, client| seen | client)
    }
}

fn knock(lab: &Lab, to: SocketAddr) -> std::io::Result<TcpStream> {
    lab.client
        .enter(|| Ok(TcpStream::connect_timeout(&to, ONE_SYN)))
        .unwrap_or_else(|error| Err(std::io::Error::other(error.to_string())))
}

fn each_port(mut visit: impl FnMut(SocketAddr) -> Result<()>) -> Result<()> {
    for family in Family::ALL {
        for port in [143, 993] {
            visit(SocketAddr::new(family.server(), port))
                .with_context(|| format!("{family:?}, port {port}"))?;
        }
    }
    Ok(())
}

fn passes(lab: &Lab, lookouts: &Lookouts) -> Result<()> {
    each_port(|to| {
        // Clients that connect all the time fill the servers' queues, and a full queue answers nobody: they are emptied
        // before each try. A neighbour may have been forgotten meanwhile, and its first packet waits for it.
        let _open = wait::until("the server itself", PATIENCE, || {
            lookouts.saw_a_client();
            Ok(knock(lab, to).ok())
        })?;
        wait::until("the client at the server", PATIENCE, || Ok(lookouts.saw_a_client().then_some(())))
    })
}

/// All at once, because each takes as long as a SYN is awaited.
fn is_dropped(lab: &Lab, lookouts: &Lookouts) -> Result<()> {
    thread::scope(|scope| {
        let mut knocking = Vec::new();
        each_port(|to| {
            knocking.push((to, scope.spawn(move || knock(lab, to))));
            Ok(())
        })?;
        for (to, knock) in knocking {
            ensure!(knock.join().is_ok_and(|knocked| knocked.is_err()), "somebody answers for {to}");
        }
        ensure!(!lookouts.saw_a_client(), "the client reached the server");
        Ok(())
    })
}

/// Clients that connect all the time until this is dropped.
struct Rush<'a> {
    stop: &'a AtomicBool,
}

impl<'a> Rush<'a> {
    fn start<'s>(
        scope: &'s thread::Scope<'s, 'a>,
        lab: &'a Lab,
        stop: &'a AtomicBool,
        tried: &'a AtomicU32,
    ) -> Self {
        for family in Family::ALL {
            scope.spawn(move || {
                let ports = [143, 993].into_iter().cycle();
                lab.client.enter(|| {
                    for port in ports.take_while(|_| !stop.load(Ordering::Relaxed)) {
                        let to = SocketAddr::new(family.server(), port);
                        let _whatever = TcpStream::connect_timeout(&to, ONE_SYN);
                        tried.fetch_add(1, Ordering::Relaxed);
                    }
                    Ok(())
                })
            });
        }
        Self { stop }
    }
}

impl Drop for Rush<'_> {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// Kill the daemon again and again while clients connect, and check what is promised after each kill.
fn killed_again_and_again(
    on_exit: &str,
    promised: impl Fn(&Lab, &Lookouts) -> Result<()>,
    always: impl Fn(&Lookouts) -> Result<()>,
) -> Result<()> {
    // These servers say nothing, so what clients began is cut by the stop.
    let scene = Scene::new(&Policy::new().on_exit(on_exit).limits("drain_seconds = 1"))?;
    let lookouts = Lookouts::new(&scene.lab)?;
    let (stop, tried) = (AtomicBool::new(false), AtomicU32::new(0));
    // The first start has no predecessor that could have left anything.
    let first = scene.start()?;
    let postern = thread::scope(|scope| {
        let mut postern = first;
        let _rush = Rush::start(scope, &scene.lab, &stop, &tried);
        for kill in 1..=KILLS {
            let before = tried.load(Ordering::Relaxed);
            wait::until("clients", PATIENCE, || Ok((tried.load(Ordering::Relaxed) > before).then_some(())))?;
            postern.kill()?;
            promised(&scene.lab, &lookouts).with_context(|| format!("after kill {kill}"))?;
            postern = scene.start()?;
            always(&lookouts).with_context(|| format!("until start {kill}"))?;
        }
        anyhow::Ok(postern)
    })?;
    lookouts.saw_a_client();
    each_port(|to| {
        let _taken = knock(&scene.lab, to)?;
        ensure!(!lookouts.saw_a_client(), "after its start the daemon takes everything");
        Ok(())
    })?;
    postern.stop()?;
    promised(&scene.lab, &lookouts).context("after a stop")?;
    let cleared = scene.installation.command(&scene.lab.gateway, &["clear"])?;
    ensure!(cleared.code == Some(0), "{cleared:?}");
    passes(&scene.lab, &lookouts).context("after `postern clear`")?;
    scene.finish()
}

#[test]
fn closed_drops_mail_after_every_kill_and_no_client_ever_passes_the_daemon() -> Result<()> {
    killed_again_and_again("closed", is_dropped, |lookouts| {
        ensure!(!lookouts.saw_a_client(), "a client passed between kill and start");
        Ok(())
    })
}

#[test]
fn open_lets_mail_pass_after_every_kill_and_the_next_start_takes_it_again() -> Result<()> {
    killed_again_and_again("open", passes, |_| Ok(()))
}

#[test]
fn status_reads_the_kernel_where_no_daemon_answers() -> Result<()> {
    for (on_exit, words) in [("closed", "mail is dropped"), ("open", "mail flows uninspected")] {
        let scene = Scene::new(&Policy::new().on_exit(on_exit))?;
        let ask = |installation: &Installation| installation.command(&scene.lab.gateway, &["status"]);
        let postern = scene.start()?;
        let said = ask(&scene.installation)?;
        ensure!(said.code == Some(0) && said.stdout.contains(&format!("on exit   {on_exit}")), "{said:?}");
        postern.kill()?;
        let said = ask(&scene.installation)?;
        ensure!(said.code == Some(3), "{said:?}");
        ensure!(said.stdout.contains(words) && said.stdout.contains("postern clear"), "{said:?}");
        ensure!(said.stdout.contains("ip -6 rule pref 143 iif lan0"), "{said:?}");
        let chain = "nft inet postern forward: iifname lan0 tcp dport 993 drop";
        ensure!(said.stdout.contains(chain) == (on_exit == "closed"), "{said:?}");
        let said = scene.installation.command(&scene.lab.gateway, &["status", "--json"])?;
        let document: Value = serde_json::from_str(&said.stdout)?;
        ensure!(document["mail"].as_str().is_some_and(|mail| mail.contains(words)), "{document:#}");
        let said = scene.installation.command(&scene.lab.gateway, &["clear"])?;
        ensure!(said.code == Some(0) && said.stdout.contains("removed ip -4 rule"), "{said:?}");
        ensure!(said.stdout.contains("nft table inet postern") == (on_exit == "closed"), "{said:?}");
        let said = ask(&scene.installation)?;
        ensure!(said.stdout.contains("nothing is installed"), "{said:?}");
        scene.finish()?;
    }
    Ok(())
}

#[test]
fn nothing_is_cleared_under_a_daemon_that_runs() -> Result<()> {
    let scene = Scene::new(&Policy::new())?;
    let postern = scene.start()?;
    let said = scene.installation.command(&scene.lab.gateway, &["clear"])?;
    ensure!(said.code == Some(1) && said.stderr.contains("stop it first"), "{said:?}");
    let server = scene.serve()?;
    scene.session(Family::V4, 993)?.logout()?;
    postern.wait_record("a session", |record| record.text("event.outcome") == "success")?;
    postern.stop()?;
    drop(server);
    scene.finish()
}

#[test]
fn a_second_daemon_is_refused_and_who_takes_a_name_that_all_may_take_keeps_nobody_from_starting() -> Result<()>
{
    let scene = Scene::new(&Policy::new())?;
    // What any user of the machine can do.
    let _squatter = scene.lab.gateway.enter(|| {
        let name = std::os::unix::net::SocketAddr::from_abstract_name("postern/steering")?;
        Ok(UnixListener::bind_addr(&name)?)
    })?;
    let postern = scene.start()?;
    let before = postern.status()?;
    let second = scene.installation.command(&scene.lab.gateway, &["run"])?;
    ensure!(second.code == Some(1) && second.stderr.contains("stop it first"), "{second:?}");
    ensure!(postern.status()?["rules"] == before["rules"], "the second one touched something");
    postern.stop()?;
    let said = scene.installation.command(&scene.lab.gateway, &["clear"])?;
    ensure!(said.code == Some(0), "{said:?}");
    scene.finish()
}

#[test]
fn a_start_right_after_a_kill_succeeds_every_time() -> Result<()> {
    let scene = Scene::new(&Policy::new().on_exit("closed"))?;
    let mut postern = scene.start()?;
    for kill in 1..=10 {
        postern.signal(rustix::process::Signal::KILL)?;
        postern = scene.start().with_context(|| format!("after kill {kill}"))?;
    }
    postern.stop()?;
    scene.installation.command(&scene.lab.gateway, &["clear"])?;
    scene.finish()
}

/// The rules of Postern's chain that are in force.
fn chain(lab: &Lab) -> Result<usize> {
    let ruleset = lab.gateway.nft_list()?;
    let ours = ruleset.split("table ").find(|table| table.starts_with("inet postern {")).unwrap_or_default();
    Ok(ours.lines().filter(|line| line.contains("iifname \"lan0\"") && line.contains("drop")).count())
}

#[test]
fn under_closed_a_rule_in_front_that_cannot_be_overtaken_costs_the_mail_and_never_its_inspection()
-> Result<()> {
    let shape = Shape { guest: true, ..Shape::default() };
    let scene = Scene::shaped(&Policy::new().on_exit("closed"), shape)?;
    let lookouts = Lookouts::new(&scene.lab)?;
    let postern = scene.start()?;
    for family in ["-4", "-6"] {
        // Beside the kernel's own rule: no preference is left for Postern's.
        scene.lab.gateway.ip(&[family, "rule", "add", "pref", "0", "lookup", "main"])?;
    }
    is_dropped(&scene.lab, &lookouts)?;
    ensure!(postern.counter("forward_dropped")? >= 4, "{:#}", postern.status()?);
    for family in Family::ALL {
        // Whoever is on an interface that is not listed is forwarded as before, from both sides of the gateway.
        let guest = scene.lab.guest()?;
        wait::until("a guest", PATIENCE, || Ok(guest.connect(SocketAddr::new(family.server(), 143)).ok()))?;
    }
    postern.wait_log("`ip -4 rule pref 0 lookup main` stands in front of Postern's rules")?;
    let status = postern.status()?;
    for place in ["/steering/alarms", "/steering/in_front"] {
        let told = status.pointer(place).context("no such field")?.to_string();
        ensure!(told.contains("ip -6 rule pref 0 lookup main"), "{place}: {told}");
    }
    let said = scene.installation.command(&scene.lab.gateway, &["check"])?;
    ensure!(said.code == Some(69), "{said:?}");
    ensure!(said.stdout.contains("fail  rules in front: `ip -4 rule pref 0 lookup main`"), "{said:?}");
    for family in ["-4", "-6"] {
        scene.lab.gateway.ip(&[family, "rule", "delete", "pref", "0", "lookup", "main"])?;
    }
    postern.wait_log("no longer so: `ip -4 rule pref 0 lookup main`")?;
    postern.stop()?;
    scene.installation.command(&scene.lab.gateway, &["clear"])?;
    scene.finish()
}

#[test]
fn the_forward_chain_comes_back_after_a_flush_outlives_a_kill_and_goes_when_open_or_cleared() -> Result<()> {
    let scene = Scene::new(&Policy::new().on_exit("closed"))?;
    let postern = scene.start()?;
    ensure!(chain(&scene.lab)? == 2, "{}", scene.lab.gateway.nft_list()?);
    for deed in [
        "flush ruleset",
        "flush chain inet postern forward",
        "delete chain inet postern forward",
        "add table inet postern { flags dormant; }",
    ] {
        let counted = postern.counter("repairs")?;
        scene.lab.gateway.nft(deed)?;
        wait::until("the chain", PATIENCE, || {
            let whole = chain(&scene.lab)? == 2 && !scene.lab.gateway.nft_list()?.contains("dormant");
            Ok((whole && postern.counter("repairs")? > counted).then_some(()))
        })
        .with_context(|| deed.to_owned())?;
    }
    ensure!(postern.log().contains("put back: nft inet postern forward"), "{}", postern.log());
    postern.kill()?;
    ensure!(chain(&scene.lab)? == 2, "it stays after a kill");
    for family in ["-4", "-6"] {
        scene.lab.gateway.ip(&[family, "rule", "flush"])?;
        scene.lab.gateway.ip(&[family, "rule", "add", "pref", "32766", "lookup", "main"])?;
    }
    scene.lab.gateway.ip(&["rule", "add", "pref", "32767", "lookup", "default"])?;
    let said = scene.installation.command(&scene.lab.gateway, &["status"])?;
    ensure!(said.stdout.contains("mail is dropped by an nftables chain"), "{said:?}");
    is_dropped(&scene.lab, &Lookouts::new(&scene.lab)?).context("rules flushed without a daemon")?;
    scene.installation.configure(&Policy::new().on_exit("open"))?;
    scene.start()?.stop()?;
    ensure!(chain(&scene.lab)? == 0, "`open` wants none");
    scene.installation.configure(&Policy::new().on_exit("closed"))?;
    scene.start()?.stop()?;
    ensure!(chain(&scene.lab)? == 2, "it stays after a stop");
    scene.installation.command(&scene.lab.gateway, &["clear"])?;
    scene.finish()
}

#[test]
fn a_table_of_others_with_the_chains_name_is_left_alone_and_named() -> Result<()> {
    let scene = Scene::new(&Policy::new().on_exit("closed"))?;
    let theirs = "table inet postern { chain input { type filter hook input priority 0; counter; }; }";
    scene.lab.gateway.nft(theirs)?;
    let before = scene.lab.gateway.nft_list()?;
    let postern = scene.start()?;
    postern.wait_log("the nftables table `inet postern` is not Postern's")?;
    let said = scene.installation.command(&scene.lab.gateway, &["check"])?;
    ensure!(
        said.code == Some(69) && said.stdout.contains("fail  forward chain: the nftables table"),
        "{said:?}"
    );
    postern.stop()?;
    scene.installation.command(&scene.lab.gateway, &["clear"])?;
    let same = |list: &str| list.lines().filter(|line| !line.contains("counter")).collect::<String>();
    ensure!(same(&scene.lab.gateway.nft_list()?) == same(&before), "it was touched");
    scene.lab.gateway.nft("delete table inet postern")?;
    scene.finish()
}

#[test]
fn mail_between_two_ports_of_a_bridge_is_not_routed_and_the_chain_lets_it_alone() -> Result<()> {
    let policy = Policy::new().ingress(&["br7", "lan0"]).on_exit("closed");
    let scene = Scene::shaped(&policy, Shape { guest: true, ..Shape::default() })?;
    let gateway = &scene.lab.gateway;
    let postern = scene.start()?;
    // Made while the daemon runs: what an interface is may change.
    gateway.ip(&["link", "add", "br7", "type", "bridge"])?;
    for (port, host, address) in
        [("p1", &scene.lab.client, "10.66.0.1"), ("p2", scene.lab.guest()?, "10.66.0.2")]
    {
        gateway.ip(&["link", "add", port, "type", "veth", "peer", "name", "eth9", "netns", host.name()])?;
        gateway.ip(&["link", "set", port, "master", "br7", "up"])?;
        host.ip(&["link", "set", "eth9", "up"])?;
        host.ip(&["address", "add", &format!("{address}/24"), "dev", "eth9"])?;
    }
    gateway.ip(&["link", "set", "br7", "up"])?;
    gateway
        .sysctl(&[("bridge/bridge-nf-call-iptables", "1")])
        .context("frames of bridges shall meet netfilter: `modprobe br_netfilter`")?;
    let listener = scene.lab.guest()?.listen("10.66.0.2:143".parse()?)?;
    wait::until("the chain", PATIENCE, || {
        Ok(gateway.nft_list()?.contains("iifname \"br7\" oifname != \"br7\"").then_some(()))
    })?;
    let _open = scene.lab.client.connect("10.66.0.2:143".parse()?)?;
    ensure!(listener.accept()?.1.ip() == IpAddr::from([10, 66, 0, 1]), "somebody else came");
    postern.stop()?;
    gateway.ip(&["link", "delete", "br7"])?;
    Ok(())
}

/// Whether new connections are steered now.
fn takes(postern: &Postern<'_>) -> Result<bool> {
    let status = postern.status()?;
    Ok(status.pointer("/steering/intake").context("no intake in the status")? == "steered")
}

/// So many sessions, each of another client: one alone may not fill all places.
fn of_many_clients(scene: &Scene, count: usize) -> Result<Crowd> {
    let config = scene.client()?;
    let address = |number: usize| IpAddr::from([10, 77, 1, u8::try_from(100 + number).unwrap_or(u8::MAX)]);
    Crowd::open(count, |number| {
        let to = scene.server(Family::V4, if number % 2 == 0 { 143 } else { 993 });
        let stream = scene.lab.client.connect_from(address(number), to)?;
        let mut session = Session::on(stream, Family::V4.name(), &config)?;
        session.enter()?;
        Ok(session)
    })
}

/// One session more than there is room for, and what becomes of it; those that exist go on, and after they end new
/// ones are taken again.
fn without_room(on_exit: &str, beyond: impl Fn(&Scene) -> Result<()>) -> Result<()> {
    const ROOM: usize = 8;
    let scene = Scene::new(&Policy::new().on_exit(on_exit).limits(&format!("sessions = {ROOM}")))?;
    let server = scene.serve()?;
    let postern = scene.start()?;
    for number in 0..ROOM {
        let address = format!("10.77.1.{}/24", 100 + number);
        scene.lab.client.ip(&["address", "add", &address, "dev", "eth0"])?;
    }
    // One client alone cannot fill the places, whatever it tries.
    let mut alone = scene.session(Family::V4, 993)?;
    for _ in 0..ROOM {
        client::is_reset(&scene.lab.client, scene.server(Family::V4, 993))?;
    }
    ensure!(takes(&postern)?, "one client alone made the daemon full");
    alone.noop()?;
    alone.logout()?;
    wait::until("the end of its session", PATIENCE, || Ok((postern.counter("active")? == 0).then_some(())))?;
    let mut crowd = of_many_clients(&scene, ROOM)?;
    wait::until("the kernel to be told", PATIENCE, || Ok((!takes(&postern)?).then_some(())))?;
    beyond(&scene)?;
    crowd.prove().context("sessions that exist go on")?;
    drop(crowd);
    wait::until("room", PATIENCE, || Ok(takes(&postern)?.then_some(())))?;
    of_many_clients(&scene, ROOM)?.prove()?;
    let log = postern.log();
    ensure!(log.contains("no room") && log.contains("there is room again"), "{log}");
    postern.stop()?;
    drop(server);
    scene.installation.command(&scene.lab.gateway, &["clear"])?;
    scene.finish()
}

fn answers_as(scene: &Scene, wanted: Option<IpAddr>) -> Result<()> {
    // The test checks peers, not a mail server: it uses a second address of the server, at which nobody serves.
    for family in Family::ALL {
        let to = SocketAddr::new(family.elsewhere(), 143);
        let listener = scene.lab.server.listen(to)?;
        listener.set_nonblocking(true)?;
        let knocked = knock(&scene.lab, to);
        ensure!(knocked.is_ok() == wanted.is_some(), "{family:?}: {knocked:?}");
        if wanted.is_some() {
            let peer = wait::until("the client", PATIENCE, || Ok(listener.accept().ok()))?.1.ip();
            ensure!(peer == family.client(), "{peer} came instead of the client");
        }
    }
    Ok(())
}

#[test]
fn without_room_closed_drops_and_counts_new_connections() -> Result<()> {
    without_room("closed", |scene| answers_as(scene, None))
}

#[test]
fn without_room_open_lets_new_connections_pass_and_those_that_exist_go_on() -> Result<()> {
    without_room("open", |scene| answers_as(scene, Some(Family::V4.client())))
}

#[test]
fn while_sessions_drain_new_connections_are_treated_as_after_the_stop() -> Result<()> {
    for (on_exit, wanted) in [("closed", None), ("open", Some(Family::V4.client()))] {
        let scene = Scene::new(&Policy::new().on_exit(on_exit))?;
        let server = scene.serve()?;
        let mut postern = scene.start()?;
        let mut crowd = scene.sessions(8)?;
        postern.signal(rustix::process::Signal::TERM)?;
        wait::until("draining", PATIENCE, || Ok(postern.log().contains("draining").then_some(())))?;
        answers_as(&scene, wanted).context(on_exit)?;
        crowd.prove().with_context(|| format!("{on_exit}: sessions go on while they drain"))?;
        drop(crowd);
        ensure!(postern.wait(PATIENCE)?.success(), "{}", postern.log());
        answers_as(&scene, wanted).context(on_exit)?;
        drop((postern, server));
        scene.installation.command(&scene.lab.gateway, &["clear"])?;
        scene.finish()?;
    }
    Ok(())
}
