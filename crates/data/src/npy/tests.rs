use super::*;
use proptest::prelude::*;

const PATH: &str = "file.npy";

/// A file as NumPy writes it: version 1, and a header that ends before a multiple of 64 bytes.
fn file(descr: &str, fortran: &str, shape: &str, data: &[u8]) -> Vec<u8> {
    let mut header = format!("{{'descr': {descr}, 'fortran_order': {fortran}, 'shape': {shape}, }}");
    while !(header.len() + 11).is_multiple_of(64) {
        header.push(' ');
    }
    header.push('\n');
    [b"\x93NUMPY\x01\0", &(header.len() as u16).to_le_bytes()[..], header.as_bytes(), data].concat()
}

fn images(bytes: &[u8]) -> Result<Array4<u8>> {
    parse_images(bytes, Path::new(PATH))
}

fn labels(bytes: &[u8]) -> Result<Vec<u16>> {
    parse_labels(bytes, Path::new(PATH))
}

/// `np.save("x.npy", np.arange(6, dtype=np.uint8).reshape(1, 2, 3))` of NumPy 2.3, byte by byte.
#[test]
fn our_file_is_that_of_numpy() {
    let header = "{'descr': '|u1', 'fortran_order': False, 'shape': (1, 2, 3), }";
    let padded = format!("{header}{}\n", " ".repeat(117 - header.len()));
    let numpy = [&b"\x93NUMPY\x01\0\x76\0"[..], padded.as_bytes(), &[0, 1, 2, 3, 4, 5]].concat();
    assert_eq!(encode_u8(&[1, 2, 3], &[0, 1, 2, 3, 4, 5]), numpy);
    assert_eq!(numpy.len(), 128 + 6);
}

#[test]
fn byte_orders_and_widths_give_the_same_labels() {
    let of = |descr: &str, wide: &dyn Fn(u16) -> Vec<u8>| {
        labels(&file(descr, "False", "(3,)", &[7, 0, 300].map(wide).concat())).unwrap()
    };
    assert_eq!(of("'<i8'", &|v| i64::from(v).to_le_bytes().to_vec()), [7, 0, 300]);
    assert_eq!(of("'>i8'", &|v| i64::from(v).to_be_bytes().to_vec()), [7, 0, 300]);
    assert_eq!(of("'>i4'", &|v| i32::from(v).to_be_bytes().to_vec()), [7, 0, 300]);
    assert_eq!(of("\"<u2\"", &|v| v.to_le_bytes().to_vec()), [7, 0, 300]);
    assert_eq!(of("'<f8'", &|v| f64::from(v).to_le_bytes().to_vec()), [7, 0, 300]);
    assert_eq!(labels(&file("'|u1'", "False", "(2, 1)", &[4, 5])).unwrap(), [4, 5]);
    assert!(labels(&file("'<i8'", "False", "(1,)", &(-2i64).to_le_bytes())).is_err());
}

#[test]
fn fortran_order_is_honored() {
    // np.asfortranarray(np.arange(8).reshape(1, 2, 4)): the values 0 4 1 5 2 6 3 7.
    let bytes = file("'|u1'", "True", "(1, 2, 4)", &[0, 4, 1, 5, 2, 6, 3, 7]);
    assert_eq!(images(&bytes).unwrap().iter().copied().collect::<Vec<_>>(), [0, 1, 2, 3, 4, 5, 6, 7]);
}

#[test]
fn floats_are_taken_where_they_are_levels() {
    let of = |values: &[f32]| {
        let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        images(&file("'<f4'", "False", &format!("(1, 1, {})", values.len()), &bytes))
    };
    let levels: Vec<f32> = (0..=255u8).map(|v| f32::from(v) / 255.0).collect();
    assert_eq!(of(&levels).unwrap().iter().copied().collect::<Vec<_>>(), (0..=255).collect::<Vec<u8>>());
    for normalized in [-0.5, 0.5, 1.5, f32::NAN] {
        let error = of(&[0.0, normalized]).unwrap_err().to_string();
        assert!(error.contains("value 1 is") && error.contains("without normalization"), "{error}");
    }
}

