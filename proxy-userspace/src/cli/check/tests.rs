use super::files::revocation_lists;
use super::*;
use crate::config::{Ocsp, Tls};
use crate::layer::offload::NoKernelTls;

const TEXT: &str = "[steering]\ningress = [\"lan0\"]\negress = [\"wan0\"]\nthreads = 4\n[certificates]\n\
                    authority = { cert = \"a.pem\", key = \"a.key\" }\n[limits]\nsessions = 5000\n";

fn write(root: &Path, name: &str, text: &str) {
    let path = root.join(name);
    std::fs::create_dir_all(path.parent().expect("parent")).expect("directory");
    std::fs::write(path, text).expect("file");
}

/// A machine that lacks nothing.
fn whole(root: &Path) -> Machine {
    for (name, text) in [
        ("dev/net/tun", ""),
        ("sys/class/net/lan0/operstate", "up\n"),
        ("sys/class/net/wan0/operstate", "up\n"),
        ("proc/sys/net/ipv4/ip_forward", "1\n"),
        ("proc/sys/net/ipv6/conf/all/forwarding", "1\n"),
        ("proc/sys/net/ipv4/tcp_migrate_req", "0\n"),
        ("proc/meminfo", "MemAvailable: 8388608 kB\n"),
    ] {
        write(root, name, text);
    }
    Machine {
        root: root.to_owned(),
        release: "6.1.0-13-amd64".to_owned(),
        capabilities: CAPABILITIES_NEEDED.iter().map(|(capability, _)| *capability).collect(),
        descriptors: Some(20_000),
        layers: OffloadTerms::default(),
    }
}

fn said(machine: &Machine) -> Vec<String> {
    let config = config::parse(TEXT, &machine.root.join("postern.toml")).expect("config");
    machine.examine(&config).iter().filter(|item| item.level != Level::Ok).map(Item::to_string).collect()
}

#[test]
fn a_whole_machine_has_nothing_to_correct() {
    let root = tempfile::tempdir().expect("directory");
    assert_eq!(said(&whole(root.path())), Vec::<String>::new());
}

#[test]
fn a_pattern_is_told_with_what_it_matches_now() {
    let root = tempfile::tempdir().expect("directory");
    let machine = whole(root.path());
    let said = |pattern: &str| {
        let config = TEXT.replace("\"lan0\"", &format!("\"{pattern}\""));
        let config = config::parse(&config, Path::new("/etc/postern/postern.toml")).expect("config");
        machine.interface("ingress", &config.steering.ingress[0]).to_string()
    };
    assert_eq!(said("ppp*"), "ok    ingress ppp*: matches no interface yet");
    write(root.path(), "sys/class/net/ppp1/operstate", "unknown\n");
    write(root.path(), "sys/class/net/ppp0/operstate", "down\n");
    assert_eq!(said("ppp*"), "ok    ingress ppp*: matches ppp0, ppp1");
    for number in 2..9 {
        write(root.path(), &format!("sys/class/net/ppp{number}/operstate"), "up\n");
    }
    assert_eq!(said("ppp*"), "ok    ingress ppp*: matches 9 interfaces");
}

#[test]
fn what_is_missing_is_named_with_its_remedy() {
    let root = tempfile::tempdir().expect("directory");
    let mut machine = whole(root.path());
    machine.release = "5.10.0-28-amd64".to_owned();
    machine.capabilities.retain(|held| *held != Capability::CAP_BPF && *held != Capability::CAP_SETUID);
    machine.descriptors = Some(1024);
    std::fs::remove_dir_all(root.path().join("sys/class/net/lan0")).expect("remove");
    std::fs::remove_file(root.path().join("dev/net/tun")).expect("remove");
    write(root.path(), "sys/class/net/wan0/operstate", "down\n");
    write(root.path(), "proc/sys/net/ipv4/ip_forward", "0\n");
    std::fs::remove_dir_all(root.path().join("proc/sys/net/ipv6")).expect("remove");
    let said = said(&machine);
    for (line, parts) in said.iter().zip([
        ["fail  kernel: 5.10.0-28-amd64", "install 6.1"],
        ["fail  capability CAP_BPF: not held", "AmbientCapabilities"],
        ["fail  capability CAP_SETUID: not held, gives worker and signer users", "AmbientCapabilities"],
        ["warn  ingress lan0: no such interface", "as soon as it appears"],
        ["warn  egress wan0: down", "ip link set wan0 up"],
        ["fail  /dev/net/tun: absent", "modprobe tun"],
        ["warn  net.ipv4.ip_forward: 0", "sysctl -w net.ipv4.ip_forward=1"],
        ["warn  net.ipv6.conf.all.forwarding: absent", "cannot be taken over"],
        ["warn  open descriptors: 1024, enough for 442 sessions", "LimitNOFILE=10140"],
        ["warn  limits: limits.sessions is 5000", "LimitNOFILE=10140"],
    ]) {
        assert!(parts.iter().all(|part| line.contains(part)), "{line:?} lacks one of {parts:?}");
    }
    assert_eq!(said.len(), 10, "{said:?}");
}

