//! The machine's nftables rules, as `nft -j list ruleset` prints them: steered mail leaves FORWARD and enters INPUT
//! and OUTPUT, so a firewall that let mail through may stop it.
//!
//! The hooks of the families inet, ip and ip6 from prerouting to postrouting are judged. What drops earlier (netdev,
//! ingress) stops mail with and without Postern, and rules of iptables-legacy are not nft's.

/// The ruleset as a small model.
mod ruleset;
/// What expressions read from steered packets.
mod packet;
/// Matches, in three-valued logic.
mod expression;
/// A packet's walk through chains, jumps and verdicts.
mod walk;
/// Which packets are stopped, masqueraded, or lose their mark.
mod judge;
/// The text and the commands for what the judge found.
mod remedy;
/// Running nft within bounds.
mod nft;
#[cfg(test)]
mod tests;

use std::io;
use std::process::ExitStatus;

pub(crate) use judge::{Certainty, MailPaths, Obstacle, mark_wipers, masquerades, obstacles};
pub(crate) use nft::{read_legacy, read_ruleset};
pub(crate) use ruleset::Ruleset;

/// Why the rules are not known.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FirewallError {
    /// There is no such program.
    #[error("nft is not installed")]
    NoNft,
    /// nft did not start, or its output could not be read.
    #[error("nft cannot be run: {source}")]
    Run {
        /// The kernel's answer.
        source: io::Error,
    },
    /// nft failed.
    #[error("nft -j list ruleset ended with {status}: {said}")]
    Refused {
        /// How it ended.
        status: ExitStatus,
        /// Its first line on stderr.
        said: String,
    },
    /// nft took too long and was killed.
    #[error("nft -j list ruleset did not end within {} s", nft::RUN_SECONDS_MAX)]
    TimedOut,
    /// nft printed too much.
    #[error("nft -j list ruleset printed more than {} octets", nft::JSON_BYTES_MAX)]
    TooLong,
    /// The output is not JSON.
    #[error("nft's answer is not JSON: {source}")]
    NotJson {
        /// Where, and what is wrong.
        source: serde_json::Error,
    },
    /// The output is JSON, but no ruleset.
    #[error("nft's answer holds no list `nftables`")]
    NotARuleset,
}
