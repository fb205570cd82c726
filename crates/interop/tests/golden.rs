//! Transformers by formula against values that were computed in double precision by other code.

mod common;

use common::{Tensor as Raw, Value, torch_zip};
use tarrl_interop::{Model, ReadOptions};
use tarrl_tensor::{Tensor, cpu};

/// `w(o, shape)[i] = 0.5·sin(0.37·(i + o))`, with `i` the flat index in PyTorch's order, and one added for scales.
fn w(offset: usize, shape: &[usize], plus: f64) -> Value {
    let count: usize = shape.iter().product();
    let values: Vec<f32> =
        (0..count).map(|i| (plus + 0.5 * (0.37 * (i + offset) as f64).sin()) as f32).collect();
    Value::Tensor(Raw::f32(shape, &values))
}

/// One block of timm's vision transformer on images `(2, 1, 4, 4)` with `x[i] = ((37·i) mod 101) / 101`: patches of 2×2,
/// eight dimensions, two heads, hidden layer of 32, class token.
#[test]
fn a_block_of_timms_transformer_has_the_expected_values() {
    let norm = |name: &str, offset: usize| {
        [
            (format!("{name}.weight"), w(10 + offset, &[8], 1.0)),
            (format!("{name}.bias"), w(20 + offset, &[8], 0.0)),
        ]
    };
    let linear = |name: &str, weight: usize, [out, inputs]: [usize; 2]| {
        [
            (format!("{name}.weight"), w(weight, &[out, inputs], 0.0)),
            (format!("{name}.bias"), w(weight + 10, &[out], 0.0)),
        ]
    };
    let mut tensors = vec![
        ("patch_embed.proj.weight".to_owned(), w(0, &[8, 1, 2, 2], 0.0)),
        ("patch_embed.proj.bias".to_owned(), w(1, &[8], 0.0)),
        ("cls_token".to_owned(), w(2, &[1, 1, 8], 0.0)),
        ("pos_embed".to_owned(), w(3, &[1, 5, 8], 0.0)),
    ];
    tensors.extend(norm("blocks.0.norm1", 0));
    tensors.extend(linear("blocks.0.attn.qkv", 30, [24, 8]));
    tensors.extend(linear("blocks.0.attn.proj", 31, [8, 8]));
    tensors.extend(norm("blocks.0.norm2", 1));
    tensors.extend(linear("blocks.0.mlp.fc1", 32, [32, 8]));
    tensors.extend(linear("blocks.0.mlp.fc2", 33, [8, 32]));
    tensors.extend(norm("norm", 2));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("block.pt");
    std::fs::write(&path, torch_zip(&Value::Dict(tensors))).unwrap();
    let options = ReadOptions { heads: Some(2), ..ReadOptions::default() };
    let model = Model::open(&path, &options, &cpu()).unwrap();
    let pixels: Vec<f32> = (0..32).map(|i| ((37 * i) % 101) as f32 / 101.0).collect();
    // One channel, so that the order of axes does not matter.
    let found = model.forward(&Tensor::new(&cpu(), [2, 4, 4, 1], &pixels)).to_vec::<f32>();
    // Computed in float64 by PyTorch, and again by separate code to 1e-14.
    let expected = [
        0.624_763_640_892_063_7,
        1.363_552_555_126_901_9,
        -0.068_393_325_299_390_82,
        0.556_263_459_988_517_9,
        -1.282_750_518_773_301_8,
        -0.246_819_873_264_101_96,
        -1.721_186_025_953_200_1,
        -0.193_537_115_076_736_85,
        0.647_696_828_327_966,
        1.361_955_976_766_95,
        -0.068_058_317_745_513_81,
        0.531_125_912_355_482_8,
        -1.297_922_296_257_304_3,
        -0.266_735_399_096_000_47,
        -1.707_600_909_638_929,
        -0.162_806_416_289_678_3,
    ];
    for (found, expected) in found.iter().zip(expected) {
        // A few dozen roundings of 6e-8 each.
        assert!((f64::from(*found) - expected).abs() < 2e-6, "{found} {expected}");
    }
}

/// A tower of CLIP with one block on the same images: patches of 2×2 without bias, eight dimensions, two heads, a layer norm
/// before the block and a projection to three, under open_clip's names.
#[test]
fn a_tower_of_clip_has_the_expected_values() {
    let pair = |name: &str, of: [Value; 2]| {
        let [weight, bias] = of;
        [(format!("{name}weight"), weight), (format!("{name}bias"), bias)]
    };
    let norm = |name: &str, offset: usize| pair(name, [w(10 + offset, &[8], 1.0), w(20 + offset, &[8], 0.0)]);
    let linear = |name: &str, weight: usize, [out, inputs]: [usize; 2]| {
        pair(name, [w(weight, &[out, inputs], 0.0), w(weight + 10, &[out], 0.0)])
    };
    let mut tensors = vec![
        ("conv1.weight".to_owned(), w(0, &[8, 1, 2, 2], 0.0)),
        ("class_embedding".to_owned(), w(2, &[8], 0.0)),
        ("positional_embedding".to_owned(), w(3, &[5, 8], 0.0)),
        ("proj".to_owned(), w(5, &[8, 3], 0.0)),
    ];
    let block = "transformer.resblocks.0.";
    tensors.extend(norm("ln_pre.", 4));
    tensors.extend(norm(&format!("{block}ln_1."), 0));
    tensors.extend(linear(&format!("{block}attn.in_proj_"), 30, [24, 8]));
    tensors.extend(linear(&format!("{block}attn.out_proj."), 31, [8, 8]));
    tensors.extend(norm(&format!("{block}ln_2."), 1));
    tensors.extend(linear(&format!("{block}mlp.c_fc."), 32, [32, 8]));
    tensors.extend(linear(&format!("{block}mlp.c_proj."), 33, [8, 32]));
    tensors.extend(norm("ln_post.", 2));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tower.pt");
    std::fs::write(&path, torch_zip(&Value::Dict(tensors))).unwrap();
    let pixels: Vec<f32> = (0..32).map(|i| ((37 * i) % 101) as f32 / 101.0).collect();
    // Printed by clip_tower.py beside this file, in double precision.
    let expected = [
        (
            "fare",
            [
                -0.321_138_973_137_929_7,
                -0.633_062_048_637_636_4,
                -0.859_303_104_738_055_4,
                -0.313_103_062_204_124_54,
                -0.630_469_998_636_823_2,
                -0.862_505_737_712_637_8,
            ],
        ),
        (
            "open-clip",
            [
                -0.304_096_968_203_898_6,
                -0.631_371_913_226_781_2,
                -0.873_193_590_852_389_3,
                -0.296_175_903_721_242_7,
                -0.628_707_763_917_096_6,
                -0.876_146_937_064_524_7,
            ],
        ),
    ];
    for (map, expected) in expected {
        let options = ReadOptions { heads: Some(2), map: Some(map.into()), ..ReadOptions::default() };
        let model = Model::open(&path, &options, &cpu()).unwrap();
        let found = model.forward(&Tensor::new(&cpu(), [2, 4, 4, 1], &pixels)).to_vec::<f32>();
        for (found, expected) in found.iter().zip(expected) {
            // As above.
            assert!((f64::from(*found) - expected).abs() < 2e-6, "{map}: {found} {expected}");
        }
    }
}
