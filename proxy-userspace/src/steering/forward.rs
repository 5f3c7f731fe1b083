//! The nftables chain that drops mail which is forwarded past Postern, under `on_exit = "closed"`.
//!
//! Mail that follows Postern's rules never meets the hook `forward`. Mail at that hook was routed past Postern: by a
//! rule of others in front, or while Postern's rules were flushed and not put back yet. The chain drops it, so that a
//! rule in front costs availability, not inspection. So it is with ports that are refused. The table has no owner flag: like the blackhole route, it stays
//! when the daemon is killed.

use std::io;

use netlink_packet_core::{NLM_F_APPEND, NLM_F_CREATE};
use rustix::io::Errno;

use super::netlink::Netlink;
use super::nfnetlink::{self, Attributes, NftMessage, NftMessageType, attribute};
use super::ports::PortPlan;
use super::routing::is_bridge;
use crate::config::OnExit;

/// The table, in the family `inet`.
pub const NFT_TABLE: &str = "postern";
/// The table's only chain.
pub const NFT_CHAIN: &str = "forward";
/// The comment that tells Postern's table from a table of others with the same name. `nft list ruleset` shows it.
const TABLE_COMMENT: &str = "Postern: mail from clients is inspected or dropped, never forwarded";
const TABLE_COMMENT_START: &str = "Postern:";
/// `NF_IP_PRI_RAW` (linux/netfilter_ipv4.h): before the chains of others have marked, queued or offloaded what is
/// dropped here.
const PRIORITY: i32 = -300;
/// `NF_INET_FORWARD`.
const HOOK_FORWARD: u32 = 2;
/// `NF_ACCEPT` and `NF_DROP`.
const ACCEPT: u32 = 1;
const DROP: u32 = 0;
/// `NFT_TABLE_F_DORMANT`: the table's chains see no packet.
const DORMANT: u32 = 1;

/// Attributes of tables, chains and rules; where one number serves, one name does.
const TABLE_NAME: u16 = 1;
const TABLE_FLAGS: u16 = 2;
const TABLE_USERDATA: u16 = 6;
const CHAIN_TABLE: u16 = 1;
const CHAIN_NAME: u16 = 3;
const CHAIN_HOOK: u16 = 4;
const CHAIN_POLICY: u16 = 5;
const CHAIN_TYPE: u16 = 7;
const HOOK_NUMBER: u16 = 1;
const HOOK_PRIORITY: u16 = 2;
const RULE_TABLE: u16 = 1;
const RULE_CHAIN: u16 = 2;
const RULE_EXPRESSIONS: u16 = 4;
const RULE_USERDATA: u16 = 7;
const LIST_ELEMENT: u16 = 1;
const EXPRESSION_NAME: u16 = 1;
const EXPRESSION_DATA: u16 = 2;
const DATA_VALUE: u16 = 1;
const COUNTER_PACKETS: u16 = 2;
/// The register that comparisons read, `NFT_REG_1`; and that of verdicts, `NFT_REG_VERDICT`.
const REGISTER: u32 = 1;
const REGISTER_VERDICT: u32 = 0;
/// `NFT_CMP_EQ` and `NFT_CMP_NEQ`.
const EQUAL: u32 = 0;
const NOT_EQUAL: u32 = 1;
/// `NFT_META_IIFNAME`, `NFT_META_OIFNAME` and `NFT_META_L4PROTO`.
const META_IIFNAME: u32 = 6;
const META_OIFNAME: u32 = 7;
const META_L4PROTO: u32 = 16;
/// `NFT_PAYLOAD_TRANSPORT_HEADER`, and where TCP's destination port stands in it.
const PAYLOAD_TRANSPORT: u32 = 2;
const PORT_AT: u32 = 2;
const PORT_BYTES: u32 = 2;
/// An interface's name is compared whole, with its zeros (`IFNAMSIZ`).
const NAME_BYTES: usize = 16;
/// `IPPROTO_TCP`.
const TCP: u8 = 6;
/// `NFTNL_UDATA_TABLE_COMMENT` and `NFTNL_UDATA_RULE_COMMENT` (libnftnl/udata.h): a text for people.
const USERDATA_COMMENT: u8 = 0;

