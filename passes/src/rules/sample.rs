//! Random small shapes, attributes and data for the soundness test of the rules.

use tarsia_graph::{Attr, Contraction, Graph, Real, ReduceFn, Type, text::parse};
use tarsia_tensor::{DType, Dim, Numbers, Overflow, Tensor};

use crate::language::OpName;

/// A small random generator, seeded by a text, so that a failure repeats.
pub struct Rng(u64);

impl Rng {
    pub fn new(seed: &str) -> Rng {
        Rng(seed.bytes().fold(0x9e37_79b9_7f4a_7c15, |h, b| (h ^ u64::from(b)).wrapping_mul(0x1000_0000_01b3)) | 1)
    }

    pub fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % n.max(1)
    }

    pub fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        let i = self.below(items.len());
        &items[i]
    }

    pub fn shape(&mut self) -> Vec<usize> {
        let rank = 1 + self.below(4);
        (0..rank).map(|_| 1 + self.below(4)).collect()
    }

    /// A shape that is the base, broadcasts to it, or is a part of it.
    pub fn shape_like(&mut self, base: &[usize]) -> Vec<usize> {
        match self.below(8) {
            0 => Vec::new(),
            1 => base[self.below(base.len())..].to_vec(),
            2 => base.iter().map(|&n| if self.below(2) == 0 { 1 } else { n }).collect(),
            _ => base.to_vec(),
        }
    }

    pub fn dtype(&mut self) -> DType {
        *self.pick(&[DType::F32, DType::F32, DType::F32, DType::F32, DType::I32, DType::Bool, DType::F16])
    }

    /// Data for an input; inputs named `ids…` are small indices.
    pub fn tensor(&mut self, name: &str, ty: &Type) -> Tensor {
        let shape: Vec<usize> = ty.shape.iter().map(|dim| dim.as_usize().unwrap_or(3)).collect();
        let count: usize = shape.iter().product();
        let numbers = match ty.dtype {
            DType::Bool => Numbers::Uint((0..count).map(|_| self.below(2) as u64).collect()),
            dtype if dtype.is_integer() && name.starts_with("ids") => {
                Numbers::Int((0..count).map(|_| self.below(3) as i64).collect())
            }
            dtype if dtype.is_integer() => Numbers::Int((0..count).map(|_| self.below(9) as i64 - 4).collect()),
            _ => Numbers::Float((0..count).map(|_| (self.below(64) as f64 - 24.0) / 16.0).collect()),
        };
        Tensor::new(
            ty.dtype,
            &shape,
            numbers.cast(DType::F64, ty.dtype, Overflow::Special).encode(ty.dtype, Overflow::Special).into(),
        )
        .expect("as many numbers as the shape has")
    }
}

/// How many attributes an op has.
pub fn attr_count(name: OpName) -> usize {
    match name.name() {
        "transpose" | "reshape" | "broadcast" | "concat" | "softmax" | "gelu" | "rotary" | "attention" | "gather"
        | "take_along" | "scatter_rows" => 1,
        "cast" | "reduce" | "contract" | "rms_norm" | "layer_norm" | "routed" | "scatter_along" => 2,
        "slice" | "pad" => 3,
        "conv" => 6,
        _ => 0,
    }
}

/// The type an operand should have.
pub fn operand_dtype(name: OpName, operand: usize, dtype: DType, rng: &mut Rng) -> DType {
    match (name.name(), operand) {
        ("and" | "or" | "xor" | "not", _) | ("select", 0) => DType::Bool,
        ("eq" | "ne" | "lt" | "le" | "gt" | "ge" | "is_nan" | "is_inf", _) => DType::F32,
        ("bit_and" | "bit_or" | "bit_xor" | "bit_not" | "shl" | "shr", _) => DType::I32,
        ("cast", _) => *rng.pick(&[DType::F32, DType::F16, DType::I32, DType::BF16, DType::F64]),
        ("gather" | "take_along", 1) | ("routed", 2) => DType::I64,
        ("contract" | "softmax" | "rms_norm" | "layer_norm", _) if !dtype.is_float() => DType::F32,
        _ => dtype,
    }
}