#[test]
fn memory_and_the_sessions_that_it_allows_are_shown_with_where_the_figure_comes_from() {
    let root = tempfile::tempdir().expect("directory");
    let machine = whole(root.path());
    let examined = |limits: &str| {
        let text = TEXT.replace("sessions = 5000", limits) + "[action]\ninspect = \"none\"\n";
        let config = config::parse(&text, &root.path().join("postern.toml")).expect("config");
        let items = machine.examine(&config);
        items.iter().map(Item::to_string).collect::<Vec<_>>().join("\n")
    };
    let said = examined("");
    assert!(said.contains("memory: 4 GiB for sessions (half of MemAvailable (8 GiB)), 2 MiB for"), "{said}");
    assert!(said.contains("ok    sessions: 9930, 1024 of one client"), "{said}");
    write(root.path(), "proc/self/cgroup", "0::/postern.service\n");
    write(root.path(), "sys/fs/cgroup/postern.service/memory.max", "1073741824\n");
    let said = examined("");
    assert!(said.contains("memory: 512 MiB for sessions (half of /sys/fs/cgroup/postern.service/"), "{said}");
    assert!(said.contains("ok    sessions: 2048, 256 of one client"), "{said}");
    let said = examined("memory = \"2 GiB\"");
    assert!(said.contains("memory: 2 GiB for sessions (limits.memory)"), "{said}");
    assert!(said.contains("warn  limits: limits.memory is 2 GiB, and this machine has 1 GiB left"), "{said}");
}

#[test]
fn whether_mail_is_judged_is_told_and_rules_that_do_nothing_are_a_warning() {
    let root = tempfile::tempdir().expect("directory");
    let machine = whole(root.path());
    let judging = |lines: &str| {
        let config =
            config::parse(&format!("{TEXT}{lines}"), &root.path().join("postern.toml")).expect("config");
        let items: Vec<_> = machine.examine(&config).iter().map(Item::to_string).collect();
        let mut told = items.into_iter().filter(|line| line.contains("judging: "));
        (told.next().expect("a line"), told.next())
    };
    let rules = "[action.content]\nnames = [\"*.exe\", \"*.scr\"]\ntypes = [\"executable\"]\n";
    for (lines, said) in [
        (
            "[action]\ninspect = \"none\"\n".to_owned(),
            "ok    judging: none, mail is relayed as it is (action.inspect)",
        ),
        (
            format!("[action]\ninspect = \"none\"\n{rules}"),
            "warn  judging: none, though action.content lists 2 patterns of file names, types executable \
             — action.inspect = \"full\" makes them count",
        ),
        (
            format!("held = \"2 GiB\"\n[action]\ninspect = \"full\"\n{rules}"),
            "ok    judging: all mail, for EICAR, 2 patterns of file names, types executable; messages of 64 MiB, \
             2 GiB at once, out of the memory",
        ),
        (
            String::new(),
            "ok    judging: all mail, for EICAR, 0 patterns of file names, types executable; messages of 64 MiB, 1 GiB \
             at once, out of the memory",
        ),
    ] {
        assert_eq!(judging(&lines), (said.to_owned(), None));
    }
}

#[test]
fn the_state_directory_is_looked_at_where_mail_is_judged_and_changed_by_nobody() {
    use std::os::unix::fs::PermissionsExt;
    let root = tempfile::tempdir().expect("directory");
    let machine = whole(root.path());
    let said = |lines: &str| {
        let text = format!("{TEXT}{lines}");
        let config = config::parse(&text, &root.path().join("postern.toml")).expect("config");
        let items = machine.examine(&config).into_iter();
        items.map(|item| item.to_string()).find(|line| line.contains("state directory"))
    };
    assert_eq!(said("[action]\ninspect = \"none\"\n"), None);
    let judged = "[action]\ninspect = \"full\"\n";
    let ready = said(&format!("spool = \"1 MiB\"\n{judged}")).expect("an item");
    assert!(ready.starts_with("ok    state directory: /var/lib/postern, "), "{ready}");
    let large = said(&format!("spool = \"65536 GiB\"\n{judged}")).expect("an item");
    assert!(large.starts_with("warn") && large.contains("lower limits.spool"), "{large}");
    let directory = root.path().join("var/lib/postern");
    assert!(!directory.exists());
    std::fs::create_dir_all(&directory).expect("directory");
    std::fs::set_permissions(&directory, PermissionsExt::from_mode(0o777)).expect("mode");
    let open = said(judged).expect("an item");
    assert!(
        open.starts_with("warn") && open.contains("others may write there") && open.contains("chmod 700"),
        "{open}"
    );
}

