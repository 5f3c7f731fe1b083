//! Matches in three-valued logic: an unknown field makes a doubt, never a wrong answer.

use serde_json::Value;

use super::packet::{Bits, Field, Packet, holds_all, holds_no_mail};
use super::ruleset::{NftVerdict, Ruleset, Table, is_mark, only_entry, verdict};

/// Elements of a set that are compared. Block lists of addresses are longer, but addresses are unknown anyway.
const SET_ELEMENTS_MAX: usize = 4096;
/// Operators within operators; nft prints two or three.
const EXPRESSION_DEPTH_MAX: usize = 16;
/// Clients, and translators of addresses, connect from ports above the well-known ones (RFC 6335 section 6).
const PORT_CONNECTING_MIN: u64 = 1024;

/// Ordered, so that "and" is the minimum and "or" the maximum.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Tri {
    No,
    Maybe,
    Yes,
}

impl Tri {
    const fn not(self) -> Self {
        match self {
            Self::No => Self::Yes,
            Self::Maybe => Self::Maybe,
            Self::Yes => Self::No,
        }
    }

    const fn of(known: bool) -> Self {
        if known { Self::Yes } else { Self::No }
    }
}

/// Where an expression stands.
#[derive(Clone, Copy)]
pub(super) struct Scope<'a> {
    pub(super) ruleset: &'a Ruleset,
    pub(super) table: &'a Table,
    pub(super) packet: &'a Packet,
    /// The hook comes after connection tracking.
    pub(super) is_tracked: bool,
}

impl<'a> Scope<'a> {
    /// `match`: an operator between an expression and constants.
    pub(super) fn matches(&self, op: &str, left: &Value, right: &'a Value) -> Tri {
        if let Some(answer) = reverse_path(op, left, right) {
            return answer;
        }
        if is_translated_only(left, right) {
            return Tri::of(op.starts_with('!'));
        }
        let fields = self.fields(left);
        if fields.contains(&Field::Absent) {
            return Tri::No;
        }
        match op {
            "==" => self.equals_any(&fields, right, false),
            "in" => self.equals_any(&fields, right, true),
            "!=" => self.equals_any(&fields, right, false).not(),
            "!" => self.equals_any(&fields, right, true).not(),
            "<" | ">" | "<=" | ">=" => compare(op, &fields, right),
            _ => Tri::Maybe,
        }
    }

    /// The verdicts that a verdict map may give, each with its certainty; `None` where the map cannot be read.
    pub(super) fn verdicts(&self, key: &Value, data: &'a Value) -> Option<Vec<(Tri, NftVerdict)>> {
        let fields = self.fields(key);
        if fields.contains(&Field::Absent) {
            return Some(Vec::new());
        }
        let (elements, is_volatile) = self.elements(data)?;
        let mut found = Vec::new();
        let mut otherwise = None;
        for (constant, verdict) in elements.iter().filter_map(pair) {
            if constant.as_str() == Some("*") {
                otherwise = Some(verdict);
                continue;
            }
            match self.equals(&fields, constant) {
                Tri::No => {}
                Tri::Yes if !is_volatile => return Some(vec![(Tri::Yes, verdict)]),
                _ => found.push((Tri::Maybe, verdict)),
            }
        }
        let certainty = if found.is_empty() && !is_volatile { Tri::Yes } else { Tri::Maybe };
        found.extend(otherwise.map(|verdict| (certainty, verdict)));
        Some(found)
    }

    /// A set in place, or a named one; `None` where there are too many elements or no such set.
    fn elements(&self, constants: &'a Value) -> Option<(&'a [Value], bool)> {
        let constants = constants.get("set").unwrap_or(constants);
        if let Some(name) = constants.as_str().and_then(|text| text.strip_prefix('@')) {
            let set = self.ruleset.set(self.table, name)?;
            return Some((set.elements.as_slice(), set.volatile))
                .filter(|(list, _)| list.len() <= SET_ELEMENTS_MAX);
        }
        let list = constants.as_array().map_or(std::slice::from_ref(constants), Vec::as_slice);
        Some((list, false)).filter(|(list, _)| list.len() <= SET_ELEMENTS_MAX)
    }

    fn equals_any(&self, fields: &[Field], right: &'a Value, has_bits: bool) -> Tri {
        let is_set = right.get("set").is_some() || right.as_str().is_some_and(|text| text.starts_with('@'));
        if let ([Field::Bits(bits)], false) = (fields, is_set) {
            // Flags that nft prints as a list are one number, of which `in` wants any bit.
            return match number(right) {
                Some(wanted) if has_bits => any_bit(*bits, wanted),
                Some(wanted) => equal_bits(*bits, wanted),
                None => self.equals(fields, right),
            };
        }
        let right = right.get("|").unwrap_or(right);
        let Some((elements, is_volatile)) = self.elements(right) else { return Tri::Maybe };
        if !is_set && !has_bits && elements.len() > 1 {
            return Tri::Maybe;
        }
        let found = elements.iter().map(|constant| self.equals(fields, constant)).max().unwrap_or(Tri::No);
        if is_volatile { Tri::Maybe } else { found }
    }