/// Why the chain could not be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum ForwardError {
    /// A table of others has that name.
    #[error(
        "the nftables table `inet {NFT_TABLE}` is not Postern's, and on_exit = \"closed\" needs this name: rename that table, or \
         remove it (`nft delete table inet {NFT_TABLE}`)"
    )]
    Foreign,
    /// This kernel has no nf_tables.
    #[error(
        "this kernel has no nf_tables for IPv4 and IPv6 ({0}): `modprobe nf_tables`, or CONFIG_NF_TABLES_INET"
    )]
    Absent(io::Error),
    /// No `CAP_NET_ADMIN`.
    #[error(
        "the kernel refused {call}: run Postern as root or with CAP_NET_ADMIN (AmbientCapabilities= in its unit)"
    )]
    NotPermitted {
        /// The netlink request.
        call: &'static str,
    },
    /// Anything else that the kernel answers.
    #[error(
        "{call} for `nft table inet {NFT_TABLE}` failed: {source}; look with `nft list table inet {NFT_TABLE}`"
    )]
    Kernel {
        /// The netlink request.
        call: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
}

impl ForwardError {
    fn of(call: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| match Errno::from_io_error(&source) {
            // The kernel lacks the netlink protocol, nf_tables, or the family `inet`.
            Some(Errno::PROTONOSUPPORT | Errno::INVAL | Errno::OPNOTSUPP | Errno::AFNOSUPPORT) => {
                Self::Absent(source)
            }
            Some(Errno::PERM) => Self::NotPermitted { call },
            _ => Self::Kernel { call, source },
        }
    }
}

/// The chain as the kernel holds it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Guard {
    /// The chain's rules in the syntax of `nft`; none where it is not in force.
    pub rules: Vec<String>,
    /// Packets that the chain dropped since it was installed.
    pub dropped: u64,
}

/// Install the chain under `closed`, and remove it under `open`. Returns what was done.
///
/// # Errors
/// The kernel's refusal, or a table of others with that name.
pub fn reconcile(on_exit: OnExit, plan: &PortPlan) -> Result<GuardChange, ForwardError> {
    let mut netlink = open()?;
    let wanted = match on_exit {
        OnExit::Closed => rules(plan).map_err(ForwardError::of("RTM_GETLINK"))?,
        OnExit::Open => Vec::new(),
    };
    let table = table(&mut netlink)?;
    match (&table, wanted.is_empty()) {
        (None, true) => return Ok(GuardChange::None),
        // Where no chain is wanted, a table of others with this name does not matter.
        (Some(table), true) if !table.is_ours => return Ok(GuardChange::None),
        (Some(table), false) if !table.is_ours => return Err(ForwardError::Foreign),
        (Some(table), false) if !table.is_dormant && is_in_force(&mut netlink, &wanted)? => {
            return Ok(GuardChange::None);
        }
        _ => {}
    }
    // One transaction: no packet passes between the old chain and the new one.
    let mut messages = Vec::new();
    if table.is_some() {
        messages.push((NftMessage::new(NftMessageType::DeleteTable, named_table()), 0));
    }
    if wanted.is_empty() {
        netlink.transact(messages).map_err(ForwardError::of("NFT_MSG_DELTABLE"))?;
        return Ok(GuardChange::Removed);
    }
    let comment = named_table().octets(TABLE_USERDATA, &userdata(TABLE_COMMENT));
    messages.push((NftMessage::new(NftMessageType::NewTable, comment), NLM_F_CREATE));
    messages.push((NftMessage::new(NftMessageType::NewChain, chain()), NLM_F_CREATE));
    let new_rule = |rule: &GuardRule| {
        (NftMessage::new(NftMessageType::NewRule, rule.attributes()), NLM_F_CREATE | NLM_F_APPEND)
    };
    messages.extend(wanted.iter().map(new_rule));
    netlink.transact(messages).map_err(ForwardError::of("NFT_MSG_NEWRULE"))?;
    Ok(GuardChange::Added)
}

