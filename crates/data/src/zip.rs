//! Zip archives: members by name, stored or deflated, with their sizes and checksums checked; and archives of stored members.
//!
//! Only the central directory is believed, as the format demands (APPNOTE 6.3, section 4.3): it tells where each member begins,
//! how long it is and what its CRC-32 is.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use flate2::Crc;
use flate2::read::DeflateDecoder;

use crate::arrays::AGAIN;
use crate::error::{Error, Result, io_error, malformed, setting};

/// What a local header begins with, and with it an archive.
pub(crate) const MAGIC: &[u8] = b"PK\x03\x04";
const CENTRAL: u32 = 0x0201_4b50;
const END: u32 = 0x0605_4b50;
const END_64: u32 = 0x0606_4b50;
const LOCATOR_64: u32 = 0x0706_4b50;
/// The longest central directory that is read, and the most members.
const MOST_DIRECTORY: u64 = 1 << 24;
const MOST_MEMBERS: usize = 1 << 16;
/// Deflate makes no byte of more than 1,032; a member that claims more is a lie.
const MOST_RATIO: u64 = 1032;

/// An archive whose directory was read.
#[derive(Clone, Debug)]
pub(crate) struct Archive {
    path: PathBuf,
    members: Vec<Member>,
}

#[derive(Clone, Debug)]
struct Member {
    name: String,
    is_deflated: bool,
    packed: u64,
    size: u64,
    crc: u32,
    offset: u64,
}

/// Little-endian numbers from a slice, one after the other.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take(&mut self, n: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(n)?;
        self.0 = rest;
        Some(taken)
    }

    fn number(&mut self, size: usize) -> Option<u64> {
        let mut wide = [0; 8];
        wide[..size].copy_from_slice(self.take(size)?);
        Some(u64::from_le_bytes(wide))
    }
}

