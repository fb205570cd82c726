//! Protocol buffers on the wire: the fields of a message, read without copying and written in order.
//!
//! A message is a sequence of fields, each a number, a wire type and a value. Of the wire types four are in use: varints,
//! eight bytes, a length with that many bytes, four bytes.

/// The value of a field.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Value<'a> {
    Varint(u64),
    Eight([u8; 8]),
    Bytes(&'a [u8]),
    Four([u8; 4]),
}

/// Why bytes are no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed(pub(crate) &'static str);

/// The fields of a message, in the order of the file. Ends after the first fault.
pub(crate) struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    pub(crate) fn new(message: &'a [u8]) -> Self {
        Fields { rest: message }
    }

    fn field(&mut self) -> Result<(u64, Value<'a>), Malformed> {
        let key = varint(&mut self.rest)?;
        let value = match key & 7 {
            0 => Value::Varint(varint(&mut self.rest)?),
            1 => Value::Eight(array(&mut self.rest)?),
            2 => {
                let len = varint(&mut self.rest)?;
                // Compared with what is there before anything is taken.
                let len = usize::try_from(len).map_err(|_| SHORT)?;
                let (bytes, rest) = self.rest.split_at_checked(len).ok_or(SHORT)?;
                self.rest = rest;
                Value::Bytes(bytes)
            }
            5 => Value::Four(array(&mut self.rest)?),
            _ => return Err(Malformed("a field has a wire type that is not in use")),
        };
        match key >> 3 {
            0 => Err(Malformed("a field has the number 0")),
            number => Ok((number, value)),
        }
    }
}

const SHORT: Malformed = Malformed("a field is longer than what is left of its message");

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u64, Value<'a>), Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_err() {
            self.rest = &[];
        }
        Some(field)
    }
}

fn array<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], Malformed> {
    let (head, tail) = rest.split_first_chunk::<N>().ok_or(SHORT)?;
    *rest = tail;
    Ok(*head)
}

fn varint(rest: &mut &[u8]) -> Result<u64, Malformed> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let [byte] = array(rest)?;
        let bits = u64::from(byte & 0x7f);
        if shift == 63 && bits > 1 {
            break;
        }
        value |= bits << shift;
        if byte < 0x80 {
            return Ok(value);
        }
    }
    Err(Malformed("a number is longer than 64 bits"))
}

impl<'a> Value<'a> {
    /// A whole number; negative ones are stored in two's complement.
    pub(crate) fn int(self) -> Result<i64, Malformed> {
        match self {
            Value::Varint(value) => Ok(value as i64),
            _ => Err(Malformed("a whole number has another wire type")),
        }
    }

    pub(crate) fn f32(self) -> Result<f32, Malformed> {
        match self {
            Value::Four(bytes) => Ok(f32::from_le_bytes(bytes)),
            _ => Err(Malformed("a number of four bytes has another wire type")),
        }
    }

    pub(crate) fn bytes(self) -> Result<&'a [u8], Malformed> {
        match self {
            Value::Bytes(bytes) => Ok(bytes),
            _ => Err(Malformed("a message or text has another wire type")),
        }
    }

    pub(crate) fn text(self) -> Result<&'a str, Malformed> {
        std::str::from_utf8(self.bytes()?).map_err(|_| Malformed("a name is not UTF-8"))
    }

    /// Appends the whole numbers of a repeated field: one by one, or packed into bytes.
    pub(crate) fn ints(self, out: &mut Vec<i64>) -> Result<(), Malformed> {
        let Value::Bytes(mut packed) = self else {
            out.push(self.int()?);
            return Ok(());
        };
        while !packed.is_empty() {
            out.push(varint(&mut packed)? as i64);
        }
        Ok(())
    }

    /// The same for numbers of four bytes.
    pub(crate) fn f32s(self, out: &mut Vec<f32>) -> Result<(), Malformed> {
        let Value::Bytes(packed) = self else {
            out.push(self.f32()?);
            return Ok(());
        };
        let (words, rest) = packed.as_chunks::<4>();
        out.extend(words.iter().map(|&word| f32::from_le_bytes(word)));
        if rest.is_empty() { Ok(()) } else { Err(Malformed("packed numbers end within one")) }
    }

    /// The same for numbers of eight bytes.
    pub(crate) fn f64s(self, out: &mut Vec<f64>) -> Result<(), Malformed> {
        match self {
            Value::Eight(bytes) => out.push(f64::from_le_bytes(bytes)),
            Value::Bytes(packed) => {
                let (words, rest) = packed.as_chunks::<8>();
                out.extend(words.iter().map(|&word| f64::from_le_bytes(word)));
                if !rest.is_empty() {
                    return Err(Malformed("packed numbers end within one"));
                }
            }
            _ => return Err(Malformed("a number of eight bytes has another wire type")),
        }
        Ok(())
    }
}