/// What [`reconcile`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GuardChange {
    /// Nothing had to be changed.
    None,
    /// The chain was missing or wrong, and was installed.
    Added,
    /// The chain was not wanted, and was removed.
    Removed,
}

/// Remove the chain and its table. Returns whether Postern's table was there.
///
/// # Errors
/// The kernel's refusal. A kernel without nf_tables has nothing to remove.
pub fn clear() -> Result<bool, ForwardError> {
    match remove() {
        Err(ForwardError::Absent(_)) => Ok(false),
        removed => removed,
    }
}

fn remove() -> Result<bool, ForwardError> {
    let mut netlink = open()?;
    if !table(&mut netlink)?.is_some_and(|table| table.is_ours) {
        return Ok(false);
    }
    let delete = vec![(NftMessage::new(NftMessageType::DeleteTable, named_table()), 0)];
    netlink.transact(delete).map_err(ForwardError::of("NFT_MSG_DELTABLE"))?;
    Ok(true)
}

/// The chain as the kernel holds it now; the default where it is not in force.
///
/// # Errors
/// The kernel's refusal, or a table of others with that name.
pub fn held() -> Result<Guard, ForwardError> {
    let mut netlink = open()?;
    match table(&mut netlink)? {
        None => return Ok(Guard::default()),
        Some(table) if !table.is_ours => return Err(ForwardError::Foreign),
        Some(table) if table.is_dormant => return Ok(Guard::default()),
        Some(_) => {}
    }
    if !is_hooked(&mut netlink)? {
        return Ok(Guard::default());
    }
    let found = rules_in_force(&mut netlink)?;
    Ok(Guard {
        rules: found.iter().map(|rule| format!("nft inet {NFT_TABLE} {NFT_CHAIN}: {}", rule.words)).collect(),
        dropped: found.iter().fold(0, |sum, rule| sum.saturating_add(rule.packets)),
    })
}

/// Whether a message of nf_tables is about Postern's table.
pub(super) fn concerns(message: &NftMessage) -> bool {
    message.family() == nfnetlink::FAMILY_INET
        && message.get(TABLE_NAME).is_some_and(|name| nfnetlink::text(name) == NFT_TABLE)
}

fn open() -> Result<Netlink<NftMessage>, ForwardError> {
    Netlink::open().map_err(ForwardError::of("socket(NETLINK_NETFILTER)"))
}

/// One interface, or all that a pattern stands for, and one port.
#[derive(Clone, Debug, PartialEq, Eq)]
struct GuardRule {
    interface: String,
    port: u16,
    /// The interface is a bridge. Where `br_netfilter` is loaded, frames between two ports of a bridge also meet this
    /// hook, and no routing rule applies to them. They come from the bridge and go to the bridge, and are left alone.
    is_bridge: bool,
}

/// For what is steered, and for what is refused: neither is forwarded. What is left alone is.
fn rules(plan: &PortPlan) -> io::Result<Vec<GuardRule>> {
    let mut rules = Vec::new();
    for of in plan.ingresses() {
        // A pattern spares no bridge, because it may match others, too.
        let (interface, is_bridge) =
            (of.ingress.as_str(), !of.ingress.is_pattern() && is_bridge(&of.ingress)?);
        let rule = |port| GuardRule { interface: interface.to_owned(), port, is_bridge };
        rules.extend(of.guarded().map(rule));
    }
    Ok(rules)
}

