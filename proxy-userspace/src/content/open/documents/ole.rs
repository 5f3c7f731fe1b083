//! What the streams of a compound file mean: documents of Office until 2003, mails of Outlook, macros, embedded files.

use std::borrow::Cow;
use std::collections::BTreeMap;

use memchr::memmem;

use super::compound::{Compound, Entry, EntryKind};
use super::inflate::inflated;
use super::octets::{latin, le16, le32, length, part, until_zero, utf16};
use super::{Opening, vba, worksheet};
use crate::content::Condition;
use crate::content::magic::OLE;

/// Storages and streams that only a document with macros has.
const MACRO_NAMES: [&str; 4] = ["VBA", "_VBA_PROJECT", "_VBA_PROJECT_CUR", "Macros"];
/// Streams that only an encrypted document has.
const ENCRYPTION_NAMES: [&str; 2] = ["EncryptedPackage", "EncryptionInfo"];
/// Word's mark of an encrypted document, at octet 10 of its stream ([MS-DOC] section 2.5.2).
const WORD_ENCRYPTED: u16 = 0x100;
/// PowerPoint's mark of one, at octet 12 of "Current User" ([MS-PPT] section 2.3.2).
const POWERPOINT_ENCRYPTED: u32 = 0xf3d1_c4df;
/// The record of PowerPoint in which an embedded compound file stands ([MS-PPT] section 2.10.34).
const POWERPOINT_OBJECT: [u8; 2] = [0x11, 0x10];
/// Objects of one presentation.
const POWERPOINT_OBJECTS_MAX: usize = 1_000;
/// Characters of the place of a template.
const TEMPLATE_CHARS_MAX: usize = 300;
/// The name of a property's stream in a mail of Outlook, before its number; the content of an attachment; its names: the
/// long one, the short one, the one that is shown.
const PROPERTY: &str = "__substg1.0_";
const ATTACHMENT: &str = "__substg1.0_3701";
const ATTACHMENT_NAMES: [&str; 3] = ["3707", "3704", "3001"];
/// Octets of a name.
const NAME_BYTES_MAX: usize = 8_192;

/// Open a compound file, or a worksheet that stands alone.
pub(super) fn open(octets: &[u8], opening: &mut Opening<'_, '_>) {
    if !octets.starts_with(&OLE) {
        worksheet::conditions(octets).into_iter().for_each(|found| opening.found(found));
        return;
    }
    // What the allocation and the streams of small sectors take.
    if !opening.takes(octets.len()) {
        return;
    }
    let Some(file) = Compound::new(octets) else {
        opening.found(Condition::BrokenFile);
        return;
    };
    let modules = modules(&file, opening);
    let attachments = attachment_names(&file, opening);
    for entry in file.entries.iter().flatten() {
        if opening.is_ended() {
            return;
        }
        if MACRO_NAMES.iter().any(|name| entry.is_called(name)) {
            opening.found(Condition::Macro);
        }
        if ENCRYPTION_NAMES.iter().any(|name| entry.is_called(name)) {
            opening.found(Condition::EncryptedFile);
        }
        if entry.kind == EntryKind::Stream && opening.takes(file.size(entry)) {
            let stream = file.stream(entry);
            meaning(entry, &stream, opening);
            texts(entry, &stream, &modules, opening);
            let is_attachment = entry.name.to_ascii_lowercase().starts_with(ATTACHMENT);
            let names = entry.parent.filter(|_| is_attachment).and_then(|storage| attachments.get(&storage));
            let names = names.into_iter().flatten().map(String::as_str).chain([entry.name.as_str()]);
            let names = names.collect::<Vec<_>>();
            opening.taken(&names, Vec::new(), Cow::Owned(stream));
        }
    }
}

/// What the directories of modules say.
fn modules(file: &Compound<'_>, opening: &mut Opening<'_, '_>) -> Vec<(String, usize)> {
    let mut modules = Vec::new();
    let directories = file
        .entries
        .iter()
        .flatten()
        .filter(|entry| entry.kind == EntryKind::Stream && entry.is_called("dir"));
    for entry in directories.take(16) {
        if !opening.takes(file.size(entry)) {
            break;
        }
        let stream = file.stream(entry);
        if let Some(directory) = vba::decompressed(&stream, opening.room(stream.len()))
            && opening.takes(directory.len())
        {
            modules.append(&mut vba::modules(&directory));
        }
    }
    modules
}

/// The texts of the modules in a stream, as members.
fn texts(entry: &Entry, stream: &[u8], modules: &[(String, usize)], opening: &mut Opening<'_, '_>) {
    let named = modules.iter().filter(|(name, _)| entry.is_called(name)).map(|(_, at)| *at);
    let mut starts = named.chain(vba::starts(stream)).take(256).collect::<Vec<_>>();
    starts.sort_unstable();
    starts.dedup();
    for at in starts {
        let container = stream.get(at..).unwrap_or_default();
        let Some(text) = vba::decompressed(container, opening.room(container.len())) else { continue };
        if !opening.takes(text.len()) {
            return;
        }
        opening.found(Condition::Macro);
        let name = vba::own_name(&text).unwrap_or_else(|| entry.name.clone());
        opening.taken(&[&format!("{name}.vba")], Vec::new(), Cow::Owned(text));
    }
}

