//! Tensors of a file that `torch.save` wrote. Nothing in it is executed.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;

use pytorch_reader::{DType, FileFormat, PickleValue, PytorchError, PytorchReader};

use super::tensor_file::{Element, FileTensor, TensorFile};
use crate::error::InteropError;

/// The tensors of a file, at any depth of its dictionaries.
///
/// # Errors
/// If the file cannot be read, is no PyTorch file, or holds tensors of a type that is not read.
pub(crate) fn read(path: &Path) -> Result<TensorFile, InteropError> {
    let reader = PytorchReader::new(path).map_err(|error| explained(path, error))?;
    let format = match reader.metadata().format_type {
        FileFormat::Zip => "PyTorch zip",
        FileFormat::Legacy => "PyTorch before 1.6",
        FileFormat::Tar => "PyTorch before 0.1.10",
        FileFormat::Pickle => "pickle",
    };
    let keys = match PytorchReader::read_pickle_data(path, None).map_err(|error| explained(path, error))? {
        PickleValue::Dict(entries) => entries.into_keys().collect(),
        _ => BTreeSet::new(),
    };
    let unreadable = |source| InteropError::Read { path: path.to_path_buf(), source };
    let length = std::fs::metadata(path).map_err(unreadable)?.len();
    if File::open(path).and_then(has_pending_sign).map_err(unreadable)? {
        return Err(InteropError::refused(
            path,
            "a tensor in it has a pending sign, which is not in its stored values",
            "call resolve_neg() on such tensors, or clone() them, and save the state_dict() again",
        ));
    }
    let tensor = |tensor: pytorch_reader::Tensor| FileTensor {
        element: element(tensor.dtype()),
        shape: tensor.shape().to_vec(),
        read: Arc::new(move || tensor.read()),
    };
    let tensors = reader.into_tensors().into_iter().map(|(name, found)| (name, tensor(found))).collect();
    Ok(TensorFile { format: format.to_owned(), tensors, keys, length })
}

/// How a pickle says that the values of a tensor are the negatives of the stored ones: the key of a dictionary that is the last
/// argument of the call that makes the tensor. True, the end of both, and the call follow.
const PENDING_SIGN: &[u8] = b"X\x03\0\0\0neg";
const LONGEST_SIGN: usize = PENDING_SIGN.len() + 5 + 3 + 5 + 1;

/// Whether a tensor was saved with a pending sign, which the crate pytorch-reader passes over. Pickles are stored as they are,
/// beside the values of tensors, which hold these bytes by chance once in 2⁹⁶.
fn has_pending_sign(mut file: impl Read) -> io::Result<bool> {
    let mut bytes = Vec::new();
    loop {
        if (&mut file).take(1 << 20).read_to_end(&mut bytes)? == 0 {
            return Ok(false);
        }
        if (0..bytes.len()).any(|at| bytes[at] == PENDING_SIGN[0] && says_pending(&bytes[at..])) {
            return Ok(true);
        }
        bytes.drain(..bytes.len().saturating_sub(LONGEST_SIGN - 1));
    }
}

fn says_pending(bytes: &[u8]) -> bool {
    let rest = bytes.strip_prefix(PENDING_SIGN).and_then(kept);
    let rest = rest.and_then(|rest| rest.strip_prefix(b"\x88st")).and_then(kept);
    rest.is_some_and(|rest| rest.first() == Some(&b'R'))
}

/// What follows the number under which a pickle keeps an object.
fn kept(bytes: &[u8]) -> Option<&[u8]> {
    match bytes.first()? {
        b'q' => bytes.get(2..),
        b'r' => bytes.get(5..),
        _ => None,
    }
}

fn element(dtype: DType) -> Element {
    match dtype {
        DType::F64 => Element::F64,
        DType::F32 => Element::F32,
        DType::F16 => Element::F16,
        DType::BF16 => Element::Bf16,
        DType::I64 => Element::I64,
        DType::I32 => Element::I32,
        DType::I16 => Element::Other("I16"),
        DType::I8 => Element::Other("I8"),
        DType::U64 => Element::Other("U64"),
        DType::U32 => Element::Other("U32"),
        DType::U16 => Element::Other("U16"),
        DType::U8 => Element::Other("U8"),
        DType::Bool => Element::Other("BOOL"),
    }
}

