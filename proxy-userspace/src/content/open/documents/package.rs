//! Office Open XML and OpenDocument: archives of parts. The archive's opener gives the parts; here is what they mean.

use super::Opening;
use super::markup::{self, Tag};
use super::octets::holds;
use crate::content::magic::text::Utf8;
use crate::content::open::Conditions;
use crate::content::{Condition, RealType};

/// Relationships to elsewhere that ordinary documents have: nothing is loaded before the reader clicks, or an image, a
/// sound or a film is.
const ORDINARY: [&[u8]; 6] = [b"hyperlink", b"image", b"video", b"audio", b"media", b"externallinkpath"];
/// Beginnings of places of which following alone is harmful, whatever the relationship.
const HARMFUL_SCHEMES: [&[u8]; 5] = [b"mhtml:", b"ms-msdt:", b"search-ms:", b"script:", b"javascript:"];
/// Beginnings of places on other machines.
const FAR_SCHEMES: [&[u8]; 8] =
    [b"http:", b"https:", b"ftp:", b"file://", b"smb:", b"\\\\", b"//", b"mhtml:"];
/// Elements of OpenDocument that load what they name.
const ODF_LOADING: [&[u8]; 5] = [b"object", b"object-ole", b"floating-frame", b"applet", b"plugin"];

/// Open a document that is an archive: its parts become members as those of any archive do.
pub(super) fn open(octets: &[u8], opening: &mut Opening<'_, '_>) {
    let mut found = Conditions::new();
    let visit = &mut *opening.visit;
    let of_archive = super::super::open(RealType::Zip, octets, opening.bounds, &mut |bounds, part| {
        part_means(&part.names, &part.octets, &mut found);
        visit(bounds, part)
    });
    found.extend(of_archive);
    found.into_iter().for_each(|condition| opening.found(condition));
}

/// What a part means, by its names and its octets.
pub(super) fn part_means(names: &[String], octets: &[u8], found: &mut Conditions) {
    for name in names {
        let name = name.to_ascii_lowercase().replace('\\', "/");
        let is_below = |folder: &str| name.starts_with(folder) || name.contains(&format!("/{folder}"));
        let is_script = (name.starts_with("basic/") || name.starts_with("scripts/")) && !name.ends_with('/');
        if name.ends_with("vbaproject.bin") || is_below("macrosheets/") || is_script {
            found.insert(Condition::Macro);
        }
    }
    let is_markup = octets.trim_ascii_start().first() == Some(&b'<')
        || matches!(octets, [0xef, 0xbb, 0xbf, ..] | [0xff, 0xfe, ..] | [0xfe, 0xff, ..] | [0, b'<', ..]);
    if is_markup {
        let text = Utf8::decoded(octets);
        markup::tags(&text).for_each(|tag| tag_means(&tag, found));
    }
}

fn tag_means(tag: &Tag<'_>, found: &mut Conditions) {
    let local = tag.local();
    let is = |name: &[u8]| local.eq_ignore_ascii_case(name);
    if is(b"Relationship") {
        if is_far_relationship(tag) {
            found.insert(Condition::ExternalReference);
        }
    } else if is(b"Override") || is(b"Default") {
        let content = tag.attribute(b"ContentType").unwrap_or_default();
        if holds(&content, b"vbaproject")
            || holds(&content, b"macrosheet")
            || holds(&content, b"macroenabled")
        {
            found.insert(Condition::Macro);
        }
    } else if is(b"encryption-data") {
        found.insert(Condition::EncryptedFile);
    } else if ODF_LOADING.iter().any(|name| is(name)) && tag.name.contains(&b':') {
        let place = tag.attribute(b"href").unwrap_or_default();
        if begins_with(&place, &FAR_SCHEMES) {
            found.insert(Condition::ExternalReference);
        }
    } else if is(b"event-listener")
        && holds(&tag.attribute(b"href").unwrap_or_default(), b"vnd.sun.star.script:")
    {
        found.insert(Condition::Macro);
    }
}

/// Whether a relationship loads something from elsewhere as soon as the document is opened.
fn is_far_relationship(tag: &Tag<'_>) -> bool {
    let mode = tag.attribute(b"TargetMode").unwrap_or_default();
    let target = tag.attribute(b"Target").unwrap_or_default();
    if begins_with(&target, &HARMFUL_SCHEMES) {
        return true;
    }
    let kind = tag.attribute(b"Type").unwrap_or_default().trim_ascii().to_ascii_lowercase();
    let kind = kind.rsplit(|octet| *octet == b'/').next().unwrap_or_default();
    let is_ordinary = ORDINARY.contains(&kind);
    // A template on the own machine is named by every document that was made of one.
    let is_near = kind == b"attachedtemplate" && !begins_with(&target, &FAR_SCHEMES);
    let is_near = is_near || begins_with(&target, &[b"file:///"]) && !holds(&target, b"\\\\");
    mode.trim_ascii().eq_ignore_ascii_case(b"external") && !is_ordinary && !is_near
}

fn begins_with(place: &[u8], beginnings: &[&[u8]]) -> bool {
    let place = place.trim_ascii_start();
    beginnings.iter().any(|begin| place.get(..begin.len()).is_some_and(|own| own.eq_ignore_ascii_case(begin)))
}