/// Random attributes that may fit operands of these types.
pub fn attrs(name: OpName, types: &[Type], dtype: DType, rng: &mut Rng) -> Option<Vec<Attr>> {
    let Some(first) = types.first() else { return Some(Vec::new()) };
    let (rank, shape) = (first.rank(), &first.shape);
    let axis = |rng: &mut Rng| Attr::Int(rng.below(rank) as i64);
    let ints = |list: Vec<usize>| Attr::Ints(list.into_iter().map(|x| x as i64).collect());
    Some(match name.name() {
        "transpose" => vec![ints(permutation(rank, rng))],
        "reshape" => vec![Attr::Dims(reshaped(shape, rng))],
        "broadcast" => vec![Attr::Dims(broadcast(shape, rng))],
        "concat" | "softmax" | "gather" | "take_along" => vec![axis(rng)],
        "gelu" => vec![Attr::Bool(rng.below(2) == 0)],
        "rotary" => vec![Attr::Bool(false)],
        "attention" => vec![Attr::Real(Real(0.5))],
        "cast" => vec![Attr::DType(*rng.pick(&[dtype, DType::F32, DType::F16, DType::BF16])), Attr::Bool(true)],
        "reduce" => {
            let function = *rng.pick(&[ReduceFn::Sum, ReduceFn::Max, ReduceFn::Mean, ReduceFn::Min]);
            let count = 1 + rng.below(rank.clamp(1, 2));
            let mut axes = permutation(rank, rng)[..count.min(rank)].to_vec();
            axes.sort_unstable();
            vec![Attr::Text(function.to_string()), ints(axes)]
        }
        "rms_norm" | "layer_norm" => vec![axis(rng), Attr::Real(Real(1e-3))],
        "contract" => {
            vec![Attr::Text(contraction(rank, types.get(1)?.rank(), rng)?.to_string()), Attr::DType(first.dtype)]
        }
        "slice" => slice(shape, rng),
        "pad" => vec![Attr::Dims(vec![Dim::ZERO; rank]), Attr::Dims(vec![Dim::ZERO; rank]), ints(vec![0; rank])],
        _ => Vec::new(),
    })
}

fn permutation(rank: usize, rng: &mut Rng) -> Vec<usize> {
    let mut perm: Vec<usize> = (0..rank).collect();
    for i in (1..rank).rev() {
        perm.swap(i, rng.below(i + 1));
    }
    perm
}

/// The shape with neighbouring axes merged, an axis of size 1 inserted, or as it is.
fn reshaped(shape: &[Dim], rng: &mut Rng) -> Vec<Dim> {
    let mut shape = shape.to_vec();
    match rng.below(4) {
        0 if shape.len() > 1 => {
            let i = rng.below(shape.len() - 1);
            let merged = shape[i].clone() * shape[i + 1].clone();
            shape.splice(i..i + 2, [merged]);
        }
        1 => shape.insert(rng.below(shape.len() + 1), Dim::ONE),
        2 => shape = vec![Dim::product(&shape)],
        _ => shape.retain(|dim| !dim.is(1)),
    }
    shape
}

fn broadcast(shape: &[Dim], rng: &mut Rng) -> Vec<Dim> {
    let mut shape: Vec<Dim> =
        shape.iter().map(|d| if d.is(1) && rng.below(2) == 0 { Dim::from(3usize) } else { d.clone() }).collect();
    if rng.below(3) == 0 {
        shape.insert(0, Dim::from(2usize));
    }
    shape
}

fn slice(shape: &[Dim], rng: &mut Rng) -> Vec<Attr> {
    let (mut starts, mut sizes, mut steps) = (Vec::new(), Vec::new(), Vec::new());
    let one = rng.below(shape.len().max(1));
    for (i, dim) in shape.iter().enumerate() {
        let size = dim.as_usize().unwrap_or(1);
        let (start, count, step) = match (i == one, rng.below(3)) {
            (true, 0) if size > 1 => (rng.below(2), size / 2, 1),
            (true, 1) if size > 1 => (rng.below(2), size / 2, 2),
            (true, 2) if size > 1 => (size / 2, size - size / 2, 1),
            _ => (0, size, 1),
        };
        starts.push(Dim::from(start));
        sizes.push(Dim::from(count));
        steps.push(step as i64);
    }
    vec![Attr::Dims(starts), Attr::Dims(sizes), Attr::Ints(steps)]
}

fn contraction(left: usize, right: usize, rng: &mut Rng) -> Option<Contraction> {
    let letters: Vec<u8> = (b'a'..b'a' + 6).collect();
    let take =
        |n: usize, rng: &mut Rng| -> Vec<u8> { permutation(6, rng)[..n.min(6)].iter().map(|&i| letters[i]).collect() };
    let (lhs, rhs) = (take(left, rng), take(right, rng));
    let keep = rng.below(4) == 0;
    let mut out: Vec<u8> = letters
        .into_iter()
        .filter(|l| lhs.contains(l) != rhs.contains(l) || keep && lhs.contains(l) && rhs.contains(l))
        .collect();
    let order = permutation(out.len(), rng);
    out = order.into_iter().map(|i| out[i]).collect();
    Contraction::new(lhs, rhs, out).ok()
}

/// Graphs on which a rule with a rare left side is tried instead of random ones.
pub fn seeds(rule: &str) -> Vec<Graph> {
    let parts = include_str!("seeds.txt").split("rules: ").skip(1).filter_map(|part| part.split_once('\n'));
    let mine = parts.filter(|(names, _)| names.split(' ').any(|name| name == rule));
    mine.map(|(_, text)| parse(text).unwrap_or_else(|error| panic!("{error}\n{text}"))).collect()
}
