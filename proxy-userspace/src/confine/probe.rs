//! A process that confines itself and then tries, from the inside, what it must not and what it needs.
//!
//! A refusal is true only where it really happens, and libtest runs every test beside other threads, where nothing
//! may be confined. So debug builds have a command that nobody is told of: `postern confine-probe worker --key FILE`.
//! It prints one line of JSON and ends when its standard input does. Release builds contain none of this.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, IsTerminal as _, Read as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _, UnparsedPublicKey,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage, rule::RuleMessage};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::net::{self, SocketFlags, SocketType};
use rustix::pipe::{PipeFlags, SpliceFlags, pipe_with, splice};
use rustix::process::{Gid, Pid, Resource, Rlimit, Uid, getrlimit, setrlimit};
use rustix::thread::{
    CapabilitySet, CapabilitySets, set_capabilities, set_thread_groups, set_thread_res_gid,
};
use rustix::thread::{sched_getaffinity, sched_setaffinity, set_thread_res_uid};
use rustls::crypto::aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256;
use serde::Serialize;
use socket2::{Domain, SockRef, Type};

use super::{Confinement, Identity, Role, bound_memory, confine, identity};
use crate::accept::HeldOctets;
use crate::config::Processes;
use crate::handshake::loopback;
use crate::ipc::{Channel, map_sealed, read_sealed, seal};
use crate::steering::netlink::Netlink;
use crate::sys;
use crate::vault::{GroupDigests, MessageKey, RuleGeneration, Vault, VaultFiles};
use crate::words::Size;

/// What a judge may have here: [`of_both`] takes 64 MiB.
const JUDGE_OCTETS: u64 = 128 << 20;

/// Which process, and what it tries.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    #[arg(value_parser = ["worker", "signer", "helper", "judge"])]
    role: String,
    /// A file that only root may read.
    #[arg(long)]
    key: PathBuf,
    /// End by abort(3) instead.
    #[arg(long)]
    abort: bool,
}

/// What is printed. A trial maps to the error's number, or to null where it worked.
#[derive(Debug, Serialize)]
struct ProbeReport {
    identity: Identity,
    confinement: Confinement,
    forbidden: BTreeMap<&'static str, Option<i32>>,
    needed: BTreeMap<&'static str, Option<i32>>,
}

