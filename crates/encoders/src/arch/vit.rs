//! Vision transformers (Dosovitskiy et al. 2021), as published ViT-Tiny on small patches.

use crate::config::{EncoderConfig, VIT_PATCH};
use crate::layers::{Conv2d, LayerNorm, Linear};
use crate::module::Role;
use crate::param_builder::ParamBuilder;
use crate::variant::ClipTower;
use std::sync::Arc;
use tarrl_tensor::{Tensor, Transpose, math};

const DEPTH: usize = 12;
const HEADS: usize = 3;
/// Dimensions of a head at width 1.
const HEAD: usize = 64;
/// Standard deviation of the initial values of matrices and positions.
const DEVIATION: f32 = 0.02;

/// Patches of 4×4 pixels as tokens, a class token before them, learned positions, twelve blocks that normalize before
/// they compute, three heads of attention and a hidden layer four times as wide in each; the representation is the class
/// token after a last normalization.
///
/// [`ClipTower`](crate::ClipTower) says what differs in CLIP, with `norm_pre` as in timm and `proj` as in open_clip.
///
/// Names and order are timm's: `cls_token`, `pos_embed`, `patch_embed.proj`, `blocks.0.norm1`, `blocks.0.attn.qkv`, …,
/// `norm`. Initial values: matrices and positions N(0, 0.02²), class token N(0, 1e-12), biases 0, the patches PyTorch's
/// default.
#[derive(Clone, Debug)]
pub(crate) struct Vit {
    class: Token,
    positions: Token,
    patches: Conv2d,
    heads: usize,
    /// Before the blocks, in CLIP.
    norm_pre: Option<LayerNorm>,
    blocks: Vec<Block>,
    norm: LayerNorm,
    /// `(d, e)`: the projection of CLIP.
    proj: Option<Token>,
}

/// A tensor with its name.
#[derive(Clone, Debug)]
struct Token {
    name: Arc<str>,
    value: Tensor,
}

#[derive(Clone, Debug)]
struct Block {
    norm1: LayerNorm,
    /// `(3d, d)`: queries, keys, values, each head after head.
    qkv: Linear,
    proj: Linear,
    norm2: LayerNorm,
    fc1: Linear,
    fc2: Linear,
    quick_gelu: bool,
}

impl Vit {
    pub(crate) fn new(config: &EncoderConfig, params: &ParamBuilder) -> Self {
        let d = inner(config);
        let patch = config.variant.patch.unwrap_or(VIT_PATCH);
        let side = config.side / patch;
        let token = |name: &str, tokens: usize, deviation: f32| Token {
            name: params.at(name).name().into(),
            value: params.normal(name, &[1, tokens, d], deviation),
        };
        let clip = config.variant.clip;
        let norm = |params: &ParamBuilder| layer_norm(params, d, clip.is_some());
        let patches = Conv2d::patches(&params.at("patch_embed.proj"), [config.in_channels, d, patch]);
        let projection = clip.and_then(|clip| clip.projection);
        Vit {
            class: token("cls_token", 1, 1e-6),
            positions: token("pos_embed", side * side + 1, DEVIATION),
            patches: if clip.is_some() { patches.without_bias() } else { patches },
            heads: heads(config),
            norm_pre: clip.map(|_| norm(&params.at("norm_pre"))),
            blocks: (0..config.variant.depth.unwrap_or(DEPTH))
                .map(|i| Block::new(&params.at(&format!("blocks.{i}")), d, clip))
                .collect(),
            norm: norm(&params.at("norm")),
            proj: projection.map(|e| Token {
                name: params.at("proj").name().into(),
                value: params.normal("proj", &[d, e], math::powf(d as f64, -0.5) as f32),
            }),
        }
    }

    #[track_caller]
    pub(crate) fn forward(&self, x: &Tensor) -> Tensor {
        let patches = self.patches.forward(x);
        let [n, h, w, d] = patches.shape()[..] else { unreachable!("a convolution gives images") };
        let class = self.class.value.cast(x.dtype()).broadcast_to([n, 1, d]);
        let tokens = Tensor::concat(&[&class, &patches.reshape([n, h * w, d])], 1);
        assert_eq!(
            tokens.shape()[1],
            self.positions.value.shape()[1],
            "transformer: images {:?} are not of the side that it was built for",
            x.shape()
        );
        let mut x = &tokens + &self.positions.value.cast(tokens.dtype()); // (n, t, d)
        if let Some(norm) = &self.norm_pre {
            x = norm.forward(&x);
        }
        for block in &self.blocks {
            x = block.forward(&x, self.heads);
        }
        let z = self.norm.forward(&x.slice(1, 0, 1).reshape([n, d]));
        match &self.proj {
            Some(proj) => z.matmul(&proj.value.cast(z.dtype())),
            None => z,
        }
    }