/// A message that is written field by field.
#[derive(Debug, Default)]
pub(crate) struct Message {
    bytes: Vec<u8>,
}

impl Message {
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.bytes.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.bytes.push(value as u8);
    }

    pub(crate) fn int(&mut self, field: u64, value: i64) {
        self.varint(field << 3);
        self.varint(value as u64);
    }

    pub(crate) fn f32(&mut self, field: u64, value: f32) {
        self.varint(field << 3 | 5);
        self.bytes.extend(value.to_le_bytes());
    }

    pub(crate) fn raw(&mut self, field: u64, bytes: &[u8]) {
        self.varint(field << 3 | 2);
        self.varint(bytes.len() as u64);
        self.bytes.extend(bytes);
    }

    pub(crate) fn text(&mut self, field: u64, text: &str) {
        self.raw(field, text.as_bytes());
    }

    pub(crate) fn message(&mut self, field: u64, message: Message) {
        self.raw(field, &message.bytes);
    }

    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn fields(bytes: &[u8]) -> Result<Vec<(u64, Value<'_>)>, Malformed> {
        Fields::new(bytes).collect()
    }

    /// The example of the description of protocol buffers: field 1 is 150, and a text in field 2.
    #[test]
    fn the_examples_of_the_description_are_read() {
        assert_eq!(fields(&[0x08, 0x96, 0x01]), Ok(vec![(1, Value::Varint(150))]));
        let text = [0x12, 0x07, 0x74, 0x65, 0x73, 0x74, 0x69, 0x6e, 0x67];
        assert_eq!(fields(&text), Ok(vec![(2, Value::Bytes(b"testing"))]));
        let mut packed = Vec::new();
        Value::Bytes(&[0x03, 0x8e, 0x02, 0x9e, 0xa7, 0x05]).ints(&mut packed).unwrap();
        assert_eq!(packed, [3, 270, 86942]);
    }

    #[test]
    fn what_is_cut_short_or_too_long_is_refused() {
        for bytes in [&[0x08][..], &[0x08, 0x96], &[0x12, 0x07, 0x74], &[0x0d, 0, 0, 0], &[0x0b], &[0x02, 0]]
        {
            assert!(fields(bytes).is_err(), "{bytes:x?}");
        }
        let huge = [&[0x12][..], &[0xff; 9], &[0x01]].concat();
        assert_eq!(fields(&huge), Err(SHORT));
        let long = [&[0x08][..], &[0xff; 10], &[0x01]].concat();
        assert!(fields(&long).is_err());
        assert_eq!(
            fields(&[&[0x08][..], &[0xff; 9], &[0x01]].concat()),
            Ok(vec![(1, Value::Varint(u64::MAX))])
        );
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(field in 1u64..1 << 29, int: i64, float: f32, text in ".{0,300}") {
            let mut message = Message::default();
            message.int(field, int);
            message.f32(field, float);
            message.text(field, &text);
            let bytes = message.into_bytes();
            let found = fields(&bytes).unwrap();
            prop_assert!(found.iter().all(|(number, _)| *number == field));
            prop_assert_eq!(found[0].1.int().unwrap(), int);
            prop_assert_eq!(found[1].1.f32().unwrap().to_bits(), float.to_bits());
            prop_assert_eq!(found[2].1.text().unwrap(), text);
        }
    }
}