type Trial = (&'static str, io::Result<()>);

pub(crate) fn run(options: &Options) -> ExitCode {
    match tried(options) {
        Ok(report) => println!("{}", serde_json::to_string(&report).unwrap_or_default()),
        Err(error) => {
            eprintln!("{error:#}");
            return ExitCode::FAILURE;
        }
    }
    if options.abort {
        std::process::abort();
    }
    let _ = io::stdin().read_to_end(&mut Vec::new());
    ExitCode::SUCCESS
}

fn tried(options: &Options) -> anyhow::Result<ProbeReport> {
    let role = match options.role.as_str() {
        "worker" => Role::Worker,
        "helper" => Role::Helper,
        "judge" => Role::Judge,
        _ => Role::Signer,
    };
    let identity = identity(role, &Processes::default());
    let parent = std::os::unix::process::parent_id();
    // What the signer is given: descriptors that were open before.
    let (key, pair, memory) = (File::open(&options.key)?, Channel::pair()?, seal(b"a policy")?);
    let leaf = memory.try_clone()?;
    if role == Role::Judge {
        bound_memory(JUDGE_OCTETS)?;
    }
    let state = state_files()?;
    let confinement = confine(role, identity, &[80])?;
    let mut forbidden = files(&options.key);
    if role == Role::Signer {
        let cut = rustix::fs::ftruncate(&key, 0).map_err(io::Error::from);
        forbidden.push(("cut a file that was opened before", cut));
    }
    forbidden.extend(powers());
    if role != Role::Worker {
        let made = memfd_create("others", MemfdFlags::CLOEXEC).map(drop);
        forbidden.push(("memory for others", made.map_err(io::Error::from)));
    }
    if role == Role::Judge {
        let more = Rlimit { current: None, maximum: None };
        forbidden.push(("more memory", setrlimit(Resource::Data, more).map_err(io::Error::from)));
    }
    forbidden.extend(sockets(role));
    forbidden.extend(sys::attempts(parent).into_iter().map(|(name, done)| (name, done.map(drop))));
    let mut needed = of_both(&key);
    needed.push(("passed descriptors", passed(&pair, &key)));
    needed.push(("sealed memory", read_sealed(memory).map(drop).map_err(io::Error::other)));
    if role == Role::Worker {
        needed.extend(of_worker());
        needed.push(("the files of the state directory", kept(state)));
        needed.push(("memory for judges", seal(b"a leaf").map(drop).map_err(io::Error::other)));
    }
    if role == Role::Helper {
        needed.push(("a runtime and datagrams over loopback", datagrams()));
        needed.push(("a connection by an interface to port 80", connected()));
        needed.push(("questions about interfaces and rules", asked()));
    }
    if role == Role::Judge {
        let mapped = map_sealed(&leaf, 1 << 10).map_err(io::Error::other);
        let is_there = mapped.map(|octets| octets.starts_with(b"a policy"));
        needed.push((
            "a leaf in memory",
            is_there.and_then(|is| is.then_some(()).ok_or(io::ErrorKind::NotFound.into())),
        ));
        let time = Rlimit { current: Some(600), maximum: getrlimit(Resource::Cpu).maximum };
        needed.push(("a bound on its time", setrlimit(Resource::Cpu, time).map_err(io::Error::from)));
    }
    let table = |trials: Vec<Trial>| {
        trials
            .into_iter()
            .map(|(name, done)| (name, done.err().as_ref().map(number)))
            .collect::<BTreeMap<_, _>>()
    };
    Ok(ProbeReport { identity, confinement, forbidden: table(forbidden), needed: table(needed) })
}

/// Errors of other sources than the kernel have none, and are told on stderr.
fn number(error: &io::Error) -> i32 {
    error.raw_os_error().unwrap_or_else(|| {
        eprintln!("{error}");
        -1
    })
}

fn files(key: &Path) -> Vec<Trial> {
    vec![
        ("open /etc/passwd", File::open("/etc/passwd").map(drop)),
        ("open a private key", File::open(key).map(drop)),
        ("open /proc/self/mem", File::open("/proc/self/mem").map(drop)),
        ("list /root", std::fs::read_dir("/root").map(drop)),
        ("create a file", File::create(key.with_extension("new")).map(drop)),
        ("remove a file", std::fs::remove_file(key)),
        ("start a program", Command::new("/bin/true").spawn().map(drop)),
    ]
}

fn powers() -> Vec<Trial> {
    let all =
        CapabilitySet::NET_RAW | CapabilitySet::NET_ADMIN | CapabilitySet::SETUID | CapabilitySet::SYS_ADMIN;
    let sets = CapabilitySets { effective: all, permitted: all, inheritable: all };
    let (root, group) = (Uid::ROOT, Gid::ROOT);
    let core = Rlimit { current: Some(0), maximum: Some(0) };
    let done = |result: rustix::io::Result<()>| result.map_err(io::Error::from);
    // A process that does not exist: the kernel's own answer would be that.
    let cores =
        done(sched_getaffinity(None).and_then(|cores| sched_setaffinity(Pid::from_raw(i32::MAX), &cores)));
    vec![
        ("become root", done(set_thread_res_uid(root, root, root))),
        ("become root's group", done(set_thread_res_gid(group, group, group))),
        ("join a group", done(set_thread_groups(&[group]))),
        ("regain capabilities", done(set_capabilities(None, sets))),
        ("choose another's cores", cores),
        ("set a limit", done(setrlimit(Resource::Core, core))),
    ]
}

fn sockets(role: Role) -> Vec<Trial> {
    let socket = |domain: Domain, kind: Type, protocol: i32| {
        socket2::Socket::new(domain, kind, Some(protocol.into())).map(drop)
    };
    let all_packets = i32::from(3_u16.to_be());
    let pair = net::socketpair(net::AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None);
    let mut trials = vec![
        ("socket of packets", socket(Domain::PACKET, Type::RAW, all_packets)),
        ("raw socket", socket(Domain::IPV4, Type::RAW, 6)),
        ("raw socket of IPv6", socket(Domain::IPV6, Type::RAW, 6)),
        ("socket of ICMP", socket(Domain::IPV4, Type::DGRAM, 1)),
        ("socket of SCTP", socket(Domain::IPV4, Type::STREAM, 132)),
        ("Unix socket", socket(Domain::UNIX, Type::STREAM, 0)),
        ("vsock", socket(Domain::VSOCK, Type::STREAM, 0)),
        ("socket of the kernel's ciphers", socket(Domain::from(libc::AF_ALG), Type::SEQPACKET, 0)),
        ("pair of Unix datagrams", pair.map(drop).map_err(io::Error::from)),
    ];
    let netlink = |protocol| socket(Domain::from(libc::AF_NETLINK), Type::RAW, protocol);
    trials.push(("netlink of nftables", netlink(libc::NETLINK_NETFILTER)));
    if matches!(role, Role::Signer | Role::Judge) {
        trials.push(("socket of TCP", socket(Domain::IPV4, Type::STREAM, 6)));
        trials.push(("netlink of routes", netlink(libc::NETLINK_ROUTE)));
    }
    if role == Role::Helper {
        let tcp = || socket2::Socket::new(Domain::IPV4, Type::STREAM, None);
        trials.push(("listen", tcp().and_then(|socket| socket.listen(1))));
        trials.push(("a mark", tcp().and_then(|socket| socket.set_mark(1))));
        trials.push(("a client's address", tcp().and_then(|socket| socket.set_ip_transparent_v4(true))));
    } else {
        trials.push(("socket of UDP", socket(Domain::IPV4, Type::DGRAM, 0)));
    }
    trials
}

fn of_both(key: &File) -> Vec<Trial> {
    let named =
        thread::Builder::new().name("confined".to_owned()).spawn(|| thread::sleep(Duration::from_millis(1)));
    let joined = named.and_then(|thread| thread.join().map_err(|_| io::Error::other("the thread panicked")));
    let panicked = thread::Builder::new().spawn(fall).map(|thread| thread.join().is_err());
    let ended =
        panicked.and_then(|panicked| panicked.then_some(()).ok_or_else(|| io::Error::other("no panic")));
    let mut octets = [0; 8];
    let memory = vec![1_u8; 64 << 20];
    sys::give_memory_back();
    let _terminal = io::stderr().is_terminal();
    vec![
        ("threads", joined),
        ("a panic with its backtrace", ended),
        ("a key that was opened before", key.read_exact_at(&mut octets, 0)),
        ("memory", memory.contains(&1).then_some(()).ok_or_else(|| io::Error::other("none"))),
        ("a signature", signature()),
        (
            "reading limits",
            getrlimit(Resource::Nofile).current.map(drop).ok_or_else(|| io::Error::other("none")),
        ),
    ]
}

#[expect(clippy::panic, reason = "what this is for")]
fn fall() {
    panic!("a confined thread panics on purpose")
}

/// As a leaf is signed: P-256, by aws-lc.
fn signature() -> io::Result<()> {
    let wrong = |_| io::Error::other("aws-lc refuses");
    let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).map_err(wrong)?;
    let signature = key.sign(&SystemRandom::new(), b"a leaf").map_err(wrong)?;
    let public = UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, key.public_key().as_ref());
    public.verify(b"a leaf", signature.as_ref()).map_err(wrong)
}

