//! Steering: transit mail is made local by policy routing and given to Postern's listeners by an `sk_lookup` program.

/// The BPF program: load, fill the maps, attach, count.
pub mod program;
/// The classifier on its interfaces.
pub mod classifier;
/// The interface that the SYN of a connection to a server left by.
pub mod syn_egress;
/// The interfaces that names and patterns mean.
pub mod interfaces;
/// What becomes of mail for each listed port.
pub mod ports;
/// The plan that follows on another one when a reload changes what is steered.
pub mod succession;
/// The TUN device that the local route lies on.
pub mod device;
/// Rules and routes over netlink: wanted, installed, removed.
pub mod routing;
/// Rules of others in front of Postern's, and the preference at which Postern's belong.
pub mod precedence;
/// One rule or route, as the kernel's message and in the syntax of `ip`.
mod entry;
/// The nftables chain that drops mail which would be forwarded past Postern.
pub mod forward;
/// Messages of nf_tables.
mod nfnetlink;
/// Netlink events about links, rules, routes and filters.
pub mod watch;
/// All of it together: installed, put back, and given back.
pub mod upkeep;
/// The kernel settings that steering needs or advises.
pub mod sysctl;
/// Requests to rtnetlink and their answers.
pub(crate) mod netlink;
/// The machine's nftables rules: do they let steered mail pass, and do they masquerade it?
pub(crate) mod firewall;
