//! TNEF, Outlook's `winmail.dat` ([MS-OXTNEF]): attachments with their names, messages inside, and the bodies.

mod lzfu;
mod props;

use std::borrow::Cow;

use self::props::{Props, Value, prop};
use super::Opening;
use crate::content::Condition;

const SIGNATURE: [u8; 4] = [0x78, 0x9f, 0x3e, 0x22];
/// Signature and key.
const HEADER_BYTES: usize = 6;
/// Octets before a message that is an attachment: the interface's identifier.
const INTERFACE_BYTES: usize = 16;
/// Names of one attachment. It has five properties that name it.
const NAMES_MAX: usize = 20;

/// Identifiers of attributes ([MS-OXTNEF] section 2.1.3), with their types.
mod attribute {
    pub(super) const BODY: u32 = 0x0002_800c;
    pub(super) const MESSAGE_PROPS: u32 = 0x0006_9003;
    pub(super) const ATTACH_BEGIN: u32 = 0x0006_9002;
    pub(super) const ATTACH_TITLE: u32 = 0x0001_8010;
    pub(super) const ATTACH_DATA: u32 = 0x0006_800f;
    pub(super) const ATTACH_META: u32 = 0x0006_8011;
    pub(super) const ATTACH_TRANSPORT_NAME: u32 = 0x0006_9001;
    pub(super) const ATTACH_PROPS: u32 = 0x0006_9005;
}

pub(super) fn is_tnef(octets: &[u8]) -> bool {
    octets.starts_with(&SIGNATURE)
}

/// An attachment in progress: its attributes come in any order.
#[derive(Default)]
struct Attachment<'a> {
    names: Vec<String>,
    types: Vec<String>,
    files: Vec<&'a [u8]>,
}

impl<'a> Attachment<'a> {
    fn name(&mut self, names: Vec<String>) {
        for name in names {
            if self.names.len() < NAMES_MAX && !self.names.contains(&name) {
                self.names.push(name);
            }
        }
    }

    fn add(&mut self, props: &Props<'a>, opening: &mut Opening<'_, '_>) {
        for (id, value) in &props.values {
            match (*id, value) {
                (
                    prop::ATTACH_FILENAME
                    | prop::ATTACH_LONG_FILENAME
                    | prop::ATTACH_TRANSPORT_NAME
                    | prop::DISPLAY_NAME
                    | prop::ATTACH_PATHNAME
                    | prop::ATTACH_LONG_PATHNAME,
                    Value::Octets(octets),
                ) => self.name(opening.name(octets.split(|octet| *octet == 0).next().unwrap_or_default())),
                (
                    prop::ATTACH_FILENAME
                    | prop::ATTACH_LONG_FILENAME
                    | prop::ATTACH_TRANSPORT_NAME
                    | prop::DISPLAY_NAME
                    | prop::ATTACH_PATHNAME
                    | prop::ATTACH_LONG_PATHNAME,
                    Value::Unicode(octets),
                ) => self.name(opening.cleaned(&props::unicode(octets))),
                (prop::ATTACH_MIME_TAG, Value::Octets(octets)) if self.types.len() < NAMES_MAX => {
                    let types = opening.name(octets);
                    self.types.extend(types.into_iter().map(|kind| kind.to_ascii_lowercase()));
                }
                (prop::ATTACH_MIME_TAG, Value::Unicode(octets)) if self.types.len() < NAMES_MAX => {
                    let types = opening.cleaned(&props::unicode(octets));
                    self.types.extend(types.into_iter().map(|kind| kind.to_ascii_lowercase()));
                }
                (prop::ATTACH_DATA, Value::Octets(octets)) => self.files.push(octets),
                (prop::ATTACH_DATA, Value::Object(octets)) => {
                    let inside = octets.get(INTERFACE_BYTES..).unwrap_or_default();
                    self.files.push(inside);
                    if !is_tnef(inside) {
                        self.files.push(octets);
                    }
                }
                _ => {}
            }
        }
    }

