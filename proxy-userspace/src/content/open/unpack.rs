//! Decompression within a given room: what fits comes, also where the compressed octets are damaged.

use std::io::{self, ErrorKind, Read};

use flate2::{Decompress, FlushDecompress, Status};
use lzma_rust2::{LzmaReader, XzReader, lzma_get_memory_usage_by_props};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

use super::Condition;
use super::octets::{index, le16, le32, slice};

/// The window of a decoder: what it looks back into. The largest preset of xz has 64 MiB, and the decoder some more.
pub(super) const WINDOW_BYTES_MAX: u64 = 96 << 20;
/// Octets that are made at once.
const CHUNK_BYTES: usize = 32 << 10;
/// Octets that are made one by one before an error. A chunk of xz makes as many.
const LAST_BYTES_MAX: usize = 2 << 20;
/// Octets of a chunk of xz, compressed.
const XZ_CHUNK_BYTES: u64 = 64 << 10;

/// How octets were compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Method {
    /// RFC 1951.
    Deflate,
    /// bzip2, all streams.
    Bzip2,
    /// xz, all streams.
    Xz,
    /// Zstandard, all frames.
    Zstd,
    /// LZMA with the header of the `.lzma` format.
    LzmaAlone,
    /// LZMA as ZIP has it; the length, where nothing marks the end.
    LzmaInZip(Option<u64>),
}

/// What was decompressed.
#[derive(Clone, Debug, Default)]
pub(super) struct Unpacked {
    /// The octets.
    pub(super) octets: Vec<u8>,
    /// Compressed octets that were read; all of them, but for [`Method::Deflate`].
    pub(super) consumed: usize,
    /// Why there are not all: [`Condition::BrokenFile`] or [`Condition::ArchiveLimits`].
    pub(super) fault: Option<Condition>,
}

impl Method {
    /// Decompress, and make no more than `room` octets.
    pub(super) fn unpack(self, packed: &[u8], room: usize) -> Unpacked {
        match self {
            Self::Deflate => Inflater::new().member(packed, room),
            _ => read_all(&|is_again| self.reader(packed, is_again), packed.len(), room),
        }
    }

    /// A reader from the beginning on. The second time it fails where the octets end rather than before: a chunk of xz that
    /// is cut is lost otherwise.
    fn reader(self, packed: &[u8], is_again: bool) -> io::Result<Box<dyn Read + '_>> {
        let window_kb = u32::try_from(WINDOW_BYTES_MAX >> 10).unwrap_or(u32::MAX);
        Ok(match self {
            Self::Deflate => Box::new(flate2::bufread::DeflateDecoder::new(packed)),
            Self::Bzip2 => Box::new(bzip2::bufread::MultiBzDecoder::new(packed)),
            Self::Xz => {
                let filling = if is_again { XZ_CHUNK_BYTES } else { 0 };
                let filled = packed.chain(io::repeat(0).take(filling));
                Box::new(XzReader::new_mem_limit(filled, true, window_kb))
            }
            Self::Zstd => Box::new(ZstdFrames::new(packed)),
            Self::LzmaAlone => {
                let mut reader = LzmaReader::new_mem_limit(packed, window_kb, None)?;
                reader.set_defer_errors(true);
                Box::new(reader)
            }
            Self::LzmaInZip(length) => {
                let properties_bytes = le16(packed, 2).unwrap_or_default();
                let properties = slice(packed, 4, usize::from(properties_bytes)).unwrap_or_default();
                let (Some(first), Some(dictionary)) = (properties.first(), le32(properties, 1)) else {
                    return Err(ErrorKind::InvalidData.into());
                };
                if lzma_get_memory_usage_by_props(dictionary, *first)? > window_kb {
                    return Err(ErrorKind::OutOfMemory.into());
                }
                let behind = packed.get(4 + usize::from(properties_bytes)..).unwrap_or_default();
                let length = length.unwrap_or(u64::MAX);
                let mut reader = LzmaReader::new_with_props(behind, length, *first, dictionary, None)?;
                reader.set_defer_errors(true);
                Box::new(reader)
            }
        })
    }
}

/// Read all that fits into `room`. After an error the last octets are read again, one by one: a reader that fails keeps for
/// itself what it made in the same call.
fn read_all<'p>(
    open: &dyn Fn(bool) -> io::Result<Box<dyn Read + 'p>>,
    consumed: usize,
    room: usize,
) -> Unpacked {
    let mut octets = Vec::new();
    let fault = match open(false).and_then(|mut reader| fill(&mut reader, &mut octets, room, CHUNK_BYTES)) {
        Ok(fault) => fault,
        Err(error) if error.kind() == ErrorKind::OutOfMemory => Some(Condition::ArchiveLimits),
        Err(_) => {
            let whole = octets.len();
            let room = room.min(whole.saturating_add(LAST_BYTES_MAX));
            let _ = open(true).and_then(|mut reader| {
                io::copy(&mut reader.by_ref().take(whole as u64), &mut io::sink())?;
                fill(&mut reader, &mut octets, room, 1)
            });
            Some(Condition::BrokenFile)
        }
    };
    Unpacked { octets, consumed, fault }
}