fn passed((near, far): &(Channel, Channel), key: &File) -> io::Result<()> {
    near.send(&"a key", &[key.as_fd()]).map_err(io::Error::other)?;
    poll(&mut [PollFd::new(far, PollFlags::IN)], None)?;
    let (_, descriptors) = far.receive::<String>().map_err(io::Error::other)?;
    let passed = descriptors.into_iter().next().ok_or_else(|| io::Error::other("no descriptor"))?;
    File::from(passed).read_exact_at(&mut [0; 8], 0)
}

fn of_worker() -> Vec<Trial> {
    let affinity = sched_getaffinity(None).and_then(|cores| sched_setaffinity(None, &cores));
    vec![
        ("a runtime and TLS over loopback", conversation()),
        ("a client's address and a mark", transparent()),
        ("splice", spliced()),
        ("questions about interfaces and rules", asked()),
        ("a core of its own", affinity.map_err(io::Error::from)),
    ]
}

/// What the worker is given, here in memory.
fn state_files() -> io::Result<VaultFiles> {
    let file = || memfd_create("state", MemfdFlags::CLOEXEC).map(File::from);
    Ok(VaultFiles { memory: Some((file()?, "state".to_owned())), spool: Some(file()?) })
}

/// Remember a verdict and keep a copy, in the files.
fn kept(files: VaultFiles) -> io::Result<()> {
    let memory = files.memory.as_ref().map(|(file, _)| file.try_clone()).transpose()?;
    // Without a share of what may be held, every copy is in the file.
    let held = HeldOctets::new(Size(3));
    let vault = Vault::start(files, Size(1 << 20), Arc::clone(&held))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let copy =
        runtime.block_on(vault.spool.store(b"abc".to_vec(), held.lease())).map_err(io::Error::other)?;
    let octets = runtime.block_on(copy.load(0..3)).map_err(io::Error::other)?;
    let digests = GroupDigests::of(vault.memory.key(), &octets);
    let generation = RuleGeneration::of(&"rules", 1).map_err(io::Error::other)?;
    let key = MessageKey {
        server: b"s",
        account: b"a",
        mailbox: b"m",
        uid_validity: 1,
        uid: 1,
        utf8: false,
        section: b"",
    };
    vault.memory.remember(&key, generation, Arc::new(digests));
    // Written at the end.
    drop((copy, vault));
    let again = Vault::start(
        VaultFiles { memory: memory.map(|file| (file, "state".to_owned())), spool: None },
        Size(1),
        held,
    )?;
    while !again.memory.numbers().has_file {
        thread::sleep(Duration::from_millis(1));
    }
    let known = runtime.block_on(again.memory.lookup(&key, generation));
    let is_kept = octets.as_slice() == b"abc" && known.is_some_and(|known| known.length() == 3);
    is_kept.then_some(()).ok_or_else(|| io::Error::other("not kept"))
}

