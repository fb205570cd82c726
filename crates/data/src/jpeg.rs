//! JPEG files: whether a file reaches its end-of-image marker, and its pixels where nothing in it is broken.

use ndarray::Array3;
use zune_jpeg::JpegDecoder;
use zune_jpeg::zune_core::bytestream::ZCursor;
use zune_jpeg::zune_core::colorspace::ColorSpace;
use zune_jpeg::zune_core::options::DecoderOptions;

/// How every file begins: the start-of-image marker and the first byte of the next marker.
const START: [u8; 3] = [0xff, 0xd8, 0xff];
const FILL: u8 = 0xff;
const END_OF_IMAGE: u8 = 0xd9;
const START_OF_SCAN: u8 = 0xda;
/// Inside a scan: a stuffed zero and the restart markers belong to its data.
const IN_SCAN: [u8; 9] = [0x00, 0xd0, 0xd1, 0xd2, 0xd3, 0xd4, 0xd5, 0xd6, 0xd7];

/// Whether a file is a JPEG by its first bytes.
pub(crate) fn begins(bytes: &[u8]) -> bool {
    bytes.starts_with(&START)
}

/// Where the end-of-image marker is (ITU-T T.81, annex B), with the fill bytes before it; `None` if the file ends
/// earlier. Markers inside a segment, as of an embedded thumbnail, do not count.
pub(crate) fn end_of_image(bytes: &[u8]) -> Option<usize> {
    let mut rest = bytes.get(2..).unwrap_or_default(); // after the start-of-image marker
    let mut in_scan = false;
    loop {
        let marker = rest.iter().position(|&byte| byte == FILL)?;
        rest = &rest[marker + 1..];
        match rest.first() {
            None => return None,
            Some(&FILL) => continue,
            Some(&END_OF_IMAGE) => {
                let before = &bytes[..bytes.len() - rest.len()];
                return Some(before.len() - before.iter().rev().take_while(|&&byte| byte == FILL).count());
            }
            Some(marker) if in_scan && IN_SCAN.contains(marker) => rest = &rest[1..],
            Some(&marker) => {
                // The length counts its own two bytes.
                let &[high, low] = rest.get(1..3)? else { return None };
                let after = rest.get(1 + usize::from(u16::from_be_bytes([high, low])).max(2)..)?;
                (rest, in_scan) = (after, marker == START_OF_SCAN);
            }
        }
    }
}

/// The pixels `(h, w, c)` of a file, gray (c = 1) or in color (c = 3), whose end-of-image marker is at `end`.
///
/// The decoder takes what it can make of a broken scan: strictly asked, it refuses codes that do not
/// exist, but still reads zeros where the last scan ends too early. Of a whole scan no bit behind its end counts, so the
/// pixels must be the same with other bits there.
pub(crate) fn decode(bytes: &[u8], end: usize, longest_side: u32) -> Result<Array3<u8>, String> {
    let ((width, height), pixels) = pixels(bytes, true, longest_side)?;
    for filler in FILLERS {
        let longer = [&bytes[..end], &filler, &bytes[end..]].concat();
        if pixels_of(&longer, longest_side).as_ref() != Some(&pixels) {
            return Err("its last scan ends too early".to_owned());
        }
    }
    let channels = if pixels.len() == width * height { 1 } else { 3 };
    Array3::from_shape_vec((height, width, channels), pixels)
        .map_err(|_| format!("its pixels are not those of {width} columns and {height} rows"))
}

/// Bits behind the last scan: with many ones, whose codes are the long ones, and mixed.
const FILLERS: [[u8; 64]; 2] = [[0x7e; 64], mixed()];

const fn mixed() -> [u8; 64] {
    let mut bytes = [0; 64];
    let mut i = 0;
    while i < bytes.len() {
        // Never a marker's first byte.
        bytes[i] = ((i as u32).wrapping_mul(2_654_435_761) >> 13) as u8 & 0x7f;
        i += 1;
    }
    bytes
}

fn pixels_of(bytes: &[u8], longest_side: u32) -> Option<Vec<u8>> {
    pixels(bytes, false, longest_side).ok().map(|(_, pixels)| pixels)
}

/// Width and height, and one byte a pixel if the file is gray, else three.
fn pixels(bytes: &[u8], strict: bool, longest_side: u32) -> Result<((usize, usize), Vec<u8>), String> {
    let side = longest_side as usize;
    let options = DecoderOptions::default().set_strict_mode(strict).set_max_width(side).set_max_height(side);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(bytes), options);
    decoder.decode_headers().map_err(|e| e.to_string())?;
    let is_gray = decoder.input_colorspace() == Some(ColorSpace::Luma);
    let space = if is_gray { ColorSpace::Luma } else { ColorSpace::RGB };
    decoder.set_options(decoder.options().jpeg_set_out_colorspace(space));
    let pixels = decoder.decode().map_err(|e| e.to_string())?;
    Ok((decoder.dimensions().unwrap_or_default(), pixels))
}