    fn equals(&self, fields: &[Field], constant: &Value) -> Tri {
        let constant = constant.get("elem").and_then(|element| element.get("val")).unwrap_or(constant);
        if constant.as_str() == Some("*") {
            return Tri::Yes;
        }
        if let [field] = fields {
            return equals_one(field, constant);
        }
        let parts = constant.get("concat").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        if parts.len() != fields.len() {
            return Tri::Maybe;
        }
        fields.iter().zip(parts).map(|(field, part)| equals_one(field, part)).min().unwrap_or(Tri::Maybe)
    }

    /// What an expression reads; a concatenation reads several.
    fn fields(&self, expression: &Value) -> Vec<Field> {
        let parts = expression.get("concat").and_then(Value::as_array);
        parts.map_or_else(
            || vec![self.field(expression, 0)],
            |parts| parts.iter().map(|part| self.field(part, 0)).collect(),
        )
    }

    fn field(&self, expression: &Value, depth: usize) -> Field {
        let Some((kind, body)) = only_entry(expression) else { return Field::Unknown };
        let text = |key| body.get(key).and_then(Value::as_str).unwrap_or_default();
        match kind {
            "meta" => self.packet.meta(text("key")),
            "ct" => self.packet.ct(text("key"), self.is_tracked),
            "payload" if body.get("field").is_some() => self.packet.payload(text("protocol"), text("field")),
            "fib" if text("result") == "type" => {
                let flags = body.get("flags").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
                self.packet.address_type(flags.iter().any(|flag| flag == "daddr"))
            }
            "&" if depth < EXPRESSION_DEPTH_MAX => self.masked(body, depth),
            _ => Field::Unknown,
        }
    }

    fn masked(&self, operands: &Value, depth: usize) -> Field {
        let Some([left, mask]) = operands.as_array().map(Vec::as_slice) else { return Field::Unknown };
        match (self.field(left, depth + 1), number(mask)) {
            (Field::Absent, _) => Field::Absent,
            (Field::Bits(bits), Some(mask)) => {
                Field::Bits(Bits { value: bits.value & mask, known: bits.known | !mask })
            }
            _ => Field::Unknown,
        }
    }
}

/// `fib saddr . iif oif missing`, the reverse-path filter of firewalld and others: addresses of steered mail have
/// a way back, or no connection would come about without Postern either.
fn reverse_path(op: &str, left: &Value, right: &Value) -> Option<Tri> {
    let fib = left.get("fib")?;
    if !matches!(fib.get("result").and_then(Value::as_str), Some("oif" | "oifname")) {
        return None;
    }
    let says_missing = match right {
        Value::Bool(exists) => !exists,
        Value::String(text) => text == "0" || text.is_empty(),
        Value::Number(number) => number.as_u64() == Some(0),
        _ => return None,
    };
    Some(if op == "!=" { Tri::of(says_missing) } else { Tri::of(!says_missing) })
}

/// `ct status dnat`: false for steered mail, which would not arrive here if its destination were translated.
fn is_translated_only(left: &Value, right: &Value) -> bool {
    let is_status = left.get("ct").and_then(|ct| ct.get("key")).and_then(Value::as_str) == Some("status");
    is_status && right.as_str() == Some("dnat")
}

/// An element of a map: key and value.
fn pair(element: &Value) -> Option<(&Value, NftVerdict)> {
    let [key, value] = element.as_array()?.as_slice() else { return None };
    let key = key.get("elem").and_then(|element| element.get("val")).unwrap_or(key);
    Some((key, verdict(value)?))
}

fn equals_one(field: &Field, constant: &Value) -> Tri {
    match field {
        Field::Absent => Tri::No,
        Field::Unknown => Tri::Maybe,
        Field::Address if holds_no_mail(constant) => Tri::No,
        Field::Address if holds_all(constant) => Tri::Yes,
        Field::Address => Tri::Maybe,
        Field::OtherPort => {
            let highest = range(constant).map(|(_, high)| high).or_else(|| number(constant));
            if highest.is_some_and(|port| port < PORT_CONNECTING_MIN) { Tri::No } else { Tri::Maybe }
        }
        Field::Interface(name) => {
            constant.as_str().map_or(Tri::Maybe, |pattern| Tri::of(is_named(name, pattern)))
        }
        Field::Protocol(name) => protocol(constant).map_or(Tri::Maybe, |other| Tri::of(*name == other)),
        Field::Bits(bits) => range(constant).map_or_else(
            || number(constant).map_or(Tri::Maybe, |wanted| equal_bits(*bits, wanted)),
            |(low, high)| {
                if bits.known == u64::MAX { Tri::of((low..=high).contains(&bits.value)) } else { Tri::Maybe }
            },
        ),
        Field::Words(words) => one_of(words, constant),
    }
}