impl GuardRule {
    /// The rule's text, for people and to recognize the rule.
    fn words(&self) -> String {
        let Self { interface, port, is_bridge } = self;
        let unless = if *is_bridge { format!(" oifname != {interface}") } else { String::new() };
        format!("iifname {interface}{unless} tcp dport {port} drop")
    }

    /// `meta l4proto tcp iifname INTERFACE tcp dport PORT counter drop`, with `oifname != INTERFACE` for a bridge.
    fn attributes(&self) -> Attributes {
        // Of a pattern only the beginning is compared, as `nft` does with `iifname "ppp*"`.
        let name = match self.interface.strip_suffix('*') {
            Some(prefix) => prefix.as_bytes().to_vec(),
            None => {
                let mut name = self.interface.as_bytes().to_vec();
                name.resize(NAME_BYTES, 0);
                name
            }
        };
        let port = Attributes::default()
            .number(1, REGISTER)
            .number(2, PAYLOAD_TRANSPORT)
            .number(3, PORT_AT)
            .number(4, PORT_BYTES);
        let verdict = Attributes::default().nested(2, &Attributes::default().number(1, DROP));
        let verdict = Attributes::default().number(1, REGISTER_VERDICT).nested(2, &verdict);
        let mut expressions =
            vec![meta(META_L4PROTO), compare(EQUAL, &[TCP]), meta(META_IIFNAME), compare(EQUAL, &name)];
        if self.is_bridge {
            expressions.extend([meta(META_OIFNAME), compare(NOT_EQUAL, &name)]);
        }
        expressions.extend([
            expression("payload", &port),
            compare(EQUAL, &self.port.to_be_bytes()),
            expression("counter", &Attributes::default()),
            expression("immediate", &verdict),
        ]);
        let list = expressions
            .iter()
            .fold(Attributes::default(), |list, expression| list.nested(LIST_ELEMENT, expression));
        Attributes::default()
            .text(RULE_TABLE, NFT_TABLE)
            .text(RULE_CHAIN, NFT_CHAIN)
            .nested(RULE_EXPRESSIONS, &list)
            .octets(RULE_USERDATA, &userdata(&self.words()))
    }
}

fn meta(key: u32) -> Attributes {
    expression("meta", &Attributes::default().number(1, REGISTER).number(2, key))
}

/// A comparison of the register with a value.
fn compare(how: u32, value: &[u8]) -> Attributes {
    let data = Attributes::default().octets(DATA_VALUE, value);
    expression("cmp", &Attributes::default().number(1, REGISTER).number(2, how).nested(3, &data))
}

fn expression(name: &str, data: &Attributes) -> Attributes {
    Attributes::default().text(EXPRESSION_NAME, name).nested(EXPRESSION_DATA, data)
}

fn named_table() -> Attributes {
    Attributes::default().text(TABLE_NAME, NFT_TABLE)
}

fn chain() -> Attributes {
    let hook = Attributes::default()
        .number(HOOK_NUMBER, HOOK_FORWARD)
        .octets(HOOK_PRIORITY, &PRIORITY.to_be_bytes());
    Attributes::default()
        .text(CHAIN_TABLE, NFT_TABLE)
        .text(CHAIN_NAME, NFT_CHAIN)
        .nested(CHAIN_HOOK, &hook)
        .number(CHAIN_POLICY, ACCEPT)
        .text(CHAIN_TYPE, "filter")
}

/// Kind, length, and the text with its NUL, as `nft` writes a comment.
fn userdata(comment: &str) -> Vec<u8> {
    let length = u8::try_from(comment.len() + 1).unwrap_or(u8::MAX);
    [&[USERDATA_COMMENT, length], comment.as_bytes(), &[0]].concat()
}

fn comment(userdata: &[u8]) -> String {
    match userdata {
        [USERDATA_COMMENT, length, rest @ ..] => {
            nfnetlink::text(rest.get(..usize::from(*length)).unwrap_or_default())
        }
        _ => String::new(),
    }
}

