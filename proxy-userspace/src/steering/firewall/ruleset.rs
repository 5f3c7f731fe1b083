//! What `nft -j list ruleset` prints, as far as the fate of steered mail depends on it (libnftables-json(5)).
//!
//! Expressions stay JSON values. The crate `nftables` has types for them, but refuses the whole ruleset for one unknown
//! statement, and nft gains statements with every release. Here an unknown statement is only a doubt.

use std::collections::HashMap;
use std::fmt;

use serde_json::Value;

use super::FirewallError;

/// The families whose hooks see IP packets of a gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum NftFamily {
    Ip,
    Ip6,
    Inet,
}

impl NftFamily {
    fn parse(text: &str) -> Option<Self> {
        match text {
            "ip" => Some(Self::Ip),
            "ip6" => Some(Self::Ip6),
            "inet" => Some(Self::Inet),
            _ => None,
        }
    }

    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Ip => "ip",
            Self::Ip6 => "ip6",
            Self::Inet => "inet",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum NftHook {
    Prerouting,
    Input,
    Output,
    Postrouting,
}

impl NftHook {
    fn parse(text: &str) -> Option<Self> {
        match text {
            "prerouting" => Some(Self::Prerouting),
            "input" => Some(Self::Input),
            "output" => Some(Self::Output),
            "postrouting" => Some(Self::Postrouting),
            _ => None,
        }
    }
}

/// Tables, sets and chains have names within this.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Table {
    pub(super) family: NftFamily,
    pub(super) name: String,
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.family.as_str(), self.name)
    }
}

/// What makes a chain a base chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Base {
    pub(super) hook: NftHook,
    pub(super) nat: bool,
    pub(super) priority: i64,
    pub(super) drops: bool,
}

#[derive(Clone, Debug)]
pub(super) struct Chain {
    pub(super) table: Table,
    pub(super) name: String,
    pub(super) base: Option<Base>,
    pub(super) rules: Vec<Rule>,
}

impl fmt::Display for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.table, self.name)
    }
}

#[derive(Clone, Debug)]
pub(super) struct Rule {
    pub(super) handle: u64,
    pub(super) statements: Vec<Statement>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum NftVerdict {
    Accept,
    Drop,
    Continue,
    Return,
    Jump(String),
    Goto(String),
}

/// A statement by what it may do to a walk.
#[derive(Clone, Debug)]
pub(super) enum Statement {
    Match {
        op: String,
        left: Value,
        right: Value,
    },
    NftVerdict(NftVerdict),
    VerdictMap {
        key: Value,
        data: Value,
    },
    SetMark(Value),
    NoTrack,
    /// Changes the source address and ends the walk.
    SourceNat,
    /// Lets only some packets on, which cannot be foreseen: a rate, a quota, a count.
    Gate(String),
    /// Neither changes the packet nor ends the walk.
    Silent,
    /// An unknown statement: it may match, end the walk or do nothing.
    Opaque(String),
}

#[derive(Clone, Debug)]
pub(super) struct Set {
    pub(super) elements: Vec<Value>,
    /// Packets or time change its elements.
    pub(super) volatile: bool,
}

/// The rules of a network namespace, read once.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ruleset {
    pub(super) chains: Vec<Chain>,
    names: HashMap<(Table, String), usize>,
    sets: HashMap<(Table, String), Set>,
    /// Tables that only the process which made them may change (flag `owner`).
    owned: Vec<Table>,
}

impl Ruleset {
    /// # Errors
    /// What is not JSON, or not nft's.
    pub(crate) fn parse(json: &[u8]) -> Result<Self, FirewallError> {
        let json: Value = serde_json::from_slice(json).map_err(|source| FirewallError::NotJson { source })?;
        let objects = json.get("nftables").and_then(Value::as_array).ok_or(FirewallError::NotARuleset)?;
        let mut ruleset = Self::default();
        for (kind, body) in objects.iter().filter_map(only_entry) {
            ruleset.define(kind, body);
        }
        for (_, body) in objects.iter().filter_map(only_entry).filter(|(kind, _)| *kind == "rule") {
            ruleset.append(body);
        }
        Ok(ruleset)
    }