#[test]
fn kernel_tls_is_told_in_words_and_needed_only_where_it_was_asked_for() {
    let root = tempfile::tempdir().expect("directory");
    let mut machine = whole(root.path());
    let mut said = |offload| {
        machine.layers.mode = offload;
        machine.kernel_tls().to_string()
    };
    let able = said(Offload::Always);
    assert!(
        able.starts_with("ok    kernel TLS: used; this kernel has TLS 1.2 ") && able.contains("keys"),
        "{able}"
    );
    machine.layers.abilities.absent =
        Some(NoKernelTls { why: "no module".to_owned(), remedy: "`modprobe tls`".into() });
    for (offload, level, remedy) in [
        (Offload::Auto, "ok    kernel TLS: used where it pays", false),
        (Offload::Always, "fail  kernel TLS: none", true),
        (Offload::Never, "ok    kernel TLS: not used", false),
    ] {
        machine.layers.mode = offload;
        let said = machine.kernel_tls().to_string();
        assert!(said.starts_with(level) && said.contains("modprobe tls") == remedy, "{said}");
    }
}

#[test]
fn newer_kernels_are_newer() {
    let root = tempfile::tempdir().expect("directory");
    let mut machine = whole(root.path());
    for (release, level) in [
        ("6.1", Level::Ok),
        ("6.18.5+", Level::Ok),
        ("10.0.1", Level::Ok),
        ("6.0.19", Level::Fail),
        ("", Level::Fail),
    ] {
        machine.release = release.to_owned();
        assert_eq!(machine.kernel().level, level, "{release:?}");
    }
}

/// The lines about logins under these settings of `[action]`.
fn of_action(settings: &str) -> Vec<String> {
    let text = format!("{TEXT}[action]\n{settings}\n");
    let config = config::parse(&text, Path::new("/etc/postern/postern.toml")).expect("config");
    logins(&config.unnamed_action).iter().map(Item::to_string).collect()
}

#[test]
fn settings_under_which_nobody_can_log_in_are_warned_of() {
    assert_eq!(of_action(""), ["ok    logins: starttls inspect, cleartext refuse, implicit inspect"]);
    let remedy = " — action.starttls = \"inspect\" or action.cleartext = \"inspect\" lets them";
    let settings = "starttls strip, cleartext refuse, implicit";
    for (implicit, who) in
        [("inspect", "nobody can log in on ports of STARTTLS"), ("deny", "nobody can log in, on any port")]
    {
        let said = of_action(&format!("starttls = \"strip\"\nimplicit = \"{implicit}\""));
        assert_eq!(said, [format!("warn  logins: {who} ({settings} {implicit}){remedy}")]);
    }
    let open = "starttls = \"strip\"\ncleartext = \"inspect\"\nimplicit = \"deny\"";
    assert_eq!(of_action(open), ["ok    logins: starttls strip, cleartext inspect, implicit deny"]);
}

#[test]
fn a_policy_without_any_way_to_log_in_is_warned_of() {
    let none = "[action.capabilities]\nmechanisms = []\nlogin = false";
    let way = "list one in action.capabilities.mechanisms, or action.capabilities.login = true";
    let settings = |text: &str| format!("({text}, no mechanism and no LOGIN)");
    for (lines, who, shown) in [
        ("", "nobody can log in, on any port", "starttls inspect, cleartext refuse, implicit inspect"),
        (
            "implicit = \"allow\"\n",
            "nobody can log in on ports of STARTTLS",
            "starttls inspect, cleartext refuse, implicit allow",
        ),
        (
            "starttls = \"bypass\"\n",
            "nobody can log in under implicit TLS",
            "starttls bypass, cleartext refuse, implicit inspect",
        ),
        (
            "implicit = \"deny\"\n",
            "nobody can log in, on any port",
            "starttls inspect, cleartext refuse, implicit deny",
        ),
    ] {
        let said = of_action(&format!("{lines}{none}"));
        assert_eq!(said[0], format!("warn  logins: {who} {} — {way}", settings(shown)));
    }
    let said = of_action(&format!("starttls = \"bypass\"\nimplicit = \"allow\"\n{none}"));
    assert!(said[0].starts_with("ok    logins: "), "{said:?}");
    let said = of_action(&format!("starttls = \"strip\"\n{none}"));
    assert!(said[0].contains("action.starttls = \"inspect\"") && said[0].ends_with(way), "{said:?}");
    for lines in ["mechanisms = []", "login = false"] {
        let said = of_action(&format!("[action.capabilities]\n{lines}"));
        assert_eq!(said, ["ok    logins: starttls inspect, cleartext refuse, implicit inspect"]);
    }
    let said = of_action("[action.capabilities]\nmechanisms = [\"SCRAM-SHA-256\"]\nlogin = false");
    assert!(said[1].starts_with("warn  logins: only by SCRAM-SHA-256, which is hidden"), "{said:?}");
}