/// A table of Postern's name.
struct GuardTable {
    is_ours: bool,
    is_dormant: bool,
}

fn table(netlink: &mut Netlink<NftMessage>) -> Result<Option<GuardTable>, ForwardError> {
    let found = ask(netlink, "NFT_MSG_GETTABLE", NftMessage::new(NftMessageType::GetTable, named_table()))?;
    Ok(found.map(|table| GuardTable {
        is_ours: table
            .get(TABLE_USERDATA)
            .is_some_and(|userdata| comment(userdata).starts_with(TABLE_COMMENT_START)),
        is_dormant: table
            .get(TABLE_FLAGS)
            .and_then(nfnetlink::number)
            .is_some_and(|flags| flags & DORMANT != 0),
    }))
}

/// Ask for one object; `None` where it does not exist.
fn ask(
    netlink: &mut Netlink<NftMessage>,
    call: &'static str,
    message: NftMessage,
) -> Result<Option<NftMessage>, ForwardError> {
    match netlink.ask(message) {
        Err(error) if Errno::from_io_error(&error) == Some(Errno::NOENT) => Ok(None),
        found => found.map(Some).map_err(ForwardError::of(call)),
    }
}

fn is_in_force(netlink: &mut Netlink<NftMessage>, wanted: &[GuardRule]) -> Result<bool, ForwardError> {
    let found = rules_in_force(netlink)?;
    Ok(is_hooked(netlink)?
        && found.into_iter().map(|rule| rule.words).eq(wanted.iter().map(GuardRule::words)))
}

/// Whether the chain is there and sees what is forwarded.
fn is_hooked(netlink: &mut Netlink<NftMessage>) -> Result<bool, ForwardError> {
    let name = Attributes::default().text(CHAIN_TABLE, NFT_TABLE).text(CHAIN_NAME, NFT_CHAIN);
    let found = ask(netlink, "NFT_MSG_GETCHAIN", NftMessage::new(NftMessageType::GetChain, name))?;
    Ok(found.is_some_and(|chain| {
        let hook = chain.get(CHAIN_HOOK).unwrap_or_default();
        let number = |kind| attribute(hook, kind).and_then(nfnetlink::number);
        number(HOOK_NUMBER) == Some(HOOK_FORWARD)
            && number(HOOK_PRIORITY).map(u32::cast_signed) == Some(PRIORITY)
            && chain.get(CHAIN_POLICY).and_then(nfnetlink::number) == Some(ACCEPT)
    }))
}

struct RuleInForce {
    words: String,
    packets: u64,
}

fn rules_in_force(netlink: &mut Netlink<NftMessage>) -> Result<Vec<RuleInForce>, ForwardError> {
    let chain = Attributes::default().text(RULE_TABLE, NFT_TABLE).text(RULE_CHAIN, NFT_CHAIN);
    let found = match netlink.dump(&NftMessage::new(NftMessageType::GetRule, chain)) {
        Err(error) if Errno::from_io_error(&error) == Some(Errno::NOENT) => Vec::new(),
        found => found.map_err(ForwardError::of("NFT_MSG_GETRULE"))?,
    };
    Ok(found
        .iter()
        .map(|rule| RuleInForce {
            words: rule.get(RULE_USERDATA).map(comment).unwrap_or_default(),
            packets: packets(rule.get(RULE_EXPRESSIONS).unwrap_or_default()),
        })
        .collect())
}

/// What the rule's counter says.
fn packets(expressions: &[u8]) -> u64 {
    nfnetlink::all(expressions)
        .find(|(_, element)| {
            attribute(element, EXPRESSION_NAME).is_some_and(|name| nfnetlink::text(name) == "counter")
        })
        .and_then(|(_, element)| attribute(attribute(element, EXPRESSION_DATA)?, COUNTER_PACKETS))
        .and_then(|octets| Some(u64::from_be_bytes(octets.try_into().ok()?)))
        .unwrap_or_default()
}
