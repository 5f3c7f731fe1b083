//! 7-Zip.
//!
//! The crate reads the structure and decompresses. Checksums are not looked at: a reader gives what it has in spite of a
//! wrong one, and a wrong one of the first member must not hide the others.

use std::io::Cursor;
use std::ops::ControlFlow;

use sevenz_rust2::{Archive, Block, BlockDecoder, EncoderMethod, Error, Password};

use super::Condition;
use super::names::Names;
use super::octets::{index, le64};
use super::opening::Opening;
use super::unpack::fill;

/// Octets that are made at once. What a decoder makes in the call in which it fails is lost.
const CHUNK_BYTES: usize = 4 << 10;
/// Octets of the header before which the others stand.
const START_BYTES: usize = 32;
/// What decompresses here.
const METHODS: [&[u8]; 14] = [
    EncoderMethod::ID_COPY,
    EncoderMethod::ID_LZMA,
    EncoderMethod::ID_LZMA2,
    EncoderMethod::ID_BZIP2,
    EncoderMethod::ID_DELTA,
    EncoderMethod::ID_BCJ2,
    EncoderMethod::ID_BCJ_X86,
    EncoderMethod::ID_BCJ_ARM,
    EncoderMethod::ID_BCJ_ARM64,
    EncoderMethod::ID_BCJ_ARM_THUMB,
    EncoderMethod::ID_BCJ_PPC,
    EncoderMethod::ID_BCJ_IA64,
    EncoderMethod::ID_BCJ_SPARC,
    EncoderMethod::ID_BCJ_RISCV,
];

/// Visit the members of a 7-Zip archive.
pub(super) fn open(octets: &[u8], opening: &mut Opening<'_, '_>) -> ControlFlow<()> {
    let window = opening.bounds().hold_window();
    let flow = within(octets, index(window >> 10).unwrap_or_default(), opening);
    opening.bounds().release_window(window);
    flow
}

fn within(octets: &[u8], window_kb: usize, opening: &mut Opening<'_, '_>) -> ControlFlow<()> {
    let password = Password::empty();
    let mut source = Cursor::new(octets);
    let mut archive = match Archive::read_with_memory_limit(&mut source, &password, window_kb) {
        Ok(archive) => archive,
        Err(error) => {
            opening.found(match error {
                Error::UnsupportedCompressionMethod(_) if has_encrypted_header(octets) => {
                    Condition::EncryptedFile
                }
                error => condition(&error),
            });
            return ControlFlow::Continue(());
        }
    };
    archive.blocks.iter_mut().for_each(|block| block.has_crc = false);
    archive.files.iter_mut().for_each(|file| file.has_crc = false);
    let mut room = opening.room(octets.len());
    for (number, block) in archive.blocks.iter().enumerate() {
        let mut decoder =
            BlockDecoder::new_with_memory_limit(1, window_kb, number, &archive, &password, &mut source);
        decoder.set_thread_count(1);
        if let Some(why) = closed(block) {
            for file in decoder.entries() {
                opening.closed(&name(&file.name), why)?;
            }
            continue;
        }
        let mut flow = ControlFlow::Continue(());
        let read = decoder.for_each_entries(&mut |file, reader| {
            if !file.has_stream {
                return Ok(true);
            }
            let mut member = Vec::new();
            let filled = fill(reader, &mut member, room, CHUNK_BYTES);
            room = room.saturating_sub(member.len());
            opening.made(member.len());
            let goes_on = matches!(filled, Ok(None));
            match filled {
                Ok(None) => {}
                Ok(Some(fault)) => opening.found(fault),
                Err(_) => opening.found(Condition::BrokenFile),
            }
            flow = opening.member(&name(&file.name), &member);
            Ok(goes_on && flow.is_continue())
        });
        flow?;
        if let Err(error) = read {
            opening.found(condition(&error));
        }
    }
    for file in archive.files.iter().filter(|file| !file.has_stream && !file.is_directory) {
        opening.member(&name(&file.name), &[])?;
    }
    ControlFlow::Continue(())
}

fn name(name: &str) -> Names {
    let mut names = Names::default();
    names.add(name);
    names
}

/// Why a block does not open.
fn closed(block: &Block) -> Option<Condition> {
    let methods = || block.coders.iter().map(|coder| coder.encoder_method_id());
    if methods().any(|method| method == EncoderMethod::ID_AES256_SHA256) {
        return Some(Condition::EncryptedFile);
    }
    methods().any(|method| !METHODS.contains(&method)).then_some(Condition::UnknownArchive)
}

fn condition(error: &Error) -> Condition {
    match error {
        Error::MaxMemLimited { .. } => Condition::ArchiveLimits,
        Error::PasswordRequired | Error::MaybeBadPassword(_) => Condition::EncryptedFile,
        Error::UnsupportedCompressionMethod(_)
        | Error::Unsupported(_)
        | Error::UnsupportedVersion { .. }
        | Error::ExternalUnsupported => Condition::UnknownArchive,
        _ => Condition::BrokenFile,
    }
}

/// Whether what describes the encoded header names AES.
fn has_encrypted_header(octets: &[u8]) -> bool {
    let at = le64(octets, 12).and_then(index).and_then(|at| at.checked_add(START_BYTES));
    let header = at.and_then(|at| octets.get(at..)).unwrap_or_default();
    memchr::memmem::find(header, EncoderMethod::ID_AES256_SHA256).is_some()
}
