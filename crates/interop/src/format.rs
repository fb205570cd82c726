//! The format of a model file, recognized by its content.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use crate::error::InteropError;

/// A format that is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// A zip file or a pickle, as `torch.save` writes them.
    PyTorch,
    /// A safetensors file, of ours or not.
    Safetensors,
    /// Anything else: a protocol buffer has no signature.
    Onnx,
}

/// Bytes that are looked at.
const HEAD: u64 = 512;

/// The longest header of a safetensors file, in bytes.
const LONGEST_HEADER: u64 = 100_000_000;

/// Beginnings of files that are often taken for a model: what they are, and the remedy.
const MISTAKEN: &[(&[u8], &str, &str)] = &[
    (&[0x1f, 0x8b], "is compressed by gzip", "decompress it (gunzip) and give the result"),
    (b"BZh", "is compressed by bzip2", "decompress it (bunzip2) and give the result"),
    (&[0xfd, b'7', b'z', b'X', b'Z'], "is compressed by xz", "decompress it (unxz) and give the result"),
    (
        b"version https://git-lfs",
        "is a pointer of Git LFS, not the model",
        "fetch the model itself (git lfs pull)",
    ),
    (&[0x89, b'H', b'D', b'F'], "is an HDF5 file", "save the weights by torch.save or as safetensors"),
    (b"\x93NUMPY", "is a numpy array", "save the state dict of the model by torch.save or as safetensors"),
    (b"Rar!", "is a RAR archive", "unpack it and give the model file in it"),
    (b"7z\xbc\xaf", "is a 7z archive", "unpack it and give the model file in it"),
];

/// Recognizes a file by its first bytes.
///
/// # Errors
/// If it cannot be read, or is of a format that is no model.
pub(crate) fn recognize(path: &Path) -> Result<Format, InteropError> {
    let (head, length) =
        read_head(path).map_err(|source| InteropError::Read { path: path.to_path_buf(), source })?;
    let refused = |cause: &str, remedy: &str| Err(InteropError::refused(path, cause, remedy));
    if head.is_empty() {
        return refused("is empty", "copy or download it again");
    }
    if let Some((_, cause, remedy)) = MISTAKEN.iter().find(|(magic, ..)| head.starts_with(magic)) {
        return refused(cause, remedy);
    }
    let text =
        String::from_utf8_lossy(&head).trim_start_matches('\u{feff}').trim_start().to_ascii_lowercase();
    if ["<!doctype", "<html", "<?xml", "<head", "<script"].iter().any(|tag| text.starts_with(tag)) {
        return refused(
            "is a web page, not a model: the download gave the page about the file",
            "download the file itself",
        );
    }
    if head.starts_with(b"PK") || is_pickle(&head) || head.get(257..262) == Some(b"ustar") {
        return Ok(Format::PyTorch);
    }
    if let Some((declared, rest)) = head.split_first_chunk::<8>() {
        let declared = u64::from_le_bytes(*declared);
        if rest.first() == Some(&b'{') && declared <= LONGEST_HEADER.min(length.saturating_sub(8)) {
            return Ok(Format::Safetensors);
        }
    }
    Ok(Format::Onnx)
}

/// The first bytes of a file, and its length.
fn read_head(path: &Path) -> io::Result<(Vec<u8>, u64)> {
    let file = File::open(path)?;
    let length = file.metadata()?.len();
    let mut head = Vec::new();
    file.take(HEAD).read_to_end(&mut head)?;
    Ok((head, length))
}

/// `PROTO` with a version that exists. A protocol buffer of ONNX begins with the field `ir_version`, byte 8.
fn is_pickle(head: &[u8]) -> bool {
    matches!(head, [0x80, 1..=5, ..])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recognized(bytes: &[u8]) -> Result<Format, String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        recognize(file.path()).map_err(|error| error.to_string())
    }

    #[test]
    fn formats_are_told_by_their_content() {
        let header = br#"{"w":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}"#;
        let safetensors = [&(header.len() as u64).to_le_bytes()[..], header].concat();
        assert_eq!(recognized(&safetensors), Ok(Format::Safetensors));
        assert_eq!(recognized(b"PK\x03\x04rest"), Ok(Format::PyTorch));
        assert_eq!(recognized(b"\x80\x02}q\x00."), Ok(Format::PyTorch));
        assert_eq!(recognized(b"\x08\x08\x12\x07pytorch"), Ok(Format::Onnx));
    }

    #[test]
    fn files_that_are_no_model_are_named_with_the_remedy() {
        for (bytes, cause, remedy) in [
            (&b""[..], "is empty", "again"),
            (b"\x1f\x8b\x08\x00", "gzip", "gunzip"),
            (b"version https://git-lfs.github.com/spec/v1\noid sha256:00", "Git LFS", "git lfs pull"),
            (b"\n<!DOCTYPE html><html>", "web page", "download the file itself"),
            (b"\x89HDF\r\n", "HDF5", "torch.save"),
            (b"\x93NUMPY\x01\x00", "numpy", "state dict"),
        ] {
            let text = recognized(bytes).unwrap_err();
            assert!(text.contains(cause) && text.contains(remedy), "{text}");
        }
        assert!(recognize(Path::new("absent.pt")).unwrap_err().to_string().contains("absent.pt"));
    }
}