impl Archive {
    /// Reads the directory.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let mut file = File::open(path).map_err(|e| io_error(path, "open the file", e))?;
        let damaged = |cause: &str| malformed(path, cause.to_owned(), AGAIN);
        let read_error = |e| io_error(path, "read the file", e);
        let length = file.seek(SeekFrom::End(0)).map_err(read_error)?;
        // The end record has 22 bytes and a comment of at most 65,535.
        let tail_length = length.min(22 + 65_535);
        let tail = bytes_at(&mut file, length - tail_length, tail_length).map_err(read_error)?;
        let end =
            (0..tail.len().saturating_sub(21)).rev().find(|&at| tail[at..].starts_with(&END.to_le_bytes()));
        let end = end.ok_or_else(|| damaged("it has no directory of a zip archive: it is cut off"))?;
        let position = length - tail_length + end as u64;
        let (mut members, mut size, mut offset) =
            end_record(&tail[end..]).ok_or_else(|| damaged("its directory is damaged"))?;
        if members == 0xffff || size == 0xffff_ffff || offset == 0xffff_ffff {
            let mut wide = || -> io::Result<Option<(u64, u64, u64)>> {
                let Some(at) = position.checked_sub(20) else { return Ok(None) };
                let locator = bytes_at(&mut file, at, 20)?;
                let mut fields = Fields(&locator);
                if fields.number(4) != Some(LOCATOR_64.into()) {
                    return Ok(None);
                }
                fields.number(4);
                let Some(at) =
                    fields.number(8).filter(|at| at.checked_add(56).is_some_and(|end| end <= length))
                else {
                    return Ok(None);
                };
                Ok(end_record_64(&bytes_at(&mut file, at, 56)?))
            };
            (members, size, offset) =
                wide().map_err(read_error)?.ok_or_else(|| damaged("its directory is damaged"))?;
        }
        let fits = offset.checked_add(size).is_some_and(|end| end <= length);
        if !fits || size > MOST_DIRECTORY || members > MOST_MEMBERS as u64 {
            return Err(damaged("its directory lies outside the file, or is larger than any that is read"));
        }
        let directory = bytes_at(&mut file, offset, size).map_err(read_error)?;
        let mut fields = Fields(&directory);
        let mut found = Vec::new();
        for _ in 0..members {
            match member(&mut fields) {
                Some(Ok(member)) if member.offset < length && member.packed <= length => found.push(member),
                Some(Err(cause)) => {
                    return Err(malformed(path, cause, "pack it again with deflate, without a password"));
                }
                _ => return Err(damaged("its directory is damaged")),
            }
        }
        Ok(Archive { path: path.to_owned(), members: found })
    }

    /// The names of the members, as the directory orders them, without folders.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.members.iter().map(|member| member.name.as_str()).filter(|name| !name.ends_with('/'))
    }

    /// The content of a member as a stream that fails at its end if size or checksum are not those of the directory.
    /// Nothing is read if the member is longer than `most` bytes.
    pub(crate) fn stream(&self, name: &str, most: u64) -> Result<Box<dyn Read>> {
        let member = self.members.iter().find(|member| member.name == name);
        let member =
            member.ok_or_else(|| malformed(&self.path, format!("it has no member {name}"), AGAIN))?;
        if member.size > most {
            let cause =
                format!("its member {name} has {} bytes, more than the {most} that are read", member.size);
            return Err(malformed(&self.path, cause, "take a smaller dataset"));
        }
        if member.size / MOST_RATIO > member.packed || (!member.is_deflated && member.size != member.packed) {
            let cause = format!("its member {name} claims {} bytes from {}", member.size, member.packed);
            return Err(malformed(&self.path, cause, AGAIN));
        }
        let error = |e| io_error(&self.path, "read the file", e);
        let mut file = File::open(&self.path).map_err(error)?;
        let header = bytes_at(&mut file, member.offset, 30).map_err(error)?;
        let lengths = header[26..].chunks(2).map(|pair| u64::from(u16::from_le_bytes([pair[0], pair[1]])));
        if !header.starts_with(MAGIC) {
            return Err(malformed(
                &self.path,
                format!("there is no member {name} where it should begin"),
                AGAIN,
            ));
        }
        let begin = member.offset + 30 + lengths.sum::<u64>();
        file.seek(SeekFrom::Start(begin)).map_err(error)?;
        let packed = BufReader::with_capacity(1 << 16, file).take(member.packed);
        let content: Box<dyn Read> =
            if member.is_deflated { Box::new(DeflateDecoder::new(packed)) } else { Box::new(packed) };
        Ok(Box::new(Checked { content, left: member.size, want: member.crc, crc: Crc::new(), done: false }))
    }
}

/// A stream whose length and CRC-32 are known.
struct Checked {
    content: Box<dyn Read>,
    left: u64,
    want: u32,
    crc: Crc,
    done: bool,
}

impl Read for Checked {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if out.is_empty() {
            return Ok(0);
        }
        let wrong = |cause: &str| Err(io::Error::new(io::ErrorKind::InvalidData, cause.to_owned()));
        if self.left == 0 {
            if !self.done {
                if self.content.read(&mut [0])? != 0 {
                    return wrong("a member of the archive is longer than its directory says");
                }
                if self.crc.sum() != self.want {
                    return wrong("the checksum of a member of the archive differs");
                }
                self.done = true;
            }
            return Ok(0);
        }
        let most = out.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let n = self.content.read(&mut out[..most])?;
        if n == 0 {
            return wrong("a member of the archive is shorter than its directory says");
        }
        self.crc.update(&out[..n]);
        self.left -= n as u64;
        Ok(n)
    }
}

fn bytes_at(file: &mut File, at: u64, count: u64) -> io::Result<Vec<u8>> {
    file.seek(SeekFrom::Start(at))?;
    let mut bytes = Vec::new();
    file.take(count).read_to_end(&mut bytes)?;
    if (bytes.len() as u64) < count { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(bytes) }
}

/// Number of members, size and offset of the directory.
fn end_record(bytes: &[u8]) -> Option<(u64, u64, u64)> {
    let mut fields = Fields(bytes.get(10..)?);
    Some((fields.number(2)?, fields.number(4)?, fields.number(4)?))
}

fn end_record_64(bytes: &[u8]) -> Option<(u64, u64, u64)> {
    let mut fields = Fields(bytes);
    if fields.number(4)? != u64::from(END_64) {
        return None;
    }
    fields.take(28)?;
    Some((fields.number(8)?, fields.number(8)?, fields.number(8)?))
}

