//! What a cut makes a machine do, and what that costs.

use serde::{Deserialize, Serialize};
use smallvec::SmallVec;
use tarsia_graph::{ArgReduceFn, BinaryFn, KernelKind, Op, Type, UnaryFn};
use tarsia_tensor::DType;

/// The work of one kernel at representative sizes.
#[derive(Clone, Debug, PartialEq)]
pub struct CutWork {
    /// What kind of kernel does it.
    pub kind: KernelKind,
    /// Bytes read from memory.
    pub read: f64,
    /// Bytes written to memory.
    pub written: f64,
    /// Multiply-adds of contractions by element type of their operands.
    pub macs: SmallVec<[(DType, f64); 1]>,
    /// Cheap vector operations (add, compare, copy), in 32-bit lanes.
    pub vector: f64,
    /// Transcendental vector operations (exp, erf, pow), in 32-bit lanes.
    pub transcendental: f64,
    /// Elements that are not neighbours in memory where they come from, in 32-bit lanes.
    pub strided: f64,
    /// Elements of the result: what can be done side by side.
    pub items: f64,
}

/// Gives the time of a cut; computed from the machine description by whoever calls the pass.
pub trait CostModel {
    /// Time in seconds of one kernel with this work, launch included.
    fn time(&self, work: &CutWork) -> f64;
}

/// A cost model of a few rates: the work of each unit divided by its rate, the slowest unit counts.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rates {
    /// Seconds to launch a kernel.
    pub launch: f64,
    /// Bytes a second to and from memory.
    pub bytes: f64,
    /// f32 multiply-adds a second on the matrix unit.
    pub macs: f64,
    /// Cheap 32-bit vector operations a second.
    pub vector: f64,
    /// Transcendental 32-bit vector operations a second.
    pub transcendental: f64,
    /// Elements a second that are moved although they are not neighbours in memory.
    pub strided: f64,
}

impl Default for Rates {
    /// About one core of a server CPU with AVX-512.
    fn default() -> Rates {
        Rates { launch: 2e-6, bytes: 1.2e10, macs: 5e10, vector: 1e10, transcendental: 1.5e9, strided: 1e10 }
    }
}

impl CostModel for Rates {
    fn time(&self, work: &CutWork) -> f64 {
        let memory = (work.read + work.written) / self.bytes;
        let matrix: f64 = work.macs.iter().map(|(dtype, macs)| macs * lanes(*dtype).max(0.25) / self.macs).sum();
        let vector =
            work.vector / self.vector + work.transcendental / self.transcendental + work.strided / self.strided;
        // One instruction stream feeds the matrix and the vector unit.
        self.launch + memory.max(matrix + vector)
    }
}

/// 32-bit lanes that one element of a type takes.
fn lanes(dtype: DType) -> f64 {
    match dtype {
        DType::F64 | DType::I64 | DType::U64 => 2.0,
        _ => 1.0,
    }
}

/// The work of one op by itself, without memory traffic.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Load {
    pub macs: f64,
    pub vector: f64,
    pub transcendental: f64,
    pub strided: f64,
}

/// The element counts and sizes of a value at representative sizes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Extent {
    pub sizes: SmallVec<[f64; 6]>,
    pub count: f64,
    pub bytes: f64,
}

impl Extent {
    /// The extent of a type when `eval` gives the sizes.
    pub fn of(ty: &Type, eval: &dyn Fn(&tarsia_tensor::Dim) -> f64) -> Extent {
        let sizes: SmallVec<[f64; 6]> = ty.shape.iter().map(|dim| eval(dim).max(0.0)).collect();
        let count: f64 = sizes.iter().product();
        let bits = if !ty.dtype.is_numeric() { 128.0 } else { ty.dtype.bits() as f64 };
        Extent { sizes, count, bytes: count * bits / 8.0 }
    }

    fn size(&self, axis: usize) -> f64 {
        self.sizes.get(axis).copied().unwrap_or(1.0)
    }
}

