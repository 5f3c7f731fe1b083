use time::OffsetDateTime;

use super::check::Item;
use crate::config::{Config, ServerPin};
use crate::handshake::TrustMaterial;
use crate::handshake::expiry::{Lifetime, Nearness};

/// When certificates end, and pins that are of no use. Files that cannot be read are told elsewhere.
pub(super) fn items(config: &Config) -> Vec<Item> {
    let mut items = Vec::new();
    if let Ok((material, _)) = TrustMaterial::read(config) {
        let now = OffsetDateTime::now_utc().unix_timestamp();
        items.extend(material.lifetimes(config).iter().map(|lifetime| end(lifetime, now)));
    }
    items.extend(pins(config));
    items
}

/// When a certificate ends.
fn end(lifetime: &Lifetime, now: i64) -> Item {
    let thing = format!("end of the {}", lifetime.of);
    match lifetime.nearness(now) {
        Nearness::Far => Item::ok(thing, lifetime.words(now)),
        Nearness::Expired => Item::fail(thing, lifetime.words(now), lifetime.remedy()),
        _ => Item::warn(thing, lifetime.words(now), lifetime.remedy()),
    }
}

/// Pins that are for no server.
fn pins(config: &Config) -> Option<Item> {
    let idle = |pin: &&ServerPin| pin.servers.is_empty() && pin.names.is_empty();
    let count = config.certificates.pins.iter().filter(idle).count();
    let value = format!("{count} of certificates.pin are for no server, and make none trusted");
    (count > 0).then(|| Item::warn("pins", value, "list `servers`, `names` or both in each"))
}