#[test]
fn a_severity_is_a_fifth_of_the_images() {
    let data: Vec<u8> = (0..10).flat_map(|i| [i; 4]).collect();
    let bytes = file("'|u1'", "False", "(10, 2, 2)", &data);
    let first = |severity| {
        let block = parse_severity(&bytes[..], Path::new(PATH), Some(severity)).unwrap();
        (block.dim().0, block[[0, 0, 0, 0]], block[[1, 1, 1, 0]])
    };
    assert_eq!([1, 2, 5].map(first), [(2, 0, 1), (2, 2, 3), (2, 8, 9)]);
    let odd = file("'|u1'", "False", "(7, 1, 1)", &[0; 7]);
    let error = parse_severity(&odd[..], Path::new(PATH), Some(1)).unwrap_err().to_string();
    assert!(error.contains("7 images are not five severities"), "{error}");
}

#[test]
fn every_kind_of_damage_is_named() {
    let good = file("'|u1'", "False", "(1, 2, 2)", &[1, 2, 3, 4]);
    let longer = [&good[..], &[0]].concat();
    let cases: Vec<(Vec<u8>, &str)> = vec![
        (good[..good.len() - 1].to_vec(), "cut off: it announces 4 values"),
        (good[..40].to_vec(), "ends inside its header"),
        (longer, "bytes follow"),
        (b"\x93NUMPX\x01\0".to_vec(), "does not begin as a file of NumPy"),
        (b"\x93NUMPY\x09\0".to_vec(), "version 9"),
        ([&b"\x93NUMPY\x02\0"[..], &[255; 4]].concat(), "announces 4294967295 bytes"),
        (file("'|O'", "False", "(1, 1, 1)", &[0; 8]), "the type |O"),
        (file("'<U3'", "False", "(1, 1, 1)", &[0; 12]), "the type <U3"),
        (file("[('a', '<i4')]", "False", "(1, 1, 1)", &[0; 4]), "the type [('a', '<i4')"),
        (file("'|u1'", "False", "(1, 1000000, 1000000)", &[0]), "more than 4294967296 values"),
        (file("'|u1'", "False", "(18446744073709551615, 3, 3)", &[0]), "more than 4294967296 values"),
        (file("'|u1'", "False", "(-1, 2, 2)", &[0]), "its header is"),
        (file("'|u1'", "Maybe", "(1, 2, 2)", &[0]), "its header is"),
        (file("'|u1'", "False", "()", &[0]), "not one of gray or color images"),
    ];
    for (bytes, cause) in cases {
        let message = images(&bytes).unwrap_err().to_string();
        assert!(message.contains(cause) && message.contains(PATH), "{cause}: {message}");
    }
}

proptest! {
    #[test]
    fn what_is_written_is_read_again(n in 1usize..4, h in 1usize..4, w in 1usize..4, seed: u8) {
        let pixels: Vec<u8> = (0..n * h * w * 3).map(|i| seed.wrapping_mul(31).wrapping_add(i as u8)).collect();
        let found = images(&encode_u8(&[n, h, w, 3], &pixels)).unwrap();
        prop_assert_eq!((found.dim(), found.into_raw_vec_and_offset().0), ((n, h, w, 3), pixels));
        let numbers: Vec<u32> = (0..n as u32).map(|i| i * 7).collect();
        let found = labels(&encode_u32(&[n], &numbers)).unwrap();
        prop_assert!(found.iter().zip(&numbers).all(|(&a, &b)| u32::from(a) == b));
    }

    #[test]
    fn mutations_never_panic(
        edits in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        cut in proptest::option::of(any::<prop::sample::Index>()),
    ) {
        let mut bytes = file("'|u1'", "False", "(1, 2, 2)", &[1, 2, 3, 4]);
        edits.iter().for_each(|(at, value)| { let i = at.index(bytes.len()); bytes[i] = *value; });
        bytes.truncate(cut.map_or(bytes.len(), |c| c.index(bytes.len())));
        let _ = (images(&bytes), labels(&bytes));
    }
}
