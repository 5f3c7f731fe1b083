//! Archives that the tests write.

use std::io::Write;

use lzma_rust2::{LzmaOptions, LzmaWriter, XzOptions, XzWriter};
use ruzstd::encoding::{CompressionLevel, compress_to_vec};
use sevenz_rust2::encoder_options::{EncoderOptions, Lzma2Options};
use sevenz_rust2::{ArchiveEntry, ArchiveWriter, EncoderConfiguration, EncoderMethod};

use super::super::RealType;

/// An entry of a ZIP file, as its own header and the directory's may tell it.
#[derive(Clone)]
pub(in crate::content) struct ZipEntry {
    pub(in crate::content) name: Vec<u8>,
    pub(in crate::content) extra: Vec<u8>,
    pub(in crate::content) method: u16,
    pub(in crate::content) flags: u16,
    pub(in crate::content) packed: Vec<u8>,
    pub(in crate::content) unpacked: u32,
}

impl ZipEntry {
    pub(in crate::content) fn new(name: &str, content: &[u8], method: u16) -> Self {
        let packed = match method {
            8 => deflate(content),
            12 => bzip2(content),
            14 => {
                let alone = lzma_alone(content, true);
                [&[9, 20, 5, 0], &alone[..5], &alone[13..]].concat()
            }
            93 => zstd(content),
            95 => xz(content),
            _ => content.to_vec(),
        };
        let flags = if method == 14 { 2 } else { 0 };
        let unpacked = content.len() as u32;
        Self { name: name.into(), extra: Vec::new(), method, flags, packed, unpacked }
    }

    pub(in crate::content) fn local(&self) -> Vec<u8> {
        let mut octets = b"PK\x03\x04\x14\0".to_vec();
        octets.extend(self.flags.to_le_bytes());
        octets.extend(self.method.to_le_bytes());
        octets.extend([0; 8]);
        let length = if self.flags & 8 == 0 { self.packed.len() as u32 } else { 0 };
        octets.extend(length.to_le_bytes());
        octets.extend(if self.flags & 8 == 0 { self.unpacked } else { 0 }.to_le_bytes());
        octets.extend((self.name.len() as u16).to_le_bytes());
        octets.extend((self.extra.len() as u16).to_le_bytes());
        octets.extend(&self.name);
        octets.extend(&self.extra);
        octets
    }

    pub(in crate::content) fn central(&self, at: u32) -> Vec<u8> {
        let mut octets = b"PK\x01\x02\x14\0\x14\0".to_vec();
        octets.extend(self.flags.to_le_bytes());
        octets.extend(self.method.to_le_bytes());
        octets.extend([0; 8]);
        octets.extend((self.packed.len() as u32).to_le_bytes());
        octets.extend(self.unpacked.to_le_bytes());
        octets.extend((self.name.len() as u16).to_le_bytes());
        octets.extend((self.extra.len() as u16).to_le_bytes());
        octets.extend([0; 10]);
        octets.extend(at.to_le_bytes());
        octets.extend(&self.name);
        octets.extend(&self.extra);
        octets
    }
}

/// A ZIP file. Each entry has the header before its octets, and the one in the directory.
pub(in crate::content) fn zip_of(entries: &[(Option<ZipEntry>, Option<ZipEntry>)]) -> Vec<u8> {
    let (mut octets, mut directory) = (Vec::new(), Vec::new());
    let mut count = 0u16;
    for (local, central) in entries {
        let at = octets.len() as u32;
        if let Some(local) = local {
            octets.extend(local.local());
            octets.extend(&local.packed);
            if local.flags & 8 != 0 {
                octets.extend(b"PK\x07\x08\0\0\0\0");
                octets.extend((local.packed.len() as u32).to_le_bytes());
                octets.extend(local.unpacked.to_le_bytes());
            }
        }
        if let Some(central) = central {
            directory.extend(central.central(at));
            count += 1;
        }
    }
    let at = octets.len() as u32;
    octets.extend(&directory);
    octets.extend(b"PK\x05\x06\0\0\0\0");
    octets.extend(count.to_le_bytes());
    octets.extend(count.to_le_bytes());
    octets.extend((directory.len() as u32).to_le_bytes());
    octets.extend(at.to_le_bytes());
    octets.extend([0, 0]);
    octets
}

/// An honest ZIP file.
pub(in crate::content) fn zip(name: &str, content: &[u8], method: u16) -> Vec<u8> {
    let entry = ZipEntry::new(name, content, method);
    zip_of(&[(Some(entry.clone()), Some(entry))])
}