    /// The same network without history.
    pub(crate) fn detached(&self) -> Self {
        let mut net = self.clone();
        net.visit_mut(&mut |_, _, tensor| *tensor = tensor.detach());
        net
    }

    pub(crate) fn visit(&self, f: &mut dyn FnMut(&str, Role, &Tensor)) {
        for token in [&self.class, &self.positions] {
            f(&token.name, Role::Embedding, &token.value);
        }
        self.patches.visit(f);
        self.norm_pre.iter().for_each(|norm| norm.visit(f));
        for block in &self.blocks {
            block.norm1.visit(f);
            block.qkv.visit(f);
            block.proj.visit(f);
            block.norm2.visit(f);
            block.fc1.visit(f);
            block.fc2.visit(f);
        }
        self.norm.visit(f);
        self.proj.iter().for_each(|proj| f(&proj.name, Role::Weight, &proj.value));
    }

    pub(crate) fn visit_mut(&mut self, f: &mut dyn FnMut(&str, Role, &mut Tensor)) {
        for token in [&mut self.class, &mut self.positions] {
            f(&token.name, Role::Embedding, &mut token.value);
        }
        self.patches.visit_mut(f);
        self.norm_pre.iter_mut().for_each(|norm| norm.visit_mut(f));
        for block in &mut self.blocks {
            block.norm1.visit_mut(f);
            block.qkv.visit_mut(f);
            block.proj.visit_mut(f);
            block.norm2.visit_mut(f);
            block.fc1.visit_mut(f);
            block.fc2.visit_mut(f);
        }
        self.norm.visit_mut(f);
        self.proj.iter_mut().for_each(|proj| f(&proj.name, Role::Weight, &mut proj.value));
    }
}

impl Block {
    fn new(params: &ParamBuilder, d: usize, clip: Option<ClipTower>) -> Self {
        let linear = |name: &str, [inputs, outputs]: [usize; 2]| {
            let params = params.at(name);
            let weight = params.normal("weight", &[outputs, inputs], DEVIATION);
            Linear::with_weight(&params, weight, outputs)
        };
        let norm = |name: &str| layer_norm(&params.at(name), d, clip.is_some());
        Block {
            norm1: norm("norm1"),
            qkv: linear("attn.qkv", [d, 3 * d]),
            proj: linear("attn.proj", [d, d]),
            norm2: norm("norm2"),
            fc1: linear("mlp.fc1", [d, 4 * d]),
            fc2: linear("mlp.fc2", [4 * d, d]),
            quick_gelu: clip.is_some_and(|clip| clip.quick_gelu),
        }
    }

    /// `(n, t, d)` to the same.
    fn forward(&self, x: &Tensor, heads: usize) -> Tensor {
        let x = x + &self.attention(&self.norm1.forward(x), heads);
        let hidden = rows(&self.fc1, &self.norm2.forward(&x));
        let hidden =
            if self.quick_gelu { &hidden * &hidden.mul_scalar(1.702).sigmoid() } else { hidden.gelu() };
        &x + &rows(&self.fc2, &hidden)
    }

    fn attention(&self, x: &Tensor, heads: usize) -> Tensor {
        let [n, t, d] = x.shape()[..] else { unreachable!("tokens are (n, t, d)") };
        let split = rows(&self.qkv, x).reshape([n, t, 3, heads, d / heads]).permute(&[2, 0, 3, 1, 4]);
        let [q, k, v] = [0, 1, 2].map(|i| split.slice(0, i, 1).reshape([n, heads, t, d / heads]));
        let scale = math::powf((d / heads) as f64, -0.5);
        let weights = q.mul_scalar(scale).matmul_with(&k, Transpose::RIGHT).softmax(); // (n, heads, t, t)
        rows(&self.proj, &weights.matmul(&v).permute(&[0, 2, 1, 3]).reshape([n, t, d]))
    }
}

/// The layer norm of a transformer, or of CLIP's.
fn layer_norm(params: &ParamBuilder, d: usize, clip: bool) -> LayerNorm {
    let norm = LayerNorm::new(params, d);
    if clip { norm.with_eps(1e-5) } else { norm }
}

/// A linear map of every token of `(n, t, inputs)`.
fn rows(linear: &Linear, x: &Tensor) -> Tensor {
    let [n, t, d] = x.shape()[..] else { unreachable!("tokens are (n, t, d)") };
    let y = linear.forward(&x.reshape([n * t, d]));
    y.reshape([n, t, y.shape()[1]])
}

/// The dimension of the representation.
pub(crate) fn dim(config: &EncoderConfig) -> usize {
    projected(config).unwrap_or_else(|| inner(config))
}

/// The dimension of a token.
fn inner(config: &EncoderConfig) -> usize {
    heads(config) * config.channels(HEAD)
}

fn projected(config: &EncoderConfig) -> Option<usize> {
    config.variant.clip?.projection
}

fn heads(config: &EncoderConfig) -> usize {
    config.variant.heads.unwrap_or(HEADS)
}