    fn give(self, opening: &mut Opening<'_, '_>) {
        let Self { names, types, files } = self;
        if files.is_empty() && !names.is_empty() {
            // A name alone: a link, or a file whose octets are missing.
            opening.give_typed(names, types, Cow::Borrowed(&[]));
            return;
        }
        for file in files {
            opening.give_typed(names.clone(), types.clone(), Cow::Borrowed(file));
        }
    }
}

pub(super) fn open(octets: &[u8], opening: &mut Opening<'_, '_>) {
    let mut rest = octets.get(HEADER_BYTES..).unwrap_or_default();
    let mut attachment = Attachment::default();
    // Writers fill the end with zeros.
    let is_filling = |octet: &u8| *octet == 0 || octet.is_ascii_whitespace();
    let filling = octets.iter().rev().take_while(|octet| is_filling(octet)).count();
    while !opening.is_over && rest.len() > filling {
        let Some(read) = Attribute::read(rest) else {
            opening.found(Condition::BrokenFile);
            break;
        };
        rest = read.rest;
        if read.is_cut {
            opening.found(Condition::BrokenFile);
        }
        match read.id {
            attribute::ATTACH_BEGIN => std::mem::take(&mut attachment).give(opening),
            attribute::ATTACH_TITLE | attribute::ATTACH_TRANSPORT_NAME => {
                let title = read.data.split(|octet| *octet == 0).next().unwrap_or_default();
                attachment.name(opening.name(title));
            }
            attribute::ATTACH_DATA | attribute::ATTACH_META => attachment.files.push(read.data),
            attribute::ATTACH_PROPS => attachment.add(&props(read.data, opening), opening),
            attribute::BODY => opening.give(Vec::new(), Cow::Borrowed(read.data)),
            attribute::MESSAGE_PROPS => bodies(&props(read.data, opening), opening),
            _ => {}
        }
    }
    attachment.give(opening);
}

fn props<'a>(octets: &'a [u8], opening: &mut Opening<'_, '_>) -> Props<'a> {
    let props = Props::read(octets);
    if !props.is_whole {
        opening.found(Condition::BrokenFile);
    }
    props
}

/// The bodies that a reader shows: text, HTML, and compressed RTF.
fn bodies(props: &Props<'_>, opening: &mut Opening<'_, '_>) {
    for (id, value) in &props.values {
        match (*id, value) {
            // An empty body.
            (prop::RTF_COMPRESSED, Value::Octets(octets)) if octets.len() < lzfu::HEADER_BYTES => {}
            (prop::RTF_COMPRESSED, Value::Octets(octets)) => {
                let room = opening.bounds.room(octets.len() as u64);
                match lzfu::decompressed(octets, room) {
                    Some(rtf) if opening.take(rtf.len()) => opening.give(Vec::new(), Cow::Owned(rtf)),
                    Some(_) => {}
                    None => opening.found(Condition::BrokenFile),
                }
            }
            (prop::BODY | prop::BODY_HTML, Value::Octets(octets) | Value::Unicode(octets)) => {
                opening.give(Vec::new(), Cow::Borrowed(octets));
            }
            _ => {}
        }
    }
}

/// Level, identifier, length, data, checksum. Readers do not look at the checksum.
struct Attribute<'a> {
    id: u32,
    data: &'a [u8],
    rest: &'a [u8],
    is_cut: bool,
}

impl<'a> Attribute<'a> {
    fn read(octets: &'a [u8]) -> Option<Self> {
        const CHECKSUM_BYTES: usize = 2;
        let (_, rest) = octets.split_first()?;
        let (id, rest) = rest.split_first_chunk::<4>()?;
        let (length, rest) = rest.split_first_chunk::<4>()?;
        let length = usize::try_from(u32::from_le_bytes(*length)).unwrap_or(usize::MAX);
        let (data, behind) = rest.split_at_checked(length).unwrap_or((rest, &[]));
        Some(Self {
            id: u32::from_le_bytes(*id),
            data,
            rest: behind.get(CHECKSUM_BYTES..).unwrap_or_default(),
            is_cut: length > rest.len(),
        })
    }
}