#[test]
fn tls_that_is_left_alone_is_warned_of_where_mail_is_to_be_judged() {
    let said = of_action("starttls = \"bypass\"\nimplicit = \"allow\"");
    assert_eq!(said.len(), 2, "{said:?}");
    assert!(said[1].starts_with("warn  TLS left alone: mail is not judged behind STARTTLS"), "{said:?}");
    assert!(said[1].contains("under implicit TLS (action.implicit)"), "{said:?}");
    assert_eq!(of_action("inspect = \"none\"\nimplicit = \"allow\"").len(), 1);
}

#[test]
fn servers_whose_mail_is_not_looked_at_are_named() {
    let said = |settings: &str| {
        let text = format!("{TEXT}[action]\n{settings}\n");
        let config = config::parse(&text, Path::new("/etc/postern/postern.toml")).expect("config");
        judging(&config.unnamed_action, Size(1 << 30), Size(1 << 26)).to_string()
    };
    assert!(said("").starts_with("ok    judging: all mail, for EICAR, "), "{}", said(""));
    let trusting = said("trust_uid_immutability = [\"192.0.2.7\", \"2001:db8::7\"]");
    let named = "all mail, but known mail of 192.0.2.7, 2001:db8::7 in samples only (action.trust_uid_immutability), for";
    assert!(trusting.contains(named), "{trusting}");
}

#[test]
fn a_profile_that_refuses_most_servers_is_warned_of_and_every_list_is_shown() {
    let dir = tempfile::tempdir().expect("directory");
    let said =
        |profile: &Tls| revocation_lists(profile).iter().map(Item::to_string).collect::<Vec<_>>().join("\n");
    assert_eq!(said(&Tls { ocsp: Ocsp::Lenient, ..Tls::default() }), "");
    let strict = said(&Tls { ocsp: Ocsp::Strict, ..Tls::default() });
    assert!(strict.starts_with("warn") && strict.contains("tls.crls"), "{strict}");
    let params = rcgen::CertificateParams::default();
    let issuer = rcgen::Issuer::new(params, rcgen::KeyPair::generate().expect("key"));
    let list = |days: std::ops::Range<i64>| {
        let at = |day| time::OffsetDateTime::now_utc() + time::Duration::days(day);
        let list = rcgen::CertificateRevocationListParams {
            this_update: at(days.start),
            next_update: at(days.end),
            crl_number: rcgen::SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: Vec::new(),
            key_identifier_method: rcgen::KeyIdMethod::Sha256,
        };
        list.signed_by(&issuer).expect("list").der().to_vec()
    };
    let file = dir.path().join("a.crl");
    let listed = Tls { ocsp: Ocsp::Strict, crls: vec![file.clone()], ..Tls::default() };
    std::fs::write(&file, list(-1..6)).expect("file");
    assert!(said(&listed).starts_with("ok    revoked certificates: 0 of "), "{}", said(&listed));
    std::fs::write(&file, list(-6..-1)).expect("file");
    let outdated = said(&listed);
    assert!(outdated.starts_with("warn") && outdated.contains("newest list"), "{outdated}");
    std::fs::write(&file, "no list").expect("file");
    assert!(said(&listed).starts_with("fail"), "{}", said(&listed));
}

#[test]
fn a_policy_for_all_servers_that_exempts_accounts_is_told() {
    let privacy = "[action.privacy]\nexempt_accounts = [\"boss@example.org\"]\n";
    for (text, is_told) in [
        (String::new(), false),
        (privacy.to_owned(), true),
        (format!("{privacy}[[policy]]\nname = \"office\"\n"), true),
        (format!("{privacy}[[policy]]\nname = \"office\"\nto = [\"198.51.100.7\"]\n"), false),
        (format!("[action]\ninspect = \"none\"\n{privacy}"), false),
    ] {
        let config = config::parse(&format!("{TEXT}{text}"), Path::new("/postern.toml")).expect("config");
        let items = exempt(&config);
        assert_eq!(items.len(), usize::from(is_told), "{text}");
        assert!(
            items.iter().all(|item| item.level == Level::Warn && item.to_string().contains("guard.tenant"))
        );
    }
}
