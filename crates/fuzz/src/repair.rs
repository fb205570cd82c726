//! Repair of checksums in mutated files, written from the description of each format and not with our own writers.

use flate2::{Crc, Decompress, FlushDecompress, Status};

/// The most bytes that a gzip stream is unpacked to for its checksum.
const UNPACKED: usize = 1 << 24;

/// A gzip file (RFC 1952) without optional fields, with CRC32 and length of what its deflate stream holds.
pub(crate) fn gzip(bytes: &[u8]) -> Option<Vec<u8>> {
    let (head, packed) = bytes.split_at_checked(10)?;
    let mut head = head.to_vec();
    head[..4].copy_from_slice(&[0x1f, 0x8b, 8, 0]);
    let (mut inflate, mut content) = (Decompress::new(false), Vec::with_capacity(1 << 12));
    loop {
        let before = (inflate.total_in(), inflate.total_out());
        let rest = packed.get(inflate.total_in() as usize..)?;
        match inflate.decompress_vec(rest, &mut content, FlushDecompress::Finish).ok()? {
            Status::StreamEnd => break,
            _ if content.len() > UNPACKED => return None,
            _ if content.len() == content.capacity() => content.reserve(content.len().max(64)),
            _ if before == (inflate.total_in(), inflate.total_out()) => return None,
            _ => {}
        }
    }
    let mut crc = Crc::new();
    crc.update(&content);
    let packed = &packed[..inflate.total_in() as usize];
    Some([&head, packed, &crc.sum().to_le_bytes(), &(content.len() as u32).to_le_bytes()].concat())
}

/// A PNG (ISO 15948) with the CRC32 of each chunk.
pub(crate) fn png(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut all = bytes.to_vec();
    let mut at = 8;
    while let Some(length) = all.get(at..at + 4) {
        let length = u32::from_be_bytes(length.try_into().ok()?) as usize;
        let end = at.checked_add(8)?.checked_add(length)?;
        if end + 4 > all.len() {
            break;
        }
        let mut crc = Crc::new();
        crc.update(&all[at + 4..end]);
        all[end..end + 4].copy_from_slice(&crc.sum().to_be_bytes());
        at = end + 4;
    }
    Some(all)
}

/// A tar archive (POSIX.1-1988) with the sum of each header's bytes.
pub(crate) fn tar(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut all = bytes.to_vec();
    let mut at = 0;
    while at + 512 <= all.len() {
        let header = &mut all[at..at + 512];
        header[148..156].fill(b' ');
        let sum: u32 = header.iter().map(|&byte| u32::from(byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        let size = std::str::from_utf8(&header[124..135]).ok().and_then(|t| usize::from_str_radix(t, 8).ok());
        at += 512 + size.unwrap_or(0).div_ceil(512).checked_mul(512)?;
    }
    Some(all)
}

/// What stands between two pieces of a text, the first of which comes first and the second last.
fn between<'a>(text: &'a [u8], open: &str, close: &str) -> Option<&'a [u8]> {
    let find = |piece: &str| text.windows(piece.len()).position(|window| window == piece.as_bytes());
    let find_last = |piece: &str| text.windows(piece.len()).rposition(|window| window == piece.as_bytes());
    text.get(find(open)? + open.len()..find_last(close)?)
}

/// `text` with `checksum` after the last `mark`.
fn with_checksum(text: &[u8], mark: &str, checksum: &str) -> Option<Vec<u8>> {
    let at = text.windows(mark.len()).rposition(|window| window == mark.as_bytes())? + mark.len();
    let mut all = text.to_vec();
    all.get_mut(at..at + checksum.len())?.copy_from_slice(checksum.as_bytes());
    Some(all)
}

/// A stored attack: `{…,"content":…,"checksum":"BLAKE3 of the content's JSON"}`.
pub(crate) fn attack_state(bytes: &[u8]) -> Option<Vec<u8>> {
    let content = between(bytes, "\"content\":", ",\"checksum\":")?;
    with_checksum(bytes, ",\"checksum\":\"", &blake3::hash(content).to_hex())
}

/// A job's manifest: `{"checksum": key, "manifest": …}`, where the key is that of the manifest's value.
pub(crate) fn job_manifest(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut sealed: serde_json::Value = serde_json::from_slice(bytes).ok()?;
    let key = tarrl_jobs::Key::of(sealed.get("manifest")?);
    *sealed.get_mut("checksum")? = key.to_string().into();
    serde_json::to_vec(&sealed).ok()
}