    pub(super) fn chain(&self, table: &Table, name: &str) -> Option<usize> {
        self.names.get(&(table.clone(), name.to_owned())).copied()
    }

    pub(super) fn set(&self, table: &Table, name: &str) -> Option<&Set> {
        self.sets.get(&(table.clone(), name.to_owned()))
    }

    /// The chains that a statement may lead to.
    pub(super) fn targets(&self, table: &Table, statement: &Statement) -> Vec<usize> {
        let verdicts = match statement {
            Statement::NftVerdict(verdict) => vec![verdict.clone()],
            Statement::VerdictMap { data, .. } => {
                let elements = self.map_elements(table, data);
                elements.iter().filter_map(|pair| verdict(pair.get(1)?)).collect()
            }
            _ => Vec::new(),
        };
        let target = |verdict| match verdict {
            NftVerdict::Jump(name) | NftVerdict::Goto(name) => self.chain(table, &name),
            _ => None,
        };
        verdicts.into_iter().filter_map(target).collect()
    }

    fn map_elements<'a>(&'a self, table: &Table, data: &'a Value) -> &'a [Value] {
        let named = data.as_str().and_then(|text| text.strip_prefix('@'));
        if let Some(set) = named.and_then(|name| self.set(table, name)) {
            return &set.elements;
        }
        data.get("set").and_then(Value::as_array).map_or(&[], Vec::as_slice)
    }

    pub(super) fn is_owned(&self, table: &Table) -> bool {
        self.owned.contains(table)
    }

    /// The base chains of a hook that see packets of a family, in the order of their priority.
    pub(super) fn bases(&self, hook: NftHook, family: NftFamily) -> Vec<(usize, &Chain, Base)> {
        let sees = |chain: &Chain| chain.table.family == NftFamily::Inet || chain.table.family == family;
        let based = self.chains.iter().enumerate().filter_map(|(at, chain)| Some((at, chain, chain.base?)));
        let mut bases: Vec<_> = based.filter(|(_, chain, base)| base.hook == hook && sees(chain)).collect();
        bases.sort_by_key(|(_, _, base)| base.priority);
        bases
    }

    /// Whether no chain hangs on a hook that steered mail passes.
    pub(crate) fn is_out_of_the_way(&self) -> bool {
        self.chains.iter().all(|chain| chain.base.is_none())
    }

    fn define(&mut self, kind: &str, body: &Value) {
        let Some(name) = text(body, "name") else { return };
        if kind == "table" {
            let Some(family) = text(body, "family").and_then(NftFamily::parse) else { return };
            if flags(body).any(|flag| flag == "owner") {
                self.owned.push(Table { family, name: name.to_owned() });
            }
            return;
        }
        let Some(table) = table(body) else { return };
        match kind {
            "chain" => {
                self.names.insert((table.clone(), name.to_owned()), self.chains.len());
                self.chains.push(Chain { table, name: name.to_owned(), base: base(body), rules: Vec::new() });
            }
            "set" | "map" => {
                let elements = body.get("elem").and_then(Value::as_array).cloned().unwrap_or_default();
                let volatile = flags(body).any(|flag| matches!(flag, "dynamic" | "timeout"));
                self.sets.insert((table, name.to_owned()), Set { elements, volatile });
            }
            _ => {}
        }
    }

    fn append(&mut self, body: &Value) {
        let Some((table, chain)) = table(body).zip(text(body, "chain")) else { return };
        let Some(chain) = self.chain(&table, chain).and_then(|at| self.chains.get_mut(at)) else { return };
        let handle = body.get("handle").and_then(Value::as_u64).unwrap_or(0);
        let expressions = body.get("expr").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        chain.rules.push(Rule { handle, statements: expressions.iter().map(statement).collect() });
    }
}

fn table(body: &Value) -> Option<Table> {
    let family = text(body, "family").and_then(NftFamily::parse)?;
    Some(Table { family, name: text(body, "table")?.to_owned() })
}

