//! Documents that these tests write, and what is found in them.

mod any;
mod ole;
mod others;
mod package;
mod page;
mod pdf;
mod rtf;

use std::io::{Cursor, Write};
use std::ops::ControlFlow;

use super::super::{Conditions, OpenBounds, OpenLimits, open};
use crate::content::magic::real_type;
use crate::content::samples::program;
use crate::content::{Condition, RealType};

/// What was found in a file and in the files in it.
#[derive(Default)]
pub(super) struct Found {
    pub(super) members: Vec<(Vec<String>, Vec<u8>)>,
    pub(super) conditions: Conditions,
}

impl Found {
    fn look(&mut self, octets: &[u8], depth: u32, bounds: &mut OpenBounds) {
        let Some(real) = real_type(octets).filter(|_| depth < 8) else { return };
        let conditions = open(real, octets, bounds, &mut |bounds, member| {
            self.members.push((member.names.clone(), member.octets.to_vec()));
            self.look(&member.octets, depth + 1, bounds);
            ControlFlow::Continue(())
        });
        self.conditions.extend(conditions);
    }

    /// Whether one of the members holds these octets.
    pub(super) fn holds(&self, octets: &[u8]) -> bool {
        self.members.iter().any(|(_, member)| memchr::memmem::find(member, octets).is_some())
    }

    /// Whether one of the members is these octets, and is called so.
    pub(super) fn has(&self, name: &str, octets: &[u8]) -> bool {
        self.members.iter().any(|(names, member)| member == octets && names.iter().any(|own| own == name))
    }

    pub(super) fn conditions(&self) -> Vec<Condition> {
        self.conditions.iter().copied().collect()
    }
}

pub(super) fn looked(octets: &[u8]) -> Found {
    let mut found = Found::default();
    found.look(octets, 0, &mut OpenBounds::new(OpenLimits::default()));
    found
}

/// A compound file with these streams.
pub(super) fn compound(streams: &[(&str, &[u8])]) -> Vec<u8> {
    let mut file = cfb::CompoundFile::create_with_version(cfb::Version::V3, Cursor::new(Vec::new())).unwrap();
    for (path, content) in streams {
        if let Some(parent) = std::path::Path::new(path).parent() {
            file.create_storage_all(parent).unwrap();
        }
        file.create_stream(path).unwrap().write_all(content).unwrap();
    }
    file.flush().unwrap();
    file.into_inner().into_inner()
}

pub(super) fn utf16(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_le_bytes).collect()
}

/// A ZIP archive of stored entries: checksums are none, because nothing here reads them.
pub(super) fn zip(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let (mut file, mut directory) = (Vec::new(), Vec::new());
    for (name, content) in entries {
        let at = u32::try_from(file.len()).unwrap().to_le_bytes();
        let sizes = u32::try_from(content.len()).unwrap().to_le_bytes();
        let length = u16::try_from(name.len()).unwrap().to_le_bytes();
        let common =
            [&[20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0][..], &sizes, &sizes, &length, &[0, 0]].concat();
        file.extend([b"PK\x03\x04", &common[..], name.as_bytes(), content].concat());
        directory.extend([b"PK\x01\x02\x14\0", &common[..], &[0; 10], &at, name.as_bytes()].concat());
    }
    let count = u16::try_from(entries.len()).unwrap().to_le_bytes();
    let size = u32::try_from(directory.len()).unwrap().to_le_bytes();
    let at = u32::try_from(file.len()).unwrap().to_le_bytes();
    [file, directory, [b"PK\x05\x06\0\0\0\0", &count[..], &count, &size, &at, &[0, 0]].concat()].concat()
}

/// A file as an embedded package has it.
pub(super) fn native(name: &str, content: &[u8]) -> Vec<u8> {
    let size = u32::try_from(content.len()).unwrap().to_le_bytes();
    let place = u32::try_from(name.len() + 1).unwrap().to_le_bytes();
    let name = [name.as_bytes(), b"\0"].concat();
    let inner = [&[2, 0], &name[..], &name, &[0, 0, 3, 0], &place, &name, &size, content].concat();
    [&u32::try_from(inner.len()).unwrap().to_le_bytes()[..], &inner].concat()
}

/// Text compressed as modules are, without copies.
pub(super) fn vba(text: &[u8]) -> Vec<u8> {
    let mut container = vec![1];
    for chunk in text.chunks(3_000) {
        let mut tokens = Vec::new();
        for eight in chunk.chunks(8) {
            tokens.push(0);
            tokens.extend_from_slice(eight);
        }
        let header = 0xb000 | u16::try_from(tokens.len() - 1).unwrap();
        container.extend_from_slice(&header.to_le_bytes());
        container.extend(tokens);
    }
    container
}