/// The cause and the remedy of a file that is not read.
fn explained(path: &Path, error: PytorchError) -> InteropError {
    let text = error.to_string();
    let lower = text.to_lowercase();
    let remedy = if lower.contains("data.pkl") {
        "it is a zip file of something else: give the file that torch.save wrote"
    } else if lower.contains("persistent id") {
        "it is a whole module in the format of before PyTorch 1.6: load it there and save its state_dict()"
    } else if lower.contains("dtype") || lower.contains("float8") || lower.contains("complex") {
        "cast such tensors in PyTorch, or leave them out, and save the state_dict() again"
    } else if lower.contains("endian") {
        "save it again on a little-endian machine"
    } else {
        "it is damaged or was not written by torch.save: copy or download it again"
    };
    match error {
        PytorchError::Io(source)
            if !matches!(
                source.kind(),
                std::io::ErrorKind::InvalidData | std::io::ErrorKind::UnexpectedEof
            ) =>
        {
            InteropError::Read { path: path.to_path_buf(), source }
        }
        _ => InteropError::refused(path, text, remedy),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    /// `torch.save({'epoch': 3, 'state_dict': {'module.w': w, 'module.h': h, 'module.n': n}})` of PyTorch 2.15, with
    /// `w = [[0.5, 3.0], [-1.25, 1e-7]]` stored transposed, `h = [1.5, -2.25]` in bfloat16 and `n = 9`; deflated, in base64.
    const ZIP: &str = "pZXNT9NgHMefdVu3lRcHDhDx7TgSHO3e2EhgUEwvNXHOYBYuTenK1titPN0zUBITE4MJJxMTE06Gq1cveoNELh69eMGbXjz5F5j4PO022+KGwp\
         M0T9o93+/3sz6/39Oi6A8AEA6DU2MIjIEN7fHybEVGcmLzkS7wI2DNO55RTyGIl4NYoG4aSg36RH+ZwXdNJCNVqmgKgniJP14mEXWj0tLVxDYM\
         KMgwlVpCaiFNbzKSqa63NL0iIbXRNExpK8nAYDxeDllGhilXVUjbEkbQDRk9sB8yMFT24TUsDJf9eFY2WzAiBhBk7otApETqBRwQfWQa3FMUQ9\
         dVBWlGo8ncMyuqqVbuYDwGDk2X4DCCl0ow6qSswZEahqh1gnkrmct2s0etbA5erkVECsGYlbkLx0TfLhzfqxHbCQSvlOCk07YBr7ps7xqNatdy\
         yrJMwmvY0ofgdWw5PW1b3UDwZgnearUSRTEUrk5/WkV4LbmKPfcwBhh7DxMbhlmXkbSlmk38AgSebm8lR8ze//z6nOSSq7fZBJhvm7W3RJJ1rd\
         qoqw0k8NnTpfFPI5smAIVt+IPCEVRfgGHA2wDrT5BqkB0U+MVz5naGriGkq4Rhd+HbJI1T6L4MA2D5T1fMsgK/cDEAbFkA4OAQgKWl14dfUoTk\
         48t3e1H8Q/QMkjkHCSfwqfOQHBWiRyTz4cr+WxwEAmdkrjgykwJfuODrX4u0nQkDf1zfIaHhvgyDYNFm6Nby/AUgUgxJ/vymunp2/U2BTLsBrL\
         /fVE0Nd8COTI4USasIPPf/IGwunU/ncrn0XD6bYdO5uVSG5TJ5cs+m0yyb5/J5NsfmCWXo5NdJHHPELUofge1yOs+DoVPkrnPcK3V2f8wlO/aB\
         vx4fXgdn+064HEYo0OvM8Jo4+2/YZfKqY9Lte6/W2TEDLu24Hzj71St0lr1beOAScl6hs1bdwljAKUx6hc5SG3QJ9zvCHm/Zuf1TLuVoEPQrzK\
         JI0zPtpTf8t7uyiGeeoez5Q7DTkzT5AIPvIfve/jwEaVsTsdbba38D";

    /// `torch.save({'w': w, 'n': n}, _use_new_zipfile_serialization=False)`.
    const LEGACY: &str = "bVC7TgJBFJ19ADIK4qOxs1wagvLcSgpDsz6x2cZscHfCrpnscGdnMZqQUBmxt7Ow9C/4C//BTzCxcAaEWHiLubln7r3nnDvRnzH9fu1+7d++X+\
         xVJvrppyHfMSDLLSGEhpwJ5jPqjQhPIhaDJhvcgvyhkRCUeCQOon4M+pOLJSjuh8RLogeSgDEG03IzEkxCxgVkHN01ZBXFArKO6ZpqB4sHkHPM\
         NF1yahK9A80XjPthxUtFRBPscXKTRjTwBIkTxr3RIQbdstycWi47+wMCxmIEdynri6sFiMF0i7LHrjdqB/VmtdqqNe0mZOY6/GGqdJwJyF06yN\
         Ed/RHWHE2l/NSXlinxhXSc4HMeEE6C48gXGHC5B+sCNnpQmIuNoRhKLeGS/0RaWtFv/qFv2Ha91W63oRRmHU3Sbknacnkaqo3bAnZ6sKvOcK3O\
         8M+Y9p8VnVSUCBX532yiVRwh9DZDqNN5mX3UfgA=";

    fn unpacked(text: &str) -> Vec<u8> {
        let sextet = |c: u8| match c {
            b'A'..=b'Z' => u32::from(c - b'A'),
            b'a'..=b'z' => u32::from(c - b'a') + 26,
            b'0'..=b'9' => u32::from(c - b'0') + 52,
            b'+' => 62,
            _ => 63,
        };
        let mut bytes = Vec::new();
        for chunk in text.trim_end_matches('=').as_bytes().chunks(4) {
            let bits = chunk.iter().fold(0, |bits, &c| bits << 6 | sextet(c)) << (6 * (4 - chunk.len()));
            bytes.extend_from_slice(&bits.to_be_bytes()[1..chunk.len()]);
        }
        let mut unpacked = Vec::new();
        flate2::read::DeflateDecoder::new(&bytes[..]).read_to_end(&mut unpacked).unwrap();
        unpacked
    }

    fn file(text: &str) -> (tempfile::NamedTempFile, Result<TensorFile, InteropError>) {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), unpacked(text)).unwrap();
        let read = read(file.path());
        (file, read)
    }

    #[test]
    fn files_of_pytorch_are_read_to_the_bit() {
        for (text, prefix, format) in
            [(ZIP, "state_dict.module.", "PyTorch zip"), (LEGACY, "", "PyTorch before 1.6")]
        {
            let (_kept, found) = file(text);
            let found = found.unwrap();
            assert_eq!(found.format, format);
            let tensor = |name: &str| &found.tensors[&format!("{prefix}{name}")];
            assert_eq!(tensor("w").shape, [2, 2]);
            assert_eq!(tensor("w").floats().unwrap(), [0.5, 3.0, -1.25, 1e-7]);
            assert_eq!((tensor("n").shape.len(), tensor("n").whole().unwrap()), (0, vec![9]));
            assert!(tensor("n").floats().unwrap_err().to_string().contains("I64"));
            if prefix.is_empty() {
                continue;
            }
            assert_eq!(tensor("h").element, Element::Bf16);
            assert_eq!(tensor("h").floats().unwrap(), [1.5, -2.25]);
            assert!(found.keys.contains("epoch") && found.keys.contains("state_dict"));
        }
    }

    /// The bytes of `torch.save({'w': w})` of PyTorch 2.15 behind the strides of `w`, where `w` is the imaginary part of a
    /// conjugate; `pickletools.dis` names the codes.
    #[test]
    fn a_pending_sign_is_seen_wherever_it_is() {
        let tail = b"\x89ccollections\nOrderedDict\nq\n)Rq\x0b}q\x0cX\x03\0\0\0negq\r\x88stq\x0eRq\x0fs.";
        for before in [0, 1, (1 << 20) - 40, (1 << 20) - 30, (1 << 20) - 20, 3 << 20] {
            let mut bytes = vec![b'X'; before];
            bytes.extend_from_slice(tail);
            assert!(has_pending_sign(&bytes[..]).unwrap(), "{before} bytes before it");
            // Without a sign the dictionary is not there, and false is another code.
            let at = before + tail.iter().position(|&byte| byte == 0x88).unwrap();
            bytes[at] = 0x89;
            assert!(!has_pending_sign(&bytes[..]).unwrap(), "{before} bytes before it");
        }
        // Of more than 256 objects the numbers take four bytes.
        assert!(has_pending_sign(&b"X\x03\0\0\0negr\x01\x01\0\0\x88str\x02\x01\0\0R"[..]).unwrap());
        assert!(!has_pending_sign(&[][..]).unwrap());
    }

    /// No truncation is accepted with other values, none panics, and each is explained with the path.
    #[test]
    fn truncated_files_are_refused_with_the_path() {
        for text in [ZIP, LEGACY] {
            let bytes = unpacked(text);
            let file = tempfile::NamedTempFile::new().unwrap();
            for length in (0..bytes.len()).step_by(7) {
                std::fs::write(file.path(), &bytes[..length]).unwrap();
                let Err(error) = read(file.path()) else {
                    panic!("{length} of {} bytes were read", bytes.len())
                };
                assert!(error.to_string().contains(file.path().to_str().unwrap()), "{error}");
            }
        }
    }
}