pub(in crate::content) fn deflate(content: &[u8]) -> Vec<u8> {
    let mut writer = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::best());
    writer.write_all(content).unwrap();
    writer.finish().unwrap()
}

pub(in crate::content) fn gzip(name: &str, content: &[u8]) -> Vec<u8> {
    let mut writer = flate2::GzBuilder::new().filename(name).write(Vec::new(), flate2::Compression::best());
    writer.write_all(content).unwrap();
    writer.finish().unwrap()
}

pub(in crate::content) fn bzip2(content: &[u8]) -> Vec<u8> {
    let mut writer = ::bzip2::write::BzEncoder::new(Vec::new(), ::bzip2::Compression::best());
    writer.write_all(content).unwrap();
    writer.finish().unwrap()
}

pub(in crate::content) fn xz(content: &[u8]) -> Vec<u8> {
    let mut writer = XzWriter::new(Vec::new(), XzOptions::with_preset(6)).unwrap();
    writer.write_all(content).unwrap();
    writer.finish().unwrap()
}

pub(in crate::content) fn lzma_alone(content: &[u8], has_mark: bool) -> Vec<u8> {
    let length = (!has_mark).then_some(content.len() as u64);
    let mut options = LzmaOptions::with_preset(6);
    options.dict_size = 1 << 20;
    let mut writer = LzmaWriter::new_use_header(Vec::new(), &options, length).unwrap();
    writer.write_all(content).unwrap();
    writer.finish().unwrap()
}

pub(in crate::content) fn zstd(content: &[u8]) -> Vec<u8> {
    compress_to_vec(content, CompressionLevel::Fastest)
}