/// The next entry of the directory, or why it cannot be read; `None` if it is damaged.
fn member(fields: &mut Fields<'_>) -> Option<std::result::Result<Member, String>> {
    if fields.number(4)? != u64::from(CENTRAL) {
        return None;
    }
    fields.take(4)?;
    let (flags, method) = (fields.number(2)?, fields.number(2)?);
    fields.take(4)?;
    let crc = fields.number(4)? as u32;
    let (mut packed, mut size) = (fields.number(4)?, fields.number(4)?);
    let [name, extra, comment] = [fields.number(2)?, fields.number(2)?, fields.number(2)?];
    fields.take(8)?;
    let mut offset = fields.number(4)?;
    let name = String::from_utf8_lossy(fields.take(name as usize)?).into_owned();
    let mut extra = Fields(fields.take(extra as usize)?);
    fields.take(comment as usize)?;
    while let (Some(kind), Some(length)) = (extra.number(2), extra.number(2)) {
        let mut field = Fields(extra.take(length as usize)?);
        if kind == 1 {
            // Zip64: those of the three that do not fit into 32 bits, in this order.
            for value in [&mut size, &mut packed, &mut offset] {
                if *value == 0xffff_ffff {
                    *value = field.number(8)?;
                }
            }
        }
    }
    if flags & 1 != 0 {
        return Some(Err(format!("its member {name} is encrypted")));
    }
    let is_deflated = match method {
        0 => false,
        8 => true,
        _ => return Some(Err(format!("its member {name} is packed by method {method}"))),
    };
    Some(Ok(Member { name, is_deflated, packed, size, crc, offset }))
}

/// Writes an archive of stored members, such as an `npz` of arrays.
///
/// # Errors
/// Those of the writer, and if the archive would be longer than 4 GiB.
pub fn write_zip(out: &mut dyn Write, members: &[(&str, &[u8])]) -> Result<()> {
    let refused = |e| io_error(Path::new("archive"), "write the archive", e);
    let mut directory = Vec::new();
    let mut offset = 0u64;
    for (name, content) in members {
        let mut crc = Crc::new();
        crc.update(content);
        let size = u32::try_from(content.len()).map_err(|_| too_long(name))?;
        // Version 2.0, no flags, stored, 1 January 1980: the same content gives the same bytes.
        let mut common = vec![20, 0, 0, 0, 0, 0, 0, 0, 0x21, 0];
        for number in [crc.sum(), size, size] {
            common.extend(number.to_le_bytes());
        }
        common.extend((name.len() as u16).to_le_bytes());
        common.extend([0, 0]);
        let local = [MAGIC, &common, name.as_bytes()].concat();
        let at = u32::try_from(offset).map_err(|_| too_long(name))?;
        directory.extend(CENTRAL.to_le_bytes());
        directory.extend([20, 0]);
        directory.extend(&common);
        directory.extend([0; 10]);
        directory.extend(at.to_le_bytes());
        directory.extend(name.as_bytes());
        out.write_all(&local).and_then(|()| out.write_all(content)).map_err(refused)?;
        offset += (local.len() + content.len()) as u64;
    }
    let mut end = END.to_le_bytes().to_vec();
    end.extend([0; 4]);
    for _ in 0..2 {
        end.extend((members.len() as u16).to_le_bytes());
    }
    end.extend((directory.len() as u32).to_le_bytes());
    end.extend(u32::try_from(offset).map_err(|_| too_long("the directory"))?.to_le_bytes());
    end.extend([0, 0]);
    out.write_all(&directory).and_then(|()| out.write_all(&end)).map_err(refused)
}