fn base(body: &Value) -> Option<Base> {
    Some(Base {
        hook: text(body, "hook").and_then(NftHook::parse)?,
        nat: text(body, "type") == Some("nat"),
        priority: body.get("prio").and_then(Value::as_i64).unwrap_or(0),
        drops: text(body, "policy") == Some("drop"),
    })
}

fn text<'a>(body: &'a Value, key: &str) -> Option<&'a str> {
    body.get(key).and_then(Value::as_str)
}

/// An object's flags. Some releases of nft print a single flag outside a list.
fn flags(body: &Value) -> impl Iterator<Item = &str> {
    let flags = body.get("flags");
    let list = flags.and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    flags.into_iter().chain(list).filter_map(Value::as_str)
}

/// The key and value of an object that has one of them; nft writes each object, statement and expression so.
pub(super) fn only_entry(value: &Value) -> Option<(&str, &Value)> {
    let object = value.as_object()?;
    let entry = object.iter().next().filter(|_| object.len() == 1)?;
    Some((entry.0.as_str(), entry.1))
}

/// A statement that is a verdict, or the value of a verdict map.
pub(super) fn verdict(value: &Value) -> Option<NftVerdict> {
    let (key, body) = only_entry(value)?;
    let target = || text(body, "target").map(str::to_owned);
    match key {
        "accept" => Some(NftVerdict::Accept),
        "drop" | "reject" => Some(NftVerdict::Drop),
        "continue" => Some(NftVerdict::Continue),
        "return" => Some(NftVerdict::Return),
        "jump" => target().map(NftVerdict::Jump),
        "goto" => target().map(NftVerdict::Goto),
        _ => None,
    }
}

fn statement(value: &Value) -> Statement {
    if let Some(verdict) = verdict(value) {
        return Statement::NftVerdict(verdict);
    }
    let Some((key, body)) = only_entry(value) else { return Statement::Opaque("statement".to_owned()) };
    let part = |name| body.get(name).cloned().unwrap_or(Value::Null);
    match key {
        "match" => Statement::Match {
            op: text(body, "op").unwrap_or_default().to_owned(),
            left: part("left"),
            right: part("right"),
        },
        "vmap" => Statement::VerdictMap { key: part("key"), data: part("data") },
        "mangle" if is_mark(&part("key")) => Statement::SetMark(part("value")),
        "notrack" => Statement::NoTrack,
        "masquerade" | "snat" => Statement::SourceNat,
        "limit" | "quota" | "ct count" | "meter" => Statement::Gate(key.to_owned()),
        "counter" | "log" | "mangle" | "set" | "map" | "flow" | "last" | "secmark" | "reset" | "dup"
        | "ct helper" | "ct timeout" | "ct expectation" => Statement::Silent,
        "xt" => foreign(body),
        _ => Statement::Opaque(key.to_owned()),
    }
}

/// What iptables-nft leaves in its tables; nft names it from 1.0.7 on and says only `null` before.
fn foreign(body: &Value) -> Statement {
    let name = text(body, "name").unwrap_or_default();
    match (text(body, "type"), name) {
        (Some("match"), "comment") => Statement::Silent,
        (Some("match"), _) => Statement::Gate(format!("xt {name}")),
        (Some("target"), "REJECT") => Statement::NftVerdict(NftVerdict::Drop),
        (Some("target"), "MASQUERADE" | "SNAT" | "NETMAP") => Statement::SourceNat,
        (Some("target"), "MARK" | "CONNMARK") => Statement::SetMark(Value::Null),
        (Some("target"), "LOG" | "NFLOG" | "TCPMSS" | "CHECKSUM" | "CLASSIFY" | "DSCP" | "TOS" | "TRACE") => {
            Statement::Silent
        }
        _ => Statement::Opaque(format!("xt {name}").trim_end().to_owned()),
    }
}

pub(super) fn is_mark(expression: &Value) -> bool {
    expression.get("meta").and_then(|meta| text(meta, "key")) == Some("mark")
}
