//! File helpers: bounded reads, hashes, and writes that leave a file either whole or absent.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};

use flate2::bufread::MultiGzDecoder;
use sha2::{Digest, Sha256};

use crate::error::{Result, io_error};

/// How many bytes move at a time.
const CHUNK: usize = 64 * 1024;

/// Opens a file for reading; what is gzipped is unpacked on the way, whatever its name.
pub(crate) fn open(path: &Path) -> Result<Box<dyn Read>> {
    let file = File::open(path).map_err(|e| io_error(path, "open the file", e))?;
    gunzipped(file).map_err(|e| io_error(path, "read the file", e))
}

/// The content of a file, of which no more than `most` bytes are read: what never ends does not fill the memory.
///
/// # Errors
/// If it cannot be read, or is longer.
pub fn read_at_most(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(most.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most {
        let cause = format!("it is longer than {most} bytes, the most that is read of such a file");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, cause));
    }
    Ok(bytes)
}

/// The content of a stream, unpacked if it begins like gzip. Bytes after the gzip stream are an
/// error of the reader, not silently dropped.
pub(crate) fn gunzipped(stream: impl Read + 'static) -> io::Result<Box<dyn Read>> {
    let mut stream = BufReader::with_capacity(CHUNK, stream);
    let packed = stream.fill_buf()?.starts_with(&[0x1f, 0x8b]);
    Ok(if packed { Box::new(MultiGzDecoder::new(stream)) } else { Box::new(stream) })
}

/// Copies until the end or until `limit` bytes; returns how many there were and their SHA-256.
///
/// The count is `limit` plus one when the stream went on. `step` hears the count after each chunk.
pub(crate) fn copy_hashed(
    from: &mut dyn Read,
    to: &mut dyn Write,
    limit: u64,
    step: &mut dyn FnMut(u64),
) -> std::result::Result<(u64, String), CopyError> {
    let mut from = from.take(limit.saturating_add(1));
    let (mut hash, mut buffer, mut count) = (Sha256::new(), vec![0; CHUNK], 0);
    loop {
        let n = match from.read(&mut buffer) {
            Ok(0) => return Ok((count, hex(&hash.finalize()))),
            Ok(n) => n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(CopyError::Read(e)),
        };
        hash.update(&buffer[..n]);
        to.write_all(&buffer[..n]).map_err(CopyError::Write)?;
        count += n as u64;
        step(count);
    }
}

/// Which side of a copy failed.
#[derive(Debug)]
pub(crate) enum CopyError {
    /// The source.
    Read(io::Error),
    /// The destination.
    Write(io::Error),
}

/// Fills a temporary file in `folder`, then gives it the name that `fill` returns; if anything
/// fails, nothing stays behind. `fill` gets the open file and its temporary path.
pub(crate) fn place(folder: &Path, fill: impl FnOnce(&mut File, &Path) -> Result<String>) -> Result<PathBuf> {
    fs::create_dir_all(folder).map_err(|e| io_error(folder, "create the folder", e))?;
    let unwritable = |e| io_error(folder, "write into the folder", e);
    let mut file = tarrl_files::temporary(&folder.join("incoming")).map_err(unwritable)?;
    let temporary = file.path().to_owned();
    let target = folder.join(fill(file.as_file_mut(), &temporary)?);
    tarrl_files::persist(file, &target)
        .map_err(|e| io_error(&target, "put the finished file in its place", e))?;
    Ok(target)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::{Compression, write::GzEncoder};

    #[test]
    fn sha256_of_a_published_vector() {
        // FIPS 180-2, appendix B.1.
        let (n, hash) = copy_hashed(&mut &b"abc"[..], &mut io::sink(), 10, &mut |_| ()).unwrap();
        assert_eq!(n, 3);
        assert_eq!(hash, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }

    #[test]
    fn an_endless_stream_stops_one_past_the_limit() {
        let mut seen = 0;
        let (n, _) = copy_hashed(&mut io::repeat(7), &mut io::sink(), 1000, &mut |k| seen = k).unwrap();
        assert_eq!((n, seen), (1001, 1001));
    }

    #[test]
    fn a_file_is_read_up_to_its_limit_and_refused_beyond() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, "content").unwrap();
        assert_eq!(read_at_most(&path, 7).unwrap(), b"content");
        let error = read_at_most(&path, 6).unwrap_err();
        assert!(error.to_string().contains("longer than 6 bytes"), "{error}");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_file_that_never_ends_is_refused() {
        let error = read_at_most(Path::new("/dev/zero"), 1 << 20).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::FileTooLarge);
    }

    #[test]
    fn gzip_is_told_by_its_content() {
        let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
        packed.write_all(b"content").unwrap();
        let mut packed = packed.finish().unwrap();
        let read = |bytes: Vec<u8>| {
            let mut out = String::new();
            gunzipped(io::Cursor::new(bytes)).unwrap().read_to_string(&mut out).map(|_| out)
        };
        assert_eq!(read(packed.clone()).unwrap(), "content");
        assert_eq!(read(b"content".to_vec()).unwrap(), "content");
        packed.extend(b"tail");
        assert!(read(packed).is_err(), "bytes after the gzip stream must not pass");
    }

    /// A disk that fills up after some bytes.
    struct FullDisk(usize);

    impl Write for FullDisk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0 = self.0.checked_sub(bytes.len()).ok_or(io::ErrorKind::StorageFull)?;
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_full_disk_leaves_no_temporary_file() {
        let folder = tempfile::tempdir().unwrap();
        let (deep, target) = (folder.path().join("deep"), folder.path().join("deep/file.bin"));
        let failed = place(&deep, |file, _| {
            file.write_all(b"half").unwrap();
            match copy_hashed(&mut io::repeat(0).take(1 << 20), &mut FullDisk(100_000), 1 << 30, &mut |_| ())
            {
                Err(CopyError::Write(e)) => Err(io_error(&target, "write the file", e)),
                other => panic!("the disk was full, yet {other:?}"),
            }
        });
        let message = failed.unwrap_err().to_string();
        assert!(message.contains("file.bin") && message.contains("free some space"), "{message}");
        assert_eq!(fs::read_dir(&deep).unwrap().count(), 0);
        let write = |file: &mut File, _: &Path| {
            file.write_all(b"whole").map_err(|e| io_error(&target, "write", e))?;
            Ok("file.bin".to_owned())
        };
        assert_eq!(place(&deep, write).unwrap(), target);
        assert_eq!(fs::read(&target).unwrap(), b"whole");
        assert_eq!(fs::read_dir(&deep).unwrap().count(), 1);
    }

    #[test]
    fn a_folder_that_cannot_be_written_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "in the way").unwrap();
        let message = place(&file.join("sub"), |_, _| unreachable!()).unwrap_err().to_string();
        assert!(message.contains("file/sub") && message.contains("create the folder"), "{message}");
    }
}