/// A hash of parts, each with its length before it, as checkpoints and certificates have it.
struct Parts(blake3::Hasher);

impl Parts {
    fn add(&mut self, bytes: &[u8]) {
        self.0.update(&(bytes.len() as u64).to_le_bytes());
        self.0.update(bytes);
    }
    fn hex(&self) -> String {
        self.0.finalize().to_hex().to_string()
    }
}

/// The header, as it stands, and the parsed tensors of a safetensors file whose length of the header is corrected.
fn safetensors(bytes: &[u8]) -> Option<(Vec<u8>, usize)> {
    // The header of a file of ours ends where its padding does; a mutation may have moved it.
    let text = bytes.get(8..)?;
    let (mut depth, mut quoted, mut escaped, mut end) = (0usize, false, false, 0);
    for (i, &byte) in text.iter().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b'{' if !quoted => depth += 1,
            b'}' if !quoted => {
                depth = depth.checked_sub(1)?;
                if depth == 0 {
                    end = i + 1;
                    break;
                }
            }
            _ => {}
        }
    }
    if end == 0 {
        return None;
    }
    let padding =
        text[end..].iter().take_while(|&&byte| byte == b' ').count().min(end.next_multiple_of(8) - end);
    let mut all = bytes.to_vec();
    all[..8].copy_from_slice(&((end + padding) as u64).to_le_bytes());
    Some((all, 8 + end + padding))
}

/// A checkpoint: safetensors whose metadata has an entry `tarrl` of JSON with the checksum over everything else.
pub(crate) fn checkpoint(bytes: &[u8]) -> Option<Vec<u8>> {
    let (all, header) = safetensors(bytes)?;
    let (_, parsed) = safetensors::SafeTensors::read_metadata(&all).ok()?;
    let json: serde_json::Value = serde_json::from_str(parsed.metadata().as_ref()?.get("tarrl")?).ok()?;
    let mut parts = Parts(blake3::Hasher::new());
    let metadata = json.get("metadata")?.as_object()?;
    parts.add(&(metadata.len() as u64).to_le_bytes());
    // Both maps are in the order of their keys.
    for (name, value) in metadata {
        parts.add(name.as_bytes());
        parts.add(value.as_str()?.as_bytes());
    }
    let mut tensors: Vec<_> = parsed.tensors().into_iter().collect();
    tensors.sort_by(|a, b| a.0.cmp(&b.0));
    for (name, info) in tensors {
        parts.add(name.as_bytes());
        parts.add(format!("{:?}{:?}", info.dtype, info.shape).as_bytes());
        let (start, end) = info.data_offsets;
        parts.add(all.get(header + start..header + end)?);
    }
    with_checksum(&all, "\\\"checksum\\\":\\\"", &parts.hex())
}

/// Certificates: safetensors whose metadata has an entry `tarrl-certificates` of JSON with the checksum over everything
/// else, with the tensors in the order of `names`.
pub(crate) fn certificates(bytes: &[u8], names: &[&str]) -> Option<Vec<u8>> {
    let (all, header) = safetensors(bytes)?;
    let (_, parsed) = safetensors::SafeTensors::read_metadata(&all).ok()?;
    let json = parsed.metadata().as_ref()?.get("tarrl-certificates")?.as_bytes();
    let about = between(json, ",\"about\":", ",\"sphere\":")?;
    let sphere = between(json, ",\"sphere\":", ",\"forms\":")?;
    let forms = json.strip_suffix(b"}").and_then(|json| {
        let at = json.windows(9).rposition(|window| window == b",\"forms\":")?;
        Some(&json[at + 9..])
    })?;
    let mut parts = Parts(blake3::Hasher::new());
    parts.add(&[b"[", about, b",", sphere, b",", forms, b"]"].concat());
    for name in names {
        let info = parsed.info(name)?;
        parts.add(name.as_bytes());
        parts.add(format!("{:?}", info.shape).as_bytes());
        let (start, end) = info.data_offsets;
        parts.add(all.get(header + start..header + end)?);
    }
    with_checksum(&all, "\\\"checksum\\\":\\\"", &parts.hex())
}
