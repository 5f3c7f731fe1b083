//! Steering: transit mail is made local by policy routing and given to Postern's listeners by an `sk_lookup` program.

/// The BPF program: load, fill the maps, attach, count.
pub mod program;
/// Rules and routes over netlink, and their removal.
pub mod routing;
/// The kernel settings that steering needs or advises.
pub mod sysctl;
/// Requests to rtnetlink and their answers.
pub(crate) mod netlink;
/// The machine's nftables rules: do they let steered mail pass, and do they masquerade it?
pub(crate) mod firewall;