/// What a stream means by its name.
fn meaning(entry: &Entry, stream: &[u8], opening: &mut Opening<'_, '_>) {
    if entry.is_called("Workbook") || entry.is_called("Book") {
        worksheet::conditions(stream).into_iter().for_each(|found| opening.found(found));
    }
    if entry.is_called("WordDocument") && le16(stream, 10).is_some_and(|flags| flags & WORD_ENCRYPTED != 0) {
        opening.found(Condition::EncryptedFile);
    }
    if entry.is_called("Current User") && le32(stream, 12) == Some(POWERPOINT_ENCRYPTED) {
        opening.found(Condition::EncryptedFile);
    }
    if (entry.is_called("1Table") || entry.is_called("0Table")) && has_far_template(stream) {
        opening.found(Condition::ExternalReference);
    }
    if entry.is_called("Ole10Native") {
        package(stream.get(4..).unwrap_or_default(), opening);
    }
    if entry.is_called("PowerPoint Document") {
        presentation(stream, opening);
    }
}

/// Whether a template's place in Word's table stream is on another machine.
fn has_far_template(stream: &[u8]) -> bool {
    ["http://", "https://", "\\\\"].iter().any(|scheme| {
        let needle = scheme.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<_>>();
        memmem::find_iter(stream, &needle).take(1_000).any(|at| {
            let place = utf16(part(stream, at, TEMPLATE_CHARS_MAX * 2)).to_ascii_lowercase();
            let end = place.find(|c: char| c.is_control() || c == ' ').unwrap_or(place.len());
            place
                .get(..end)
                .is_some_and(|place| [".dot", ".dotm", ".dotx"].iter().any(|end| place.ends_with(end)))
        })
    })
}

/// A file that was embedded as a package: label, name, place, octets. Where the fields are none, all of it is the file.
pub(super) fn package(native: &[u8], opening: &mut Opening<'_, '_>) {
    let Some((names, content)) = package_fields(native) else {
        opening.member(&["package"], native);
        return;
    };
    let names = names.iter().map(String::as_str).collect::<Vec<_>>();
    opening.member(&names, content);
}

fn package_fields(native: &[u8]) -> Option<(Vec<String>, &[u8])> {
    let (label, rest) = until_zero(native.get(2..)?)?;
    let (name, rest) = until_zero(rest)?;
    let place_length = length(le32(rest, 4)?);
    let place = part(rest, 8, place_length);
    let at = 8usize.checked_add(place_length)?;
    let size = length(le32(rest, at)?);
    let content = part(rest, at.checked_add(4)?, size);
    // Behind the octets the three texts may follow once more, in UTF-16, each with its length.
    let mut names = [label, name, until_zero(place).map_or(place, |(place, _)| place)].map(latin).to_vec();
    let mut behind = rest.get(at.checked_add(4)?.saturating_add(content.len())..).unwrap_or_default();
    for _ in 0..3 {
        let Some(characters) = le32(behind, 0).map(length) else { break };
        let octets = part(behind, 4, characters.saturating_mul(2));
        names.push(utf16(octets));
        behind = behind.get(octets.len().saturating_add(4)..).unwrap_or_default();
    }
    names.retain(|name| !name.is_empty());
    names.dedup();
    (!content.is_empty()).then_some((names, content))
}

/// Embedded compound files of a presentation, its macros among them.
fn presentation(stream: &[u8], opening: &mut Opening<'_, '_>) {
    let places = memmem::find_iter(stream, &POWERPOINT_OBJECT).filter_map(|at| at.checked_sub(2));
    for at in places.take(POWERPOINT_OBJECTS_MAX) {
        let content =
            part(stream, at.saturating_add(8), length(le32(stream, at.saturating_add(4)).unwrap_or(0)));
        match le16(stream, at) {
            Some(0x10) => {
                let packed = content.get(4..).unwrap_or_default();
                if packed.first() == Some(&0x78)
                    && let Some(octets) = inflated(packed, opening)
                {
                    opening.taken(&["object"], Vec::new(), Cow::Owned(octets));
                }
            }
            Some(0) if content.starts_with(&OLE) => opening.member(&["object"], content),
            _ => {}
        }
    }
}

/// The names of attachments, by the storages in which they stand: properties of [MS-OXMSG].
fn attachment_names(file: &Compound<'_>, opening: &mut Opening<'_, '_>) -> BTreeMap<usize, Vec<String>> {
    let mut names: BTreeMap<usize, Vec<String>> = BTreeMap::new();
    for property in file.entries.iter().flatten().filter(|property| property.kind == EntryKind::Stream) {
        let name = property.name.to_ascii_lowercase();
        let tag = name.strip_prefix(PROPERTY).unwrap_or_default();
        let is_name = ATTACHMENT_NAMES.iter().any(|wanted| tag.starts_with(wanted));
        let Some(storage) = property.parent.filter(|_| is_name) else { continue };
        let size = file.size(property);
        let of_storage = names.entry(storage).or_default();
        if of_storage.len() < ATTACHMENT_NAMES.len() && size <= NAME_BYTES_MAX && opening.takes(size) {
            let value = file.stream(property);
            of_storage.push(if tag.ends_with("001f") { utf16(&value) } else { latin(&value) });
        }
    }
    names
}
