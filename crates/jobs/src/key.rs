//! Job keys: content addresses of jobs.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The address of a job: 128 bits of BLAKE3 over the canonical JSON of everything that determines its result.
///
/// Two jobs with equal keys are the same job, whoever asked for them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key([u8; 16]);

impl Key {
    /// The key of a value.
    pub fn of(value: &Value) -> Self {
        let mut text = String::new();
        write_canonical(value, &mut text);
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&blake3::hash(text.as_bytes()).as_bytes()[..16]);
        Self(bytes)
    }

    /// The first ten digits, for people.
    pub fn short(&self) -> String {
        self.to_string()[..10].to_owned()
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({self})")
    }
}

impl Serialize for Key {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let wrong = || serde::de::Error::custom(format!("`{text}` is not a key of 32 hexadecimal digits"));
        if text.len() != 32 || !text.is_ascii() {
            return Err(wrong());
        }
        let mut bytes = [0; 16];
        for (byte, digits) in bytes.iter_mut().zip(text.as_bytes().chunks(2)) {
            let digits = std::str::from_utf8(digits).map_err(|_| wrong())?;
            *byte = u8::from_str_radix(digits, 16).map_err(|_| wrong())?;
        }
        Ok(Self(bytes))
    }
}

/// JSON without spaces and with sorted keys. `Value` keeps insertion order when any crate of the build asks
/// serde_json for it, so the order is made here and not taken from the map.
fn write_canonical(value: &Value, out: &mut String) {
    match value {
        Value::Object(map) => {
            let mut entries: Vec<_> = map.iter().collect();
            entries.sort_by(|a, b| a.0.cmp(b.0));
            out.push('{');
            for (i, (name, value)) in entries.into_iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                out.push_str(&Value::from(name.as_str()).to_string());
                out.push(':');
                write_canonical(value, out);
            }
            out.push('}');
        }
        Value::Array(items) => {
            out.push('[');
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                write_canonical(item, out);
            }
            out.push(']');
        }
        leaf => out.push_str(&leaf.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn canonical_json_is_sorted_and_tight() {
        let mut text = String::new();
        write_canonical(&json!({"b": [1, 2.5, null], "a": {"d": "x\"y", "c": true}}), &mut text);
        assert_eq!(text, r#"{"a":{"c":true,"d":"x\"y"},"b":[1,2.5,null]}"#);
    }

    /// A change of the canonical form would orphan every finished run, so the hashed bytes are spelled out here.
    #[test]
    fn keys_are_stable_between_builds() {
        assert_eq!(Key::of(&json!({})).to_string(), blake3::hash(b"{}").to_hex()[..32].to_owned());
        assert_eq!(
            Key::of(&json!({"seed": 0, "kind": "pretrain"})).to_string(),
            blake3::hash(br#"{"kind":"pretrain","seed":0}"#).to_hex()[..32].to_owned()
        );
    }

    #[test]
    fn a_key_survives_json_and_damage_is_refused() {
        let key = Key::of(&json!(1));
        let text = serde_json::to_string(&key).unwrap();
        assert_eq!(serde_json::from_str::<Key>(&text).unwrap(), key);
        for bad in ["\"\"", "\"zz345678901234567890123456789012\"", "\"ab\"", "3", "\"ééééééééééééééééé\""]
        {
            assert!(serde_json::from_str::<Key>(bad).is_err(), "{bad}");
        }
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            // Adding 0.0 turns -0.0, which equals 0.0 but is written differently, into 0.0.
            any::<f64>().prop_filter("finite", |x| x.is_finite()).prop_map(|x| Value::from(x + 0.0)),
            ".{0,8}".prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::hash_map("[a-c]{1,2}", inner, 0..4)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn keys_agree_exactly_when_the_values_do(a in any_json(), b in any_json()) {
            prop_assert_eq!(Key::of(&a) == Key::of(&b), a == b);
        }

        #[test]
        fn a_value_written_and_read_again_keeps_its_key(a in any_json()) {
            let again: Value = serde_json::from_str(&a.to_string()).unwrap();
            prop_assert_eq!(Key::of(&again), Key::of(&a));
        }
    }
}
