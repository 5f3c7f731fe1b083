//! Stub.
#![allow(missing_docs)]
use std::ops::Range;
use std::sync::atomic::AtomicBool;
pub struct Case { pub octets: Vec<u8>, pub pieces: Vec<ContentPiece> }
#[derive(Clone, Debug)]
pub struct ContentPiece { pub range: Range<usize>, pub shape: Shape }
#[derive(Clone, Debug)]
pub enum Shape { Message, Body { header: Vec<u8>, hints: Vec<LeafHint> }, Unknown { hints: Vec<LeafHint> }, Header }
#[derive(Clone, Debug)]
pub struct LeafHint { pub media: (Vec<u8>, Vec<u8>), pub name: Option<Vec<u8>>, pub encoding: Vec<u8> }
pub enum Judged { Final { octets: Vec<u8>, leaves: Vec<LeafVerdict> }, Unavailable { why: Unavailable } }
pub enum Unavailable { Cancelled, JudgeDown }
pub struct LeafVerdict { pub piece: usize, pub path: String, pub name: Option<String>, pub declared_type: Option<String>, pub real_type: Option<RealType>, pub octets: u64, pub sha256: [u8; 32], pub rule: Option<RuleName>, pub action: ContentAction }
#[derive(PartialEq, Eq)]
pub enum ContentAction { Allow, Remove }
#[derive(Clone, Copy)]
pub struct RealType;
impl RealType { pub fn token(self) -> &'static str { "x" } }
pub struct RuleName;
impl RuleName { pub fn token(&self) -> &'static str { "eicar" } }
#[derive(Default)]
pub struct Rules;
pub trait Judge: Send + Sync {}
impl Judge for Rules {}
impl Rules { pub fn new(_: &[&str], _: &[&str]) -> Result<Self, ()> { Ok(Self) } }
pub fn judge(mut case: Case, _judge: &dyn Judge, _cancelled: &AtomicBool) -> Judged {
    const EVIL: &[u8] = b"EICAR";
    let mut leaves = Vec::new();
    for piece in &case.pieces {
        let octets = case.octets.get_mut(piece.range.clone()).unwrap_or_default();
        let removed = octets.windows(EVIL.len()).any(|part| part == EVIL);
        if removed { for octet in octets.iter_mut().filter(|o| !matches!(**o, b'\r' | b'\n')) { *octet = b'.'; } }
        let action = if removed { ContentAction::Remove } else { ContentAction::Allow };
        leaves.push(LeafVerdict { piece: 0, path: String::new(), name: None, declared_type: None, real_type: None, octets: 0, sha256: [0; 32], rule: None, action });
    }
    Judged::Final { octets: case.octets, leaves }
}
pub mod header { pub fn is_header_only(octets: &[u8]) -> bool { octets.split(|o| *o == b'\n').filter(|l| l.len() > 1).all(|l| l.first().is_some_and(u8::is_ascii_whitespace) || l.contains(&b':')) } }
pub mod reading { pub fn base64(_: &[u8]) -> Vec<u8> { Vec::new() } }
