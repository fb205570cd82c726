//! Images of bytes, embedded as PNG.

use png::{BitDepth, ColorType, Compression, Encoder, Filter};

/// An image of bytes, gray or RGB.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picture {
    shape: [usize; 3],
    bytes: Vec<u8>,
}

impl Picture {
    /// An image of `shape` (h, w, c) with c = 1 (gray) or 3 (RGB), bytes in row-major order.
    ///
    /// # Panics
    /// If a side is 0, c is neither 1 nor 3, or `bytes` has another length than h·w·c.
    #[track_caller]
    pub fn new(shape: [usize; 3], bytes: Vec<u8>) -> Self {
        let [h, w, c] = shape;
        let fits = h * w * c == bytes.len() && h * w > 0 && (c == 1 || c == 3);
        assert!(fits, "Picture::new: shape (h, w, c) = {shape:?} with {} bytes", bytes.len());
        Self { shape, bytes }
    }

    /// Height over width.
    pub(crate) fn aspect(&self) -> f64 {
        self.shape[0] as f64 / self.shape[1] as f64
    }

    /// The image as a PNG file.
    pub fn png(&self) -> Vec<u8> {
        let [h, w, c] = self.shape;
        let mut file = Vec::new();
        let mut encoder = Encoder::new(&mut file, w as u32, h as u32);
        encoder.set_color(if c == 1 { ColorType::Grayscale } else { ColorType::Rgb });
        encoder.set_depth(BitDepth::Eight);
        encoder.set_compression(Compression::Fast);
        encoder.set_filter(Filter::Adaptive);
        encoder
            .write_header()
            .and_then(|mut writer| writer.write_image_data(&self.bytes))
            .expect("the shape was checked and memory takes every byte");
        file
    }

    /// The PNG as a `data:` address, for a page without other files.
    pub fn data_uri(&self) -> String {
        format!("data:image/png;base64,{}", base64(&self.png()))
    }
}

/// Base64 with padding (RFC 4648, section 4).
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let word = (0..3).fold(0u32, |word, i| word << 8 | u32::from(*chunk.get(i).unwrap_or(&0)));
        for i in 0..4 {
            let digit = DIGITS[(word >> (18 - 6 * i)) as usize & 63];
            text.push(if i <= chunk.len() { digit as char } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_vectors_of_rfc_4648() {
        let vectors = [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
        ];
        for (plain, coded) in vectors {
            assert_eq!(base64(plain.as_bytes()), coded);
        }
        assert_eq!(base64(&[255, 255, 254]), "///+");
    }

    #[test]
    fn png_gives_back_the_pixels() {
        for c in [1, 3] {
            let bytes: Vec<u8> = (0..2 * 5 * c).map(|i| (i * 37 % 256) as u8).collect();
            let file = Picture::new([2, 5, c], bytes.clone()).png();
            let mut reader = png::Decoder::new(std::io::Cursor::new(file)).read_info().unwrap();
            let mut read = vec![0; reader.output_buffer_size().unwrap()];
            reader.next_frame(&mut read).unwrap();
            assert_eq!(reader.info().size(), (5, 2));
            assert_eq!(read, bytes);
        }
    }

    #[test]
    #[should_panic(expected = "(h, w, c) = [2, 2, 3] with 4 bytes")]
    fn wrong_length_panics() {
        Picture::new([2, 2, 3], vec![0; 4]);
    }
}