fn too_long(name: &str) -> Error {
    setting(format!("{name} of an archive"), "the archive is longer than 4 GiB", "take fewer images")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive(members: &[(&str, &[u8])]) -> Vec<u8> {
        let mut bytes = Vec::new();
        write_zip(&mut bytes, members).unwrap();
        bytes
    }

    fn read(bytes: &[u8], name: &str, most: u64) -> std::result::Result<Vec<u8>, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.zip");
        std::fs::write(&path, bytes).unwrap();
        let archive = Archive::open(&path).map_err(|e| e.to_string())?;
        let mut content = Vec::new();
        let mut stream = archive.stream(name, most).map_err(|e| e.to_string())?;
        stream.read_to_end(&mut content).map_err(|e| e.to_string())?;
        Ok(content)
    }

    /// `zipfile.ZipFile("a.zip", "w", ZIP_DEFLATED)` of Python 3, one member `m` of forty times the byte `a`, written
    /// through `open("m", "w", force_zip64=True)` as NumPy does; `fields` are what damages it.
    fn of_python() -> Vec<u8> {
        let deflated = {
            let mut out = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::default());
            out.write_all(&[b'a'; 40]).unwrap();
            out.finish().unwrap()
        };
        let mut crc = Crc::new();
        crc.update(&[b'a'; 40]);
        let size = deflated.len() as u32;
        let mut local = [MAGIC, &[45, 0, 0, 0, 8, 0, 0, 0, 0x21, 0][..], &crc.sum().to_le_bytes()].concat();
        // The sizes stand in the extra field.
        local.extend([0xff; 8]);
        local.extend([1, 0, 20, 0, b'm', 1, 0, 16, 0]);
        local.extend(40u64.to_le_bytes());
        local.extend(u64::from(size).to_le_bytes());
        let mut bytes = [local, deflated].concat();
        let at = bytes.len() as u32;
        bytes.extend(CENTRAL.to_le_bytes());
        bytes.extend([45, 3, 45, 0, 0, 0, 8, 0, 0, 0, 0x21, 0]);
        for number in [crc.sum(), size, 40] {
            bytes.extend(number.to_le_bytes());
        }
        bytes.extend([1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x80, 1, 0, 0, 0, 0, b'm']);
        let length = bytes.len() as u32 - at;
        bytes.extend(END.to_le_bytes());
        bytes.extend([0, 0, 0, 0, 1, 0, 1, 0]);
        bytes.extend(length.to_le_bytes());
        bytes.extend(at.to_le_bytes());
        bytes.extend([0, 0]);
        bytes
    }

    #[test]
    fn what_is_written_is_read_again() {
        let bytes = archive(&[("a.npy", b"first"), ("b", b"")]);
        assert_eq!(read(&bytes, "a.npy", 10).unwrap(), b"first");
        assert_eq!(read(&bytes, "b", 10).unwrap(), b"");
        assert!(read(&bytes, "c", 10).unwrap_err().contains("no member c"));
    }

    #[test]
    fn deflated_members_with_sizes_of_64_bits_are_read() {
        assert_eq!(read(&of_python(), "m", 40).unwrap(), [b'a'; 40]);
    }

    #[test]
    fn bombs_and_lies_are_refused() {
        let good = of_python();
        assert!(read(&good, "m", 39).unwrap_err().contains("40 bytes, more than the 39"));
        let central = good.windows(4).position(|w| w == CENTRAL.to_le_bytes()).unwrap();
        let with = |at: usize, bytes: &[u8]| {
            let mut changed = good.clone();
            changed[at..at + bytes.len()].copy_from_slice(bytes);
            read(&changed, "m", 1 << 40).unwrap_err()
        };
        assert!(with(central + 24, &[0xfe, 0xff, 0xff, 0xff]).contains("claims 4294967294 bytes"));
        assert!(with(central + 24, &39u32.to_le_bytes()).contains("longer than its directory says"));
        assert!(with(central + 24, &41u32.to_le_bytes()).contains("shorter than its directory says"));
        assert!(with(central + 16, &[0; 4]).contains("checksum"));
        assert!(with(central + 8, &[1, 0]).contains("encrypted"));
        assert!(with(central + 10, &[12, 0]).contains("method 12"));
        assert!(with(central + 42, &[0xee, 0xff, 0, 0]).contains("directory is damaged"));
        assert!(with(0, b"XK").contains("no member m where it should begin"));
        assert!(read(&good[..good.len() - 1], "m", 40).unwrap_err().contains("cut off"));
        assert!(read(b"", "m", 40).unwrap_err().contains("cut off"));
    }
}
