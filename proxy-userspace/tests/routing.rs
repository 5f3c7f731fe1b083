//! Routing, sysctls and egress against the real kernel, each test in a network namespace of its own. Needs root.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test stops where its helpers fail")]

mod forks;
mod namespace;

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use postern::accept::egress::{Egress, EgressFault, EgressTable, EgressTerms};
use postern::accept::filters_are_strict;
use postern::config::SteeringConfig;
use postern::steering::device::{Device, DeviceError};
use postern::steering::ports::PortPlan;
use postern::steering::routing::{self, Changes, PROTOCOL, RULE_PREFERENCE, RoutingError, TABLE, Wanted};
use postern::steering::sysctl::{self, Sysctls};
use postern::words::{ClientAddr, OriginalDst};

/// Runs a test in a fresh namespace with `lo` up and the ends of veth pairs `lan0`, `lan1`, `wan0`, `wan1`.
fn in_namespace(test: impl FnOnce() + Send + 'static) {
    let thread = std::thread::spawn(move || {
        namespace::enter_new();
        ip("link set lo up");
        for (name, network) in [("lan0", 1), ("lan1", 2), ("wan0", 3), ("wan1", 4)] {
            ip(&format!("link add {name} type veth peer name {name}-far"));
            ip(&format!("link set {name}-far up"));
            ip(&format!("link set {name} up"));
            ip(&format!("address add 10.0.{network}.1/24 dev {name}"));
            ip(&format!("address add fd00:{network}::1/64 dev {name} nodad"));
        }
        until_addresses_are_local();
        test();
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

/// The kernel adds the routes of IPv6 addresses later, from a queue that all namespaces share (`addrconf_dad_work`).
fn until_addresses_are_local() {
    let are_local = || {
        let routes = ip("-6 route show table local");
        (1..=4).all(|network| routes.contains(&format!("local fd00:{network}::1 ")))
    };
    let in_time = (0..2000).any(|_| {
        let done = are_local();
        if !done {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        done
    });
    assert!(in_time, "the addresses of the namespace never became local");
}

fn ip(arguments: &str) -> String {
    let ended = forks::output(Command::new("ip").args(arguments.split_whitespace()));
    let output = ended.expect("iproute2 is installed");
    assert!(output.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Settings with these ingresses, `wan0` as egress, and this `on_exit`.
fn settings(ingress: &[&str], on_exit: &str) -> SteeringConfig {
    let list = ingress.iter().map(|name| format!("\"{name}\"")).collect::<Vec<_>>().join(",");
    let text = format!(
        "[steering]\ningress = [{list}]\negress = [\"wan0\"]\non_exit = \"{on_exit}\"\n\
         [certificates]\nauthority = {{ cert = \"ca.pem\", key = \"ca.key\" }}\n"
    );
    postern::config::parse(&text, Path::new("postern.toml")).expect("a good config").steering
}

/// What a daemon does with its routing while it lives.
fn reconcile(settings: &SteeringConfig, device: Option<&Device>) -> Result<Changes, RoutingError> {
    reconcile_plan(settings, &PortPlan::steering_all(settings), device)
}

fn reconcile_plan(
    settings: &SteeringConfig,
    plan: &PortPlan,
    device: Option<&Device>,
) -> Result<Changes, RoutingError> {
    let device = device.map(Device::index);
    routing::reconcile(&Wanted { settings, plan, device, ports: true, rise: false })
}

/// All rules and the table's routes of both families, one a line.
fn kernel_state() -> Vec<String> {
    let mut lines = Vec::new();
    for family in ["-4", "-6"] {
        let rules = ip(&format!("{family} rule show"));
        lines.extend(rules.lines().map(|line| format!("{family} {}", words(line))));
        let mut show = Command::new("ip");
        let routes =
            forks::output(show.args([family, "route", "show", "table", &TABLE.to_string()])).unwrap();
        let routes = String::from_utf8(routes.stdout).unwrap();
        lines.extend(routes.lines().map(|line| format!("{family} route {}", words(line))));
    }
    lines.sort();
    lines
}

fn words(line: &str) -> String {
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn rule(family: &str, interface: &str, port: u16) -> String {
    format!(
        "{family} {RULE_PREFERENCE}: from all iif {interface} ipproto tcp dport {port} lookup {TABLE} proto {PROTOCOL}"
    )
}

fn mark_rule(family: &str, interface: &str) -> String {
    format!(
        "{family} {RULE_PREFERENCE}: from all fwmark 0x10000000/0x10000000 iif {interface} lookup {TABLE} proto {PROTOCOL}"
    )
}

#[test]
fn what_is_wanted_is_added_once_and_clearing_leaves_nothing() {
    in_namespace(|| {
        let before = kernel_state();
        let device = Device::open().unwrap();
        let settings = settings(&["lan0", "lan1"], "open");
        let changes = reconcile(&settings, Some(&device)).unwrap();
        assert_eq!((changes.added.len(), changes.removed.len()), (16, 0), "{changes:?}");
        let mut added = kernel_state();
        added.retain(|line| !before.contains(line));
        let mut wanted = vec![
            format!("-4 route local default dev postern0 proto {PROTOCOL} scope host metric 1"),
            format!("-6 route local default dev postern0 proto {PROTOCOL} metric 1 pref medium"),
        ];
        for family in ["-4", "-6"] {
            for interface in ["lan0", "lan1"] {
                wanted.extend([143, 993].map(|port| rule(family, interface, port)));
            }
            wanted.extend(["lan0", "lan1", "wan0"].map(|interface| mark_rule(family, interface)));
        }
        wanted.sort();
        assert_eq!(added, wanted);
        assert_eq!(
            reconcile(&settings, Some(&device)).unwrap(),
            Changes::default(),
            "nothing is added twice"
        );
        assert_eq!(routing::clear().unwrap().len(), 16);
        assert_eq!(kernel_state(), before);
        assert!(routing::clear().unwrap().is_empty(), "what is gone already is fine");
    });
}

/// The route of mail from `lan0` now: `local`, or the interface that it is forwarded to.
fn way_of_mail(family: &str) -> String {
    let [from, to] = match family {
        "-4" => ["10.0.1.2", "192.0.2.1"],
        _ => ["fd00:1::2", "2001:db8::1"],
    };
    ip(&format!("route get {to} from {from} iif lan0 ipproto tcp sport 40000 dport 993"))
}

/// The rules of others, in order.
fn order_of_others(family: &str) -> Vec<String> {
    let rules = ip(&format!("{family} rule show"));
    let others = rules.lines().filter(|line| !line.contains(&TABLE.to_string()));
    others.filter_map(|line| Some(words(line.split_once(':')?.1))).collect()
}

/// What wg-quick runs for a peer with all addresses, in its order.
fn wg_quick(family: &str) {
    ip(&format!("{family} rule add not fwmark 51820 table 51820"));
    ip(&format!("{family} rule add table main suppress_prefixlength 0"));
}

#[test]
fn rules_that_others_add_without_a_preference_stay_behind_and_keep_their_order() {
    in_namespace(|| {
        ip("route add default via 10.0.3.9 dev wan0");
        ip("-6 route add default via fd00:3::9 dev wan0");
        sysctl_of("ipv4/ip_forward", "1");
        sysctl_of("ipv6/conf/all/forwarding", "1");
        let families = ["-4", "-6"];
        for family in families {
            ip(&format!("{family} route add default dev wan1 table 51820"));
            wg_quick(family);
        }
        let wanted: Vec<_> = families.map(order_of_others).into();
        let device = Device::open().unwrap();
        let settings = settings(&["lan0"], "open");
        assert_eq!(reconcile(&settings, Some(&device)).unwrap().overtaken, Vec::<String>::new());
        for family in families {
            ip(&format!("{family} rule delete not fwmark 51820 table 51820"));
            ip(&format!("{family} rule delete table main suppress_prefixlength 0"));
            wg_quick(family);
            assert!(way_of_mail(family).contains("dev wan1"), "such rules come in front");
        }
        let changes = reconcile(&settings, Some(&device)).unwrap();
        assert_eq!((changes.added.len(), changes.removed.len()), (0, 0), "{changes:?}");
        assert_eq!(changes.moved, ["IPv4 rules to preference 140", "IPv6 rules to preference 140"]);
        let said = "ip -6 rule pref 142 not fwmark 0xca6c lookup 51820";
        assert!(changes.overtaken.iter().any(|rule| rule == said), "{changes:?}");
        for (family, wanted) in families.into_iter().zip(&wanted) {
            assert!(way_of_mail(family).starts_with("local "), "{}", ip(&format!("{family} rule")));
            assert_eq!(&order_of_others(family), wanted);
        }
        assert_eq!(reconcile(&settings, Some(&device)).unwrap(), Changes::default(), "not moved twice");
        for family in families {
            ip(&format!("{family} rule delete not fwmark 51820 table 51820"));
            ip(&format!("{family} rule delete table main suppress_prefixlength 0"));
        }
        let plan = PortPlan::steering_all(&settings);
        let device = Some(device.index());
        let risen = Wanted { settings: &settings, plan: &plan, device, ports: true, rise: true };
        let changes = routing::reconcile(&risen).unwrap();
        assert_eq!(changes.moved, ["IPv4 rules to preference 143", "IPv6 rules to preference 143"]);
        assert_eq!(routing::clear().unwrap().len(), 10);
    });
}

#[test]
fn a_rule_that_nothing_can_stand_before_is_named_and_so_is_the_remedy() {
    in_namespace(|| {
        let device = Device::open().unwrap();
        let settings = settings(&["lan0"], "open");
        ip("rule add pref 1 iif lan0 lookup main");
        let changes = reconcile(&settings, Some(&device)).unwrap();
        assert_eq!(changes.in_front, ["ip -4 rule pref 1 iif lan0 lookup main"]);
        let again = reconcile(&settings, Some(&device)).unwrap();
        assert_eq!((again.in_front.len(), again.moved.len()), (1, 0), "nothing is moved in vain: {again:?}");
        ip("rule delete pref 1");
        ip("rule add pref 1 iif lan0 lookup main");
        let behind = reconcile(&settings, Some(&device)).unwrap();
        assert_eq!(behind.in_front, Vec::<String>::new(), "the later one of a preference stands behind");
        routing::clear().unwrap();
    });
}

#[test]
fn only_mail_from_the_ingress_is_made_local() {
    in_namespace(|| {
        ip("route add default via 10.0.3.9 dev wan0");
        ip("-6 route add default via fd00:3::9 dev wan0");
        for file in ["net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"] {
            std::fs::write(Path::new("/proc/sys").join(file), "1").unwrap();
        }
        let device = Device::open().unwrap();
        reconcile(&settings(&["lan0"], "open"), Some(&device)).unwrap();
        let lookup = |from: &str, interface: &str, to: &str, port: u16| {
            ip(&format!("route get {to} from {from} iif {interface} ipproto tcp sport 40000 dport {port}"))
        };
        for port in [143, 993] {
            assert!(lookup("10.0.1.2", "lan0", "192.0.2.1", port).starts_with("local "), "{port}");
            assert!(lookup("fd00:1::2", "lan0", "2001:db8::1", port).starts_with("local "), "{port}");
            assert!(lookup("10.0.2.2", "lan1", "192.0.2.1", port).contains("dev wan0"), "{port}");
        }
        assert!(lookup("10.0.1.2", "lan0", "192.0.2.1", 443).contains("dev wan0"));
        assert!(lookup("fd00:1::2", "lan0", "2001:db8::1", 443).contains("dev wan0"));
        routing::clear().unwrap();
        assert!(lookup("10.0.1.2", "lan0", "192.0.2.1", 143).contains("dev wan0"));
    });
}

/// What the kernel says to a client's packet for this port, by `ip route get`.
fn verdict(family: &str, interface: &str, port: u16) -> String {
    let [from, to] = match family {
        "-4" => ["10.0.1.2", "192.0.2.1"],
        _ => ["fd00:1::2", "2001:db8::1"],
    };
    let arguments =
        format!("route get {to} from {from} iif {interface} ipproto tcp sport 40000 dport {port}");
    let asked = forks::output(Command::new("ip").args(arguments.split(' '))).unwrap();
    String::from_utf8([asked.stdout, asked.stderr].concat()).unwrap()
}

#[test]
fn a_port_that_is_not_admitted_is_prohibited_on_its_ingress_until_it_is_admitted() {
    in_namespace(|| {
        ip("route add default via 10.0.3.9 dev wan0");
        ip("-6 route add default via fd00:3::9 dev wan0");
        sysctl_of("ipv4/ip_forward", "1");
        sysctl_of("ipv6/conf/all/forwarding", "1");
        let before = kernel_state();
        let device = Device::open().unwrap();
        let settings = settings(&["lan0", "lan1"], "open");
        let plan = PortPlan::admitting(&settings, |ingress, port| ingress.as_str() != "lan0" || port == 993);
        let changes = reconcile_plan(&settings, &plan, Some(&device)).unwrap();
        assert_eq!(changes.added.len(), 16, "{changes:?}");
        for family in ["-4", "-6"] {
            let said =
                format!("ip {family} rule pref 143 iif lan0 ipproto tcp dport 143 prohibit protocol 143");
            assert!(changes.added.contains(&said), "{changes:?}");
            let shown = words(&ip(&format!("{family} rule show")));
            let shown_rule = "from all iif lan0 ipproto tcp dport 143 prohibit proto 143";
            assert!(shown.contains(shown_rule), "{shown}");
            assert!(verdict(family, "lan0", 143).contains("ermission denied"), "EACCES: prohibited");
            assert!(verdict(family, "lan0", 993).starts_with("local "));
            assert!(verdict(family, "lan0", 25).contains("dev wan0"));
        }
        assert!(routing::installed().unwrap().rules.iter().any(|rule| rule.contains(" prohibit ")));
        assert_eq!(reconcile_plan(&settings, &plan, Some(&device)).unwrap(), Changes::default());
        // While new connections pass, what is refused is refused.
        let passing = Wanted { ports: false, ..wanted(&settings, &plan, &device) };
        let changes = routing::reconcile(&passing).unwrap();
        assert_eq!((changes.added.len(), changes.removed.len()), (0, 6), "{changes:?}");
        assert!(verdict("-4", "lan0", 143).contains("ermission denied"));
        assert!(verdict("-4", "lan0", 993).contains("dev wan0"));
        reconcile_plan(&settings, &plan, Some(&device)).unwrap();
        // Somebody flushes one.
        ip("rule delete iif lan0 ipproto tcp dport 143 prohibit");
        let changes = reconcile_plan(&settings, &plan, Some(&device)).unwrap();
        assert_eq!(
            changes.added,
            ["ip -4 rule pref 143 iif lan0 ipproto tcp dport 143 prohibit protocol 143"]
        );
        let changes = reconcile(&settings, Some(&device)).unwrap();
        assert_eq!((changes.added.len(), changes.removed.len()), (2, 2), "{changes:?}");
        assert!(verdict("-6", "lan0", 143).starts_with("local "));
        reconcile_plan(&settings, &plan, Some(&device)).unwrap();
        routing::clear().unwrap();
        forks::close(device);
        assert_eq!(kernel_state(), before);
    });
}

#[test]
fn what_a_pattern_matches_has_rules_while_it_exists_and_they_are_nobodys_repair() {
    in_namespace(|| {
        let settings = settings(&["wg*", "wg7"], "open");
        let device = Device::open().unwrap();
        let changes = reconcile(&settings, Some(&device)).unwrap();
        // The routes, and the rules of what is named: wg7 and wan0.
        assert_eq!((changes.added.len(), changes.joined.len()), (10, 0), "{changes:?}");
        for name in ["wg0", "wg7", "wh0"] {
            ip(&format!("link add {name} type veth peer name far-{name}"));
        }
        let changes = reconcile(&settings, Some(&device)).unwrap();
        assert_eq!((changes.added.len(), changes.joined), (0, vec!["wg0".to_owned()]));
        let shown = kernel_state().concat();
        assert!(shown.contains("iif wg0 ipproto tcp dport 143 lookup 143993"), "{shown}");
        assert!(!shown.contains("wh0") && !shown.contains("wg*"), "{shown}");
        assert_eq!(reconcile(&settings, Some(&device)).unwrap(), Changes::default());
        ip("link delete wg0");
        assert_eq!(reconcile(&settings, Some(&device)).unwrap(), Changes::default());
        let held = routing::installed().unwrap();
        assert!(held.rules.iter().all(|rule| !rule.contains("wg0")), "{held:?}");
        // A name stays known while its interface is away.
        ip("link delete wg7");
        assert_eq!(reconcile(&settings, Some(&device)).unwrap(), Changes::default());
        assert!(routing::installed().unwrap().rules.iter().any(|rule| rule.contains("wg7")));
        routing::clear().unwrap();
    });
}

fn wanted<'a>(settings: &'a SteeringConfig, plan: &'a PortPlan, device: &Device) -> Wanted<'a> {
    Wanted { settings, plan, device: Some(device.index()), ports: true, rise: false }
}

#[test]
fn rules_of_others_for_a_port_that_is_refused_do_not_go_before() {
    in_namespace(|| {
        let device = Device::open().unwrap();
        let settings = settings(&["lan0"], "open");
        let plan = PortPlan::admitting(&settings, |_, port| port == 993);
        reconcile_plan(&settings, &plan, Some(&device)).unwrap();
        ip("rule add iif lan0 ipproto tcp dport 143 lookup main");
        let changes = reconcile_plan(&settings, &plan, Some(&device)).unwrap();
        assert_eq!(changes.overtaken.len(), 1, "{changes:?}");
        ip("rule add iif lan0 ipproto tcp dport 144 lookup main");
        assert_eq!(reconcile_plan(&settings, &plan, Some(&device)).unwrap(), Changes::default());
        routing::clear().unwrap();
    });
}

#[test]
fn the_kernel_withdraws_the_route_with_the_device_and_closed_has_a_blackhole_behind_it() {
    for (on_exit, local) in [("open", "wan0"), ("closed", "blackhole")] {
        in_namespace(move || {
            ip("route add default via 10.0.3.9 dev wan0");
            ip("-6 route add default via fd00:3::9 dev wan0");
            sysctl_of("ipv4/ip_forward", "1");
            sysctl_of("ipv6/conf/all/forwarding", "1");
            let device = Device::open().unwrap();
            reconcile(&settings(&["lan0"], on_exit), Some(&device)).unwrap();
            assert!(routing::installed().unwrap().local);
            forks::close(device);
            let held = routing::installed().unwrap();
            assert_eq!((held.local, held.blackhole), (false, on_exit == "closed"), "{held:?}");
            for (from, to) in [("10.0.1.2", "192.0.2.1"), ("fd00:1::2", "2001:db8::1")] {
                let arguments =
                    format!("route get {to} from {from} iif lan0 ipproto tcp sport 40000 dport 143");
                let asked = forks::output(Command::new("ip").args(arguments.split(' '))).unwrap();
                let said = [asked.stdout, asked.stderr].concat();
                let said = String::from_utf8(said).unwrap();
                // A blackhole answers EINVAL.
                let wanted = if local == "wan0" { "dev wan0" } else { "Invalid argument" };
                assert!(said.contains(wanted), "{on_exit}: {said}");
            }
            // What a start does: the route is back before anything else changes.
            let device = Device::open().unwrap();
            let changes = reconcile(&settings(&["lan0"], on_exit), Some(&device)).unwrap();
            assert_eq!((changes.added.len(), changes.removed.len()), (2, 0), "{changes:?}");
        });
    }
}

#[test]
fn what_is_of_others_stays_and_what_a_predecessor_wanted_otherwise_goes() {
    in_namespace(|| {
        ip(&format!(
            "rule add pref {RULE_PREFERENCE} iif lan1 ipproto tcp dport 143 lookup {TABLE} protocol static"
        ));
        ip(&format!("-6 rule add pref {RULE_PREFERENCE} iif lan1 lookup {TABLE} protocol static"));
        ip(&format!("rule add pref 900 iif lan1 lookup main protocol {PROTOCOL}"));
        ip(&format!("route add blackhole 192.0.2.0/24 table {TABLE} proto static"));
        let before = kernel_state();
        reconcile(&settings(&["lan0"], "closed"), None).unwrap();
        let changes = reconcile(&settings(&["wan1"], "open"), None).unwrap();
        assert_eq!((changes.added.len(), changes.removed.len()), (6, 8), "{changes:?}");
        routing::clear().unwrap();
        assert_eq!(kernel_state(), before);
    });
}

#[test]
fn what_stands_in_the_way_is_named() {
    in_namespace(|| {
        ip(&format!("route add local default dev lo metric 1 table {TABLE} proto static"));
        let device = Device::open().unwrap();
        let error = reconcile(&settings(&["lan0"], "open"), Some(&device)).unwrap_err();
        assert!(matches!(&error, RoutingError::Occupied { .. }), "{error}");
        let said = error.to_string();
        assert!(said.contains("ip -4 route local default dev postern0 metric 1"), "{said}");
    });
}

#[test]
fn a_device_of_that_name_that_others_hold_is_refused_with_the_remedy() {
    in_namespace(|| {
        ip("link add postern0 type veth peer name other");
        let error = Device::open().unwrap_err();
        assert!(matches!(error, DeviceError::Taken), "{error}");
        assert!(error.to_string().contains("ip link delete postern0"), "{error}");
        ip("link delete postern0");
        let _first = Device::open().unwrap();
        let error = Device::open().unwrap_err();
        assert!(matches!(error, DeviceError::Taken), "{error}");
    });
}

#[test]
fn mail_is_made_local_whatever_became_of_loopback_and_of_ipv6_by_default() {
    in_namespace(|| {
        sysctl_of("ipv6/conf/default/disable_ipv6", "1");
        sysctl_of("ipv6/conf/lo/disable_ipv6", "1");
        ip("link set lo down");
        let device = Device::open().unwrap();
        reconcile(&settings(&["lan0"], "open"), Some(&device)).unwrap();
        let held = routing::installed().unwrap();
        assert_eq!(held.routes.len(), 2, "{held:?}");
    });
}

#[test]
fn status_shows_what_the_kernel_holds_and_a_rule_survives_its_interface() {
    in_namespace(|| {
        let settings = settings(&["lan0"], "closed");
        let device = Device::open().unwrap();
        reconcile(&settings, Some(&device)).unwrap();
        let held = routing::installed().unwrap();
        assert_eq!((held.rules.len(), held.routes.len()), (8, 4), "{held:?}");
        for line in [
            "ip -4 route local default dev postern0 metric 1 table 143993 protocol 143",
            "ip -6 route blackhole default metric 2147483647 table 143993 protocol 143",
        ] {
            assert!(held.routes.iter().any(|shown| shown == line), "{held:?}");
        }
        let old = routing::interface_index(&settings.ingress[0]).unwrap();
        ip("link delete lan0");
        assert_eq!(routing::interface_index(&settings.ingress[0]).unwrap(), None);
        let held = routing::installed().unwrap();
        assert_eq!(held.rules.iter().filter(|line| line.ends_with("[detached]")).count(), 6, "{held:?}");
        ip("link add lan0 type veth peer name lan0-far");
        assert_ne!(routing::interface_index(&settings.ingress[0]).unwrap(), old);
        let held = routing::installed().unwrap();
        assert!(!held.rules.concat().contains("[detached]"), "{held:?}");
        assert_eq!(reconcile(&settings, Some(&device)).unwrap(), Changes::default());
    });
}

#[test]
fn sysctls_are_given_back_unless_somebody_else_changed_them() {
    in_namespace(|| {
        const MIGRATE: &str = "net.ipv4.tcp_migrate_req";
        let file = "/proc/sys/net/ipv4/tcp_migrate_req";
        let directory = tempfile::tempdir().unwrap();
        let memory = directory.path().join("sysctls");
        std::fs::write(file, "0").unwrap();
        drop(Sysctls::apply(&memory).unwrap());
        assert_eq!(sysctl::read(MIGRATE).unwrap(), "0");
        let mut sysctls = Sysctls::apply(&memory).unwrap();
        assert_eq!(sysctl::read(MIGRATE).unwrap(), "1");
        sysctls.restore().unwrap();
        std::fs::write(file, "1").unwrap();
        drop(sysctls);
        assert_eq!(sysctl::read(MIGRATE).unwrap(), "1", "restored once only");
        drop(Sysctls::apply(&memory).unwrap());
        assert_eq!(sysctl::read(MIGRATE).unwrap(), "1", "it was not Postern that set it");
        std::fs::write(file, "0").unwrap();
        std::mem::forget(Sysctls::apply(&memory).unwrap());
        assert_eq!(sysctl::read(MIGRATE).unwrap(), "1", "killed");
        drop(Sysctls::apply(&memory).unwrap());
        assert_eq!(sysctl::read(MIGRATE).unwrap(), "0", "its successor gives back what it found");
        assert!(!memory.exists());
        assert!(sysctl::read("net.ipv4.no_such").unwrap_err().to_string().contains("net.ipv4.no_such"));
    });
}

/// `[steering]` with `lan0` and `lan1` as ingress, this egress, and further lines.
fn steering(egress: &str, further: &str) -> SteeringConfig {
    let text = format!(
        "[steering]\ningress = [\"lan0\", \"lan1\"]\negress = [\"{egress}\"]\n{further}\n\
         [certificates]\nauthority = {{ cert = \"ca.pem\", key = \"ca.key\" }}\n"
    );
    postern::config::parse(&text, Path::new("postern.toml")).expect("a good config").steering
}

/// The table with what decides.
struct Table {
    table: EgressTable,
    steering: SteeringConfig,
    strict: bool,
}

impl Table {
    fn new(steering: &SteeringConfig) -> Self {
        let table = EgressTable::new().unwrap();
        Self { table, steering: steering.clone(), strict: filters_are_strict() }
    }
}

/// Asks for a client behind `lan0`, in the destination's family.
fn route(table: &mut Table, ingress: &str, destination: &str) -> Result<Egress, EgressFault> {
    let destination = SocketAddr::new(destination.parse().unwrap(), 993);
    let client = if destination.ip().to_canonical().is_ipv4() { "10.0.1.7" } else { "fd00:1::7" };
    let client = ClientAddr(SocketAddr::new(client.parse().unwrap(), 40_000));
    let name = settings(&[ingress], "open").ingress.remove(0);
    let Table { table, steering, strict } = table;
    let terms = EgressTerms { steering, strict_reverse_path: *strict };
    table.route(terms, &name, client, OriginalDst(destination))
}

/// The interface, or the fault's token.
fn egress_from(table: &mut Table, ingress: &str, destination: &str) -> String {
    match route(table, ingress, destination) {
        Ok(egress) => {
            assert_eq!(Some(egress.index), routing::interface_index(&egress.interface).unwrap());
            egress.interface.as_str().to_owned()
        }
        Err(fault) => fault.reason().to_owned(),
    }
}

fn egress_of(table: &mut Table, destination: &str) -> String {
    egress_from(table, "lan0", destination)
}

const SOURCES: [&str; 2] = ["source = \"gateway\"", "source = \"client\""];

fn sysctl_of(file: &str, value: &str) {
    std::fs::write(Path::new("/proc/sys/net").join(file), value).unwrap();
}

#[test]
fn destinations_leave_by_a_configured_egress_or_are_refused_with_the_reason() {
    // Forwarding and reverse-path filters decide about packets of others, never about the answer.
    for (forward, filter) in [("1", "0"), ("1", "1"), ("0", "0")] {
        for source in SOURCES {
            in_namespace(move || {
                sysctl_of("ipv4/ip_forward", forward);
                sysctl_of("ipv6/conf/all/forwarding", forward);
                sysctl_of("ipv4/conf/all/rp_filter", filter);
                destinations(&mut Table::new(&steering("wan0", source)));
            });
        }
    }
}

fn destinations(table: &mut Table) {
    for (kind, network) in [("blackhole", 1), ("unreachable", 2), ("prohibit", 3)] {
        ip(&format!("route add {kind} 198.51.{network}.0/24"));
        ip(&format!("-6 route add {kind} 2001:db8:{network}::/48"));
    }
    for (destination, wanted) in [
        ("10.0.3.7", "wan0"),
        ("fd00:3::7", "wan0"),
        ("::ffff:10.0.3.7", "wan0"),
        ("10.0.4.7", "egress_not_configured"),
        ("fd00:4::7", "egress_not_configured"),
        ("10.0.1.7", "egress_not_configured"),
        ("10.0.3.1", "egress_local"),
        ("10.0.1.1", "egress_local"),
        ("fd00:3::1", "egress_local"),
        ("127.0.0.1", "egress_local"),
        ("::1", "egress_local"),
        ("10.0.3.255", "egress_local"),
        ("192.0.2.1", "egress_no_route"),
        ("2001:db8:9::1", "egress_no_route"),
        ("198.51.1.1", "egress_blackhole"),
        ("2001:db8:1::1", "egress_blackhole"),
        ("198.51.2.1", "egress_unreachable"),
        ("2001:db8:2::1", "egress_unreachable"),
        ("198.51.3.1", "egress_prohibited"),
        ("2001:db8:3::1", "egress_prohibited"),
    ] {
        assert_eq!(egress_of(table, destination), wanted, "{destination}");
    }
}

#[test]
fn a_refusal_names_destination_interface_and_remedy() {
    in_namespace(|| {
        let mut table = Table::new(&steering("wan0", ""));
        let fault = route(&mut table, "lan0", "10.0.4.7").unwrap_err();
        assert!(matches!(&fault, EgressFault::NotConfigured { interface, .. } if interface == "wan1"));
        let text = fault.to_string();
        assert!(text.contains("10.0.4.7") && text.contains("add \"wan1\" to steering.egress"), "{text}");
        let hairpin = route(&mut table, "lan0", "10.0.2.7").unwrap_err().to_string();
        assert!(hairpin.contains("\"lan1\"") && hairpin.contains("cannot be both"), "{hairpin}");
        assert!(!hairpin.contains("add "), "{hairpin}");
    });
}

#[test]
fn an_ingress_reaches_what_its_entries_allow_and_an_unnamed_one_everything() {
    in_namespace(|| {
        let reach = "[[steering.reach]]\ningress = [\"lan1\"]\nnetworks = [\"10.0.3.0/24\", \"fd00:3::/64\"]\n\
                     except = [\"10.0.3.128/25\"]\n";
        let mut table = Table::new(&steering("wan0", reach));
        ip("route add default via 10.0.3.9 dev wan0");
        for destination in ["10.0.3.7", "10.0.3.200", "192.0.2.1"] {
            assert_eq!(egress_from(&mut table, "lan0", destination), "wan0", "{destination}");
        }
        for (destination, wanted) in [
            ("10.0.3.7", "wan0"),
            ("::ffff:10.0.3.7", "wan0"),
            ("fd00:3::7", "wan0"),
            ("10.0.3.200", "egress_not_allowed"),
            ("::ffff:10.0.3.200", "egress_not_allowed"),
            ("192.0.2.1", "egress_not_allowed"),
            ("10.0.4.7", "egress_not_configured"),
        ] {
            assert_eq!(egress_from(&mut table, "lan1", destination), wanted, "{destination}");
        }
        let text = route(&mut table, "lan1", "192.0.2.1").unwrap_err().to_string();
        for part in ["\"lan1\"", "192.0.2.1", "\"wan0\"", "[[steering.reach]]"] {
            assert!(text.contains(part), "{text:?} lacks {part:?}");
        }
    });
}

#[test]
fn rules_by_mark_and_rules_by_the_clients_address_decide_as_they_will_for_the_connection() {
    in_namespace(|| {
        for (family, next, client) in [("-4", "10.0.4.9", "10.0.1.0/24"), ("-6", "fd00:4::9", "fd00:1::/64")]
        {
            ip(&format!("{family} route add default via {next} dev wan1 table 500"));
            ip(&format!("{family} rule add pref 500 from {client} lookup 500"));
        }
        ip("route add default via 10.0.3.9 dev wan0");
        ip("-6 route add default via fd00:3::9 dev wan0");
        sysctl_of("ipv4/ip_forward", "1");
        let [gateway, client] = SOURCES.map(|source| steering("wan0", source));
        for destination in ["192.0.2.1", "2001:db8::1"] {
            let asked = |steering| egress_of(&mut Table::new(steering), destination);
            assert_eq!(asked(&gateway), "wan0", "{destination}");
            assert_eq!(asked(&client), "egress_not_configured", "{destination}");
            sysctl_of("ipv4/conf/all/rp_filter", "1");
            assert_ne!(asked(&client), "wan0", "{destination}: what cannot be told is refused");
            sysctl_of("ipv4/conf/all/rp_filter", "0");
        }
        sysctl_of("ipv4/conf/all/rp_filter", "1");
        let fault = route(&mut Table::new(&client), "lan0", "192.0.2.1").unwrap_err();
        assert!(fault.to_string().contains("net.ipv4.conf.all.rp_filter=2"), "{fault}");
        ip("rule add pref 400 fwmark 0x20000000/0x20000000 lookup 500");
        ip("-6 rule add pref 400 fwmark 0x20000000/0x20000000 lookup 500");
        for destination in ["192.0.2.1", "2001:db8::1"] {
            let asked = egress_of(&mut Table::new(&gateway), destination);
            assert_eq!(asked, "egress_not_configured", "{destination}");
        }
    });
}

#[test]
fn an_egress_that_is_made_again_is_recognised_and_policy_rules_by_port_count() {
    in_namespace(|| {
        ip("rule add pref 500 ipproto tcp dport 993 lookup 500");
        ip("route add default dev wan1 table 500");
        let mut table = Table::new(&steering("wan1", ""));
        assert_eq!(egress_of(&mut table, "192.0.2.1"), "wan1");
        ip("link delete wan1");
        assert_eq!(egress_of(&mut table, "192.0.2.1"), "egress_no_route");
        ip("link add wan1 type veth peer name wan1-far");
        ip("link set wan1 up");
        ip("route add default dev wan1 table 500");
        assert_eq!(egress_of(&mut table, "192.0.2.1"), "wan1");
        let device = Device::open().unwrap();
        reconcile(&settings(&["lan0"], "open"), Some(&device)).unwrap();
        assert_eq!(
            egress_of(&mut table, "192.0.2.1"),
            "wan1",
            "Postern's own rules do not apply to its own traffic"
        );
    });
}