fn one_of(words: &[&str], constant: &Value) -> Tri {
    let Some(constant) = constant.as_str() else { return Tri::Maybe };
    let mut equal = words.iter().map(|word| *word == constant);
    match (equal.clone().all(|is_equal| is_equal), equal.any(|is_equal| is_equal)) {
        (true, _) => Tri::Yes,
        (_, true) => Tri::Maybe,
        _ => Tri::No,
    }
}

/// nft prints a wildcard with `*` at its end, and a name that ends in one with `\*`.
fn is_named(name: &str, pattern: &str) -> bool {
    if let Some(literal) = pattern.strip_suffix("\\*") {
        return name.strip_suffix('*') == Some(literal);
    }
    pattern.strip_suffix('*').map_or(name == pattern, |start| name.starts_with(start))
}

fn protocol(constant: &Value) -> Option<&str> {
    match (constant.as_str(), constant.as_u64()) {
        (Some("icmpv6"), _) | (_, Some(58)) => Some("ipv6-icmp"),
        (_, Some(1)) => Some("icmp"),
        (_, Some(6)) => Some("tcp"),
        (_, Some(_)) => Some(""),
        (text, None) => text,
    }
}

const fn equal_bits(bits: Bits, wanted: u64) -> Tri {
    if (bits.value ^ wanted) & bits.known != 0 {
        Tri::No
    } else if bits.known == u64::MAX {
        Tri::Yes
    } else {
        Tri::Maybe
    }
}

const fn any_bit(bits: Bits, wanted: u64) -> Tri {
    if bits.value & bits.known & wanted != 0 {
        Tri::Yes
    } else if wanted & !bits.known != 0 {
        Tri::Maybe
    } else {
        Tri::No
    }
}

fn compare(op: &str, fields: &[Field], right: &Value) -> Tri {
    let ([Field::Bits(Bits { value, known: u64::MAX })], Some(right)) = (fields, number(right)) else {
        return Tri::Maybe;
    };
    Tri::of(match op {
        "<" => *value < right,
        ">" => *value > right,
        "<=" => *value <= right,
        _ => *value >= right,
    })
}

fn range(constant: &Value) -> Option<(u64, u64)> {
    let [low, high] = constant.get("range")?.as_array()?.as_slice() else { return None };
    Some((low.as_u64()?, high.as_u64()?))
}

/// A number, a flag of TCP by name, or several of them.
fn number(constant: &Value) -> Option<u64> {
    let constant = constant.get("|").unwrap_or(constant);
    if let Some(list) = constant.as_array() {
        return list.iter().map(flag).try_fold(0, |sum, flag| Some(sum | flag?));
    }
    flag(constant)
}

fn flag(constant: &Value) -> Option<u64> {
    match constant.as_str() {
        Some("fin") => Some(0x01),
        Some("syn") => Some(0x02),
        Some("rst") => Some(0x04),
        Some("psh") => Some(0x08),
        Some("ack") => Some(0x10),
        Some("urg") => Some(0x20),
        Some("ecn") => Some(0x40),
        Some("cwr") => Some(0x80),
        Some(_) => None,
        None => constant.as_u64(),
    }
}

/// The bits that `meta mark set EXPRESSION` leaves as they are.
pub(super) fn kept_bits(expression: &Value) -> u64 {
    kept_bits_within(expression, 0)
}

fn kept_bits_within(expression: &Value, depth: usize) -> u64 {
    if is_mark(expression) {
        return u64::MAX;
    }
    let Some((op, operands)) = only_entry(expression).filter(|_| depth < EXPRESSION_DEPTH_MAX) else {
        return 0;
    };
    let Some([left, rest @ ..]) = operands.as_array().map(Vec::as_slice) else { return 0 };
    let constant = |value: &Value| match op {
        "&" => number(value),
        "|" | "^" => number(value).map(|bits| !bits),
        _ => None,
    };
    let kept = rest.iter().map(|value| constant(value).unwrap_or(0)).fold(u64::MAX, |kept, bits| kept & bits);
    if matches!(op, "&" | "|" | "^") { kept & kept_bits_within(left, depth + 1) } else { 0 }
}

/// What an expression asks of a packet, in nft's words; of an operator, its first operand.
pub(super) fn subject(expression: &Value) -> String {
    let mut expression = expression;
    for _ in 0..EXPRESSION_DEPTH_MAX {
        let Some((kind, body)) = only_entry(expression) else { break };
        let text = |key| body.get(key).and_then(Value::as_str).unwrap_or_default();
        match kind {
            "payload" => return format!("{} {}", text("protocol"), text("field")),
            "meta" | "ct" | "socket" | "rt" => return format!("{kind} {}", text("key")),
            _ => match body.as_array().and_then(|operands| operands.first()) {
                Some(first) => expression = first,
                None => return kind.to_owned(),
            },
        }
    }
    "an expression".to_owned()
}