/// Read onto `octets` until the end, or until they are `room`.
pub(super) fn fill(
    reader: &mut dyn Read,
    octets: &mut Vec<u8>,
    room: usize,
    chunk_bytes: usize,
) -> io::Result<Option<Condition>> {
    let mut chunk = [0; CHUNK_BYTES];
    loop {
        let left = room.saturating_sub(octets.len());
        // Where no room is left, one octet shows whether there is more.
        let wanted = left.clamp(1, chunk_bytes.min(CHUNK_BYTES));
        let read = match reader.read(chunk.get_mut(..wanted).unwrap_or_default()) {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            read => read?,
        };
        if read == 0 {
            return Ok(None);
        }
        if left == 0 {
            return Ok(Some(Condition::ArchiveLimits));
        }
        grow(octets, chunk.get(..read).unwrap_or_default());
    }
}

/// Octets by which a large vector grows. To double it would hold twice what is needed.
const GROWTH_BYTES_MAX: usize = 8 << 20;

fn grow(octets: &mut Vec<u8>, more: &[u8]) {
    if octets.capacity().saturating_sub(octets.len()) < more.len() {
        octets.reserve_exact(octets.len().clamp(more.len(), GROWTH_BYTES_MAX.max(more.len())));
    }
    octets.extend_from_slice(more);
}

/// Decompresses deflate. It is not a reader: what came before an error is there, to the octet.
pub(super) struct Inflater(Decompress);

impl Inflater {
    pub(super) fn new() -> Self {
        Self(Decompress::new(false))
    }

    /// Begins with a dictionary, as the blocks of a cabinet do.
    pub(super) fn set_dictionary(&mut self, dictionary: &[u8]) {
        if !dictionary.is_empty() {
            let _ = self.0.set_dictionary(dictionary);
        }
    }

    /// One stream.
    pub(super) fn member(mut self, packed: &[u8], room: usize) -> Unpacked {
        let mut octets = Vec::new();
        let mut chunk = [0; CHUNK_BYTES];
        let fault = loop {
            let (seen, made) = (self.0.total_in(), self.0.total_out());
            let rest = index(seen).and_then(|seen| packed.get(seen..)).unwrap_or_default();
            let left = room.saturating_sub(octets.len());
            let out = chunk.get_mut(..left.clamp(1, CHUNK_BYTES)).unwrap_or_default();
            let status = self.0.decompress(rest, out, FlushDecompress::None);
            let new = index(self.0.total_out().saturating_sub(made)).unwrap_or_default();
            if new > 0 && left == 0 {
                break Some(Condition::ArchiveLimits);
            }
            grow(&mut octets, chunk.get(..new).unwrap_or_default());
            match status {
                Ok(Status::StreamEnd) => break None,
                Ok(_) if new > 0 || self.0.total_in() > seen => {}
                Ok(_) | Err(_) => break Some(Condition::BrokenFile),
            }
        };
        let consumed = index(self.0.total_in()).unwrap_or(usize::MAX).min(packed.len());
        Unpacked { octets, consumed, fault }
    }
}

/// The magic numbers of frames that hold nothing, but for their last four bits (RFC 8878 section 3.1.2).
const ZSTD_SKIPPABLE: u32 = 0x184d_2a50;

/// Reads Zstandard frames, one behind the other.
struct ZstdFrames<'p> {
    rest: &'p [u8],
    decoder: FrameDecoder,
    is_within: bool,
    is_damaged: bool,
}

/// The last block of a frame, empty, and a checksum. It has a decoder give what it keeps for later blocks.
const ZSTD_END: [u8; 7] = [1, 0, 0, 0, 0, 0, 0];

impl<'p> ZstdFrames<'p> {
    fn new(packed: &'p [u8]) -> Self {
        let mut decoder = FrameDecoder::new();
        decoder.set_max_window_size(WINDOW_BYTES_MAX);
        Self { rest: packed, decoder, is_within: false, is_damaged: false }
    }

    fn next_frame(&mut self) -> io::Result<()> {
        use ruzstd::decoding::errors::FrameDecoderError;

        if le32(self.rest, 0).is_some_and(|magic| magic & !15 == ZSTD_SKIPPABLE) {
            let length = le32(self.rest, 4).ok_or(ErrorKind::UnexpectedEof)?;
            let end = index(u64::from(length) + 8).ok_or(ErrorKind::UnexpectedEof)?;
            self.rest = self.rest.get(end..).ok_or(ErrorKind::UnexpectedEof)?;
            return Ok(());
        }
        self.decoder.reset(&mut self.rest).map_err(|error| match error {
            FrameDecoderError::WindowSizeTooBig { .. } => ErrorKind::OutOfMemory,
            _ => ErrorKind::InvalidData,
        })?;
        self.is_within = true;
        Ok(())
    }
}

impl Read for ZstdFrames<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        loop {
            if !self.is_within {
                if self.rest.is_empty() {
                    return Ok(0);
                }
                self.next_frame()?;
                continue;
            }
            let read = self.decoder.read(out)?;
            if read > 0 {
                return Ok(read);
            }
            if self.is_damaged {
                return Err(ErrorKind::InvalidData.into());
            }
            if self.decoder.is_finished() {
                self.is_within = false;
                continue;
            }
            // A block is 128 KiB at most.
            let one = BlockDecodingStrategy::UptoBlocks(1);
            if self.decoder.decode_blocks(&mut self.rest, one).is_err() {
                self.is_damaged = true;
                let one = BlockDecodingStrategy::UptoBlocks(1);
                self.decoder
                    .decode_blocks(&mut ZSTD_END.as_slice(), one)
                    .map_err(|_| ErrorKind::InvalidData)?;
            }
        }
    }
}