/// The work of `op` on operands of these extents.
pub(crate) fn load(op: &Op, operands: &[&Extent], result: &Extent, dtype: DType) -> Load {
    let (n, lanes) = (result.count, lanes(dtype));
    let first = operands.first().map_or(0.0, |operand| operand.count);
    let vector = |per: f64, count: f64| Load { vector: per * count * lanes, ..Load::default() };
    let both = |cheap: f64, hard: f64, count: f64| Load {
        vector: cheap * count * lanes,
        transcendental: hard * count * lanes,
        ..Load::default()
    };
    match op {
        Op::Unary(function) => both(unary_weight(*function).0, unary_weight(*function).1, n),
        Op::Binary(function) => both(binary_weight(*function).0, binary_weight(*function).1, n),
        Op::Select {} | Op::Cast { .. } | Op::Iota { .. } => vector(1.0, n),
        Op::Transpose { perm } => vector(if perm.last() == Some(&(perm.len().max(1) - 1)) { 0.1 } else { 1.0 }, n),
        Op::Slice { steps, .. } if steps.last().is_some_and(|step| *step != 1) => {
            Load { strided: n * lanes, ..Load::default() }
        }
        Op::Concat { .. } | Op::Pad { .. } => vector(0.5, n),
        Op::Random { .. } => both(0.0, 1.0, n),
        Op::Reduce { .. } => vector(1.0, first),
        Op::ArgReduce { function: ArgReduceFn::Min | ArgReduceFn::Max, .. } => vector(2.0, first),
        Op::Scan { .. } => vector(8.0, first),
        // A little less than their expansions, so that of equal forms the one with fewer ops is kept.
        Op::Softmax { .. } => both(1.9, 1.0, n),
        Op::Gelu { .. } => both(3.5, 1.0, n),
        Op::Silu {} => both(0.5, 1.0, n),
        Op::LayerNorm { .. } => vector(6.0, n),
        Op::RmsNorm { .. } => vector(3.5, n),
        Op::Rotary { .. } => vector(3.0, n),
        Op::Contract { spec, .. } => contraction(&spec.lhs, &spec.rhs, operands),
        Op::Routed { spec, .. } => routed(&spec.lhs, &spec.rhs, operands),
        Op::Conv { .. } => {
            let window: f64 = operands.get(1).map_or(0.0, |w| w.sizes.iter().skip(1).product());
            Load { macs: n * window, ..Load::default() }
        }
        Op::WindowReduce { window, .. } => vector(window.iter().map(|&size| size as f64).product(), n),
        Op::Attention { .. } => attention(operands),
        Op::Gather { .. } | Op::TakeAlong { .. } => vector(1.0, n),
        Op::ScatterRows { .. } | Op::ScatterAlong { .. } => {
            vector(1.0, first + 2.0 * operands.get(2).map_or(0.0, |updates| updates.count))
        }
        Op::Sort { axis, .. } | Op::TopK { axis, .. } => {
            let row = operands.first().map_or(1.0, |x| x.size(*axis)).max(2.0);
            vector(4.0 * row.log2(), first)
        }
        _ => Load::default(),
    }
}

fn unary_weight(function: UnaryFn) -> (f64, f64) {
    use UnaryFn::*;
    match function {
        Abs | Neg | Floor | Ceil | Round | Trunc | Sign | Not | BitNot | IsNan | IsInf => (1.0, 0.0),
        Sqrt | Rsqrt | Reciprocal => (4.0, 0.0),
        _ => (0.0, 1.0),
    }
}

fn binary_weight(function: BinaryFn) -> (f64, f64) {
    use BinaryFn::*;
    match function {
        Pow | Atan2 | Mod | Rem => (0.0, 1.0),
        Div => (4.0, 0.0),
        _ => (1.0, 0.0),
    }
}

fn contraction(lhs: &[u8], rhs: &[u8], operands: &[&Extent]) -> Load {
    let left: f64 = operands.first().map_or(0.0, |x| x.count);
    let right =
        |x: &&Extent| -> f64 { (0..rhs.len()).filter(|&i| !lhs.contains(&rhs[i])).map(|i| x.size(i)).product() };
    Load { macs: left * operands.get(1).map_or(0.0, right), ..Load::default() }
}

fn routed(lhs: &[u8], rhs: &[u8], operands: &[&Extent]) -> Load {
    let [x, weights, ids] = operands else { return Load::default() };
    let sizes: SmallVec<[f64; 6]> = ids.sizes.iter().chain(weights.sizes.iter().skip(1)).copied().collect();
    let gathered = Extent { count: sizes.iter().product(), sizes, bytes: 0.0 };
    contraction(lhs, rhs, &[*x, &gathered])
}

fn attention(operands: &[&Extent]) -> Load {
    let [q, k, v, ..] = operands else { return Load::default() };
    let scores = q.size(0) * q.size(1) * q.size(2) * k.size(2);
    Load { macs: scores * (q.size(3) + v.size(3)), vector: 4.0 * scores, transcendental: scores, strided: 0.0 }
}