pub(in crate::content) fn seven_zip(members: &[(&str, &[u8])], method: EncoderMethod) -> Vec<u8> {
    let mut writer = ArchiveWriter::new(std::io::Cursor::new(Vec::new())).unwrap();
    let mut options = Lzma2Options::from_level(6);
    options.set_dictionary_size(1 << 20);
    let configuration = EncoderConfiguration::new(method);
    let configuration = if method.id() == EncoderMethod::ID_LZMA2 {
        configuration.with_options(EncoderOptions::Lzma2(options))
    } else {
        configuration
    };
    writer.set_content_methods(vec![configuration]);
    for (name, content) in members {
        writer.push_archive_entry(ArchiveEntry::new_file(name), Some(*content)).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

/// One header of tar.
pub(in crate::content) fn tar_header(name: &[u8], length: usize, kind: u8) -> Vec<u8> {
    let mut block = vec![0; 512];
    block[..name.len()].copy_from_slice(name);
    block[100..108].copy_from_slice(b"0000644\0");
    block[124..136].copy_from_slice(format!("{length:011o}\0").as_bytes());
    block[148..156].copy_from_slice(b"        ");
    block[156] = kind;
    block[257..265].copy_from_slice(b"ustar\x0000");
    let sum = block.iter().map(|octet| u32::from(*octet)).sum::<u32>();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    block
}

/// A member of tar.
pub(in crate::content) fn tar_member(name: &[u8], content: &[u8], kind: u8) -> Vec<u8> {
    let mut octets = tar_header(name, content.len(), kind);
    octets.extend(content);
    octets.resize(octets.len().next_multiple_of(512), 0);
    octets
}

pub(in crate::content) fn tar(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut octets = members
        .iter()
        .flat_map(|(name, content)| tar_member(name.as_bytes(), content, b'0'))
        .collect::<Vec<_>>();
    octets.resize(octets.len() + 1024, 0);
    octets
}

pub(in crate::content) fn ar(name: &str, content: &[u8]) -> Vec<u8> {
    let mut octets = b"!<arch>\n".to_vec();
    octets.extend(format!("{name:<16}{:<32}{:<10}`\n", "", content.len()).as_bytes());
    octets.extend(content);
    if !content.len().is_multiple_of(2) {
        octets.push(b'\n');
    }
    octets
}

pub(in crate::content) fn cpio(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut octets = Vec::new();
    for (name, content) in members.iter().copied().chain([("TRAILER!!!", &b""[..])]) {
        octets.extend(b"070701");
        let numbers = [1, 0o100_644, 0, 0, 1, 0, content.len(), 0, 0, 0, 0, name.len() + 1, 0];
        numbers.iter().for_each(|number| octets.extend(format!("{number:08x}").as_bytes()));
        octets.extend(name.as_bytes());
        octets.push(0);
        octets.resize(octets.len().next_multiple_of(4), 0);
        octets.extend(content);
        octets.resize(octets.len().next_multiple_of(4), 0);
    }
    octets
}

/// A package with a cpio archive in gzip.
pub(in crate::content) fn rpm(name: &str, content: &[u8]) -> Vec<u8> {
    let mut octets = b"\xed\xab\xee\xdb\x03\0".to_vec();
    octets.resize(96, 0);
    for _ in 0..2 {
        octets.extend([0x8e, 0xad, 0xe8, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 8]);
        octets.extend([0; 24]);
    }
    octets.extend(gzip("", &cpio(&[(name, content)])));
    octets
}

/// How a cabinet is compressed: as it stands, MSZIP, or LZX in blocks that are not compressed.
#[derive(Clone, Copy)]
pub(in crate::content) enum CabMethod {
    Stored,
    MsZip,
    Lzx,
}

pub(in crate::content) fn cab(members: &[(&str, &[u8])], method: CabMethod) -> Vec<u8> {
    let folder = members.iter().flat_map(|(_, content)| content.iter().copied()).collect::<Vec<_>>();
    let mut blocks = Vec::new();
    let mut count = 0u16;
    let mut before: &[u8] = &[];
    for (number, block) in folder.chunks(32 << 10).enumerate() {
        let packed = match method {
            CabMethod::Stored => block.to_vec(),
            CabMethod::MsZip => {
                let mut compress = flate2::Compress::new(flate2::Compression::best(), false);
                if !before.is_empty() {
                    compress.set_dictionary(before).unwrap();
                }
                let mut packed = vec![0; block.len() + 1_024];
                compress.compress(block, &mut packed, flate2::FlushCompress::Finish).unwrap();
                packed.truncate(compress.total_out() as usize);
                [b"CK", packed.as_slice()].concat()
            }
            CabMethod::Lzx => lzx_block(block, number == 0),
        };
        blocks.extend([0; 4]);
        blocks.extend((packed.len() as u16).to_le_bytes());
        blocks.extend((block.len() as u16).to_le_bytes());
        blocks.extend(packed);
        before = block;
        count += 1;
    }
    let mut files = Vec::new();
    let mut at = 0u32;
    for (name, content) in members {
        files.extend((content.len() as u32).to_le_bytes());
        files.extend(at.to_le_bytes());
        files.extend([0; 8]);
        files.extend(name.as_bytes());
        files.push(0);
        at += content.len() as u32;
    }
    let data_at = 36 + 8 + files.len() as u32;
    let mut octets = b"MSCF\0\0\0\0".to_vec();
    octets.extend((data_at + blocks.len() as u32).to_le_bytes());
    octets.extend([0; 4]);
    octets.extend(44u32.to_le_bytes());
    octets.extend([0, 0, 0, 0, 3, 1, 1, 0]);
    octets.extend((members.len() as u16).to_le_bytes());
    octets.extend([0; 6]);
    octets.extend(data_at.to_le_bytes());
    octets.extend(count.to_le_bytes());
    let compression: u16 = match method {
        CabMethod::Stored => 0,
        CabMethod::MsZip => 1,
        CabMethod::Lzx => 3 | 15 << 8,
    };
    octets.extend(compression.to_le_bytes());
    octets.extend(files);
    octets.extend(blocks);
    octets
}

/// LZX: in the first block one bit says that no calls are translated. Then: three bits of kind (not compressed), 24 bits of
/// length, and the last three offsets.
fn lzx_block(block: &[u8], is_first: bool) -> Vec<u8> {
    let mut bits = String::new();
    if is_first {
        bits.push('0');
    }
    bits.push_str(&format!("011{:024b}", block.len()));
    while !bits.len().is_multiple_of(16) {
        bits.push('0');
    }
    let mut packed = Vec::new();
    for word in bits.as_bytes().chunks(16) {
        let word = u16::from_str_radix(std::str::from_utf8(word).unwrap(), 2).unwrap();
        packed.extend(word.to_le_bytes());
    }
    packed.extend([1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0]);
    packed.extend(block);
    packed
}

/// The names of one file on a disc.
pub(in crate::content) struct DiscNames<'n> {
    pub(in crate::content) plain: &'n str,
    pub(in crate::content) joliet: Option<&'n str>,
    pub(in crate::content) rock_ridge: Option<&'n str>,
}

fn disc_record(raw: &[u8], sector: u32, length: u32, is_directory: bool, own: &[u8]) -> Vec<u8> {
    let mut record = vec![0; 33];
    record[2..6].copy_from_slice(&sector.to_le_bytes());
    record[6..10].copy_from_slice(&sector.to_be_bytes());
    record[10..14].copy_from_slice(&length.to_le_bytes());
    record[14..18].copy_from_slice(&length.to_be_bytes());
    record[25] = if is_directory { 2 } else { 0 };
    record[32] = raw.len() as u8;
    record.extend(raw);
    record.resize(record.len().next_multiple_of(2), 0);
    record.extend(own);
    record.resize(record.len().next_multiple_of(2), 0);
    record[0] = record.len() as u8;
    record
}

fn disc_descriptor(kind: u8, escape: &[u8], root_sector: u32) -> Vec<u8> {
    let mut sector = vec![0; 2_048];
    sector[0] = kind;
    sector[1..6].copy_from_slice(b"CD001");
    sector[88..88 + escape.len()].copy_from_slice(escape);
    sector[128..130].copy_from_slice(&2_048u16.to_le_bytes());
    let root = disc_record(&[0], root_sector, 2_048, true, &[]);
    sector[156..156 + root.len()].copy_from_slice(&root);
    sector
}

/// A disc with one file. Where it has no name in Joliet, there is no such tree.
pub(in crate::content) fn iso(names: &DiscNames<'_>, content: &[u8]) -> Vec<u8> {
    let mut octets = vec![0; 16 * 2_048];
    octets.extend(disc_descriptor(1, b"", 20));
    octets.extend(disc_descriptor(if names.joliet.is_some() { 2 } else { 255 }, b"%/E", 21));
    octets.extend(disc_descriptor(255, b"", 20));
    octets.resize(20 * 2_048, 0);
    let own = names
        .rock_ridge
        .map(|name| [b"NM".as_slice(), &[5 + name.len() as u8, 1, 0], name.as_bytes()].concat());
    let mut plain = disc_record(&[0], 20, 2_048, true, &[]);
    let length = content.len() as u32;
    plain.extend(disc_record(names.plain.as_bytes(), 22, length, false, &own.unwrap_or_default()));
    plain.resize(2_048, 0);
    octets.extend(plain);
    let raw = names.joliet.unwrap_or_default().encode_utf16().flat_map(u16::to_be_bytes).collect::<Vec<_>>();
    let mut joliet = disc_record(&[0], 21, 2_048, true, &[]);
    joliet.extend(disc_record(&raw, 22, length, false, &[]));
    joliet.resize(2_048, 0);
    octets.extend(joliet);
    octets.extend(content);
    octets.resize(octets.len().next_multiple_of(2_048), 0);
    octets
}

/// The content in a container of each kind: what it is called here, its type, its octets.
pub(in crate::content) fn containers(name: &str, content: &[u8]) -> Vec<(&'static str, RealType, Vec<u8>)> {
    let disc = DiscNames { plain: name, joliet: None, rock_ridge: None };
    let mut all = vec![
        ("gzip", RealType::Gzip, gzip(name, content)),
        ("bzip2", RealType::Bzip2, bzip2(content)),
        ("xz", RealType::Xz, xz(content)),
        ("lzma", RealType::Xz, lzma_alone(content, true)),
        ("lzma of a known length", RealType::Xz, lzma_alone(content, false)),
        ("zstd", RealType::Zstd, zstd(content)),
        ("tar", RealType::Tar, tar(&[(name, content)])),
        ("7z", RealType::SevenZip, seven_zip(&[(name, content)], EncoderMethod::LZMA2)),
        ("7z copied", RealType::SevenZip, seven_zip(&[(name, content)], EncoderMethod::COPY)),
        ("7z bzip2", RealType::SevenZip, seven_zip(&[(name, content)], EncoderMethod::BZIP2)),
        ("7z lzma", RealType::SevenZip, seven_zip(&[(name, content)], EncoderMethod::LZMA)),
        ("cab", RealType::Cab, cab(&[(name, content)], CabMethod::Stored)),
        ("cab mszip", RealType::Cab, cab(&[(name, content)], CabMethod::MsZip)),
        ("cab lzx", RealType::Cab, cab(&[(name, content)], CabMethod::Lzx)),
        ("iso", RealType::Iso, iso(&disc, content)),
        ("ar", RealType::Ar, ar(name, content)),
        ("cpio", RealType::Cpio, cpio(&[(name, content)])),
    ];
    for method in [0, 8, 12, 14, 93, 95] {
        let label = match method {
            0 => "zip stored",
            8 => "zip deflate",
            12 => "zip bzip2",
            14 => "zip lzma",
            93 => "zip zstd",
            _ => "zip xz",
        };
        all.push((label, RealType::Zip, zip(name, content, method)));
    }
    all
}
