//! JPEG segments: whether a file reaches its end-of-image marker.

const FILL: u8 = 0xff;
const END_OF_IMAGE: u8 = 0xd9;
const START_OF_SCAN: u8 = 0xda;
/// Inside a scan: a stuffed zero and the restart markers belong to its data.
const IN_SCAN: [u8; 9] = [0x00, 0xd0, 0xd1, 0xd2, 0xd3, 0xd4, 0xd5, 0xd6, 0xd7];

/// Whether the end-of-image marker is reached (ITU-T T.81, annex B). The decoder fills what is missing of a file that
/// was cut off with gray, without an error. Markers inside a segment, as of an embedded thumbnail, do not count.
pub(crate) fn is_complete(bytes: &[u8]) -> bool {
    let mut rest = bytes.get(2..).unwrap_or_default(); // after the start-of-image marker
    let mut in_scan = false;
    loop {
        let Some(marker) = rest.iter().position(|&byte| byte == FILL) else { return false };
        rest = &rest[marker + 1..];
        match rest.first() {
            None => return false,
            Some(&FILL) => continue,
            Some(&END_OF_IMAGE) => return true,
            Some(marker) if in_scan && IN_SCAN.contains(marker) => rest = &rest[1..],
            Some(&marker) => {
                // The length counts its own two bytes.
                let Some(&[high, low]) = rest.get(1..3) else { return false };
                let Some(after) = rest.get(1 + usize::from(u16::from_be_bytes([high, low])).max(2)..) else {
                    return false;
                };
                (rest, in_scan) = (after, marker == START_OF_SCAN);
            }
        }
    }
}