fn conversation() -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        tokio::time::sleep(Duration::from_millis(1)).await;
        let met = loopback::connect(TLS13_AES_128_GCM_SHA256).await;
        let (near, _far) = met.map_err(|cause| io::Error::other(format!("{cause:?}")))?;
        sys::tell_in_queue(&near.socket)?;
        match sys::set_tls_ulp(&near.socket) {
            // The kernel has no TLS, and says so itself.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            set => set,
        }
    })
}

fn datagrams() -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let far = tokio::net::UdpSocket::bind("127.0.0.1:0").await?;
        let near = tokio::net::UdpSocket::bind("127.0.0.1:0").await?;
        near.connect(far.local_addr()?).await?;
        near.send(b"asked").await?;
        let mut room = [0; 16];
        let count = tokio::time::timeout(Duration::from_secs(10), far.recv(&mut room)).await??;
        room.starts_with(b"asked").then_some(()).ok_or_else(|| io::Error::other(format!("{count} octets")))
    })
}

/// Nobody needs to listen there: a refusal is the far end's.
fn connected() -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let socket = tokio::net::TcpSocket::new_v4()?;
        socket.bind_device(Some(b"lo"))?;
        match socket.connect(std::net::SocketAddr::from(([127, 0, 0, 1], 80))).await {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(()),
            connected => connected.map(drop),
        }
    })
}

fn transparent() -> io::Result<()> {
    let socket =
        socket2::Socket::new(Domain::IPV4, Type::STREAM.nonblocking(), Some(socket2::Protocol::TCP))?;
    socket.set_mark(1)?;
    socket.set_ip_transparent_v4(true)?;
    socket.bind(&std::net::SocketAddr::from(([192, 0, 2, 1], 0)).into())?;
    socket.listen(1)?;
    SockRef::from(&socket).set_nonblocking(true)?;
    let six = socket2::Socket::new(Domain::IPV6, Type::STREAM, None)?;
    six.set_ip_transparent_v6(true)
}

fn spliced() -> io::Result<()> {
    let (from, source) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
    let (mut sink, to) = io::pipe()?;
    rustix::io::write(&source, b"mail")?;
    splice(&from, None, &to, None, 4, SpliceFlags::MOVE | SpliceFlags::NONBLOCK)?;
    sink.read_exact(&mut [0; 4])
}

fn asked() -> io::Result<()> {
    let mut netlink = Netlink::open()?;
    let loopback = net::netdevice::index_to_name(&netlink, 1)?;
    let mut all = RuleMessage::default();
    all.header.family = AddressFamily::Inet;
    let rules = netlink.dump(&RouteNetlinkMessage::GetRule(all))?;
    (loopback == "lo" && !rules.is_empty()).then_some(()).ok_or_else(|| io::Error::other("no answer"))
}
