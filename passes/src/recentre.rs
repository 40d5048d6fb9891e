//! Products of shifted bytes as products of bytes, for machines whose matrix unit multiplies nothing wider.
//!
//! Quantised models multiply `a - za` by `b - zb` in i32, a and b being bytes. The differences have nine bits. With bytes moved to
//! the middle of i8, `a = a' + ca`, the product is one of i8 and three corrections of lower rank:
//!
//! ```text
//! Σ (a - za)(b - zb) = Σ a'·b' + q·Σ a' + p·Σ b' + p·q·K        p = ca - za,  q = cb - zb
//! ```
//! Sums of i32 wrap, so both sides are equal whatever the sizes.

use rustc_hash::FxHashMap;
use tarsia_graph::{BinaryFn, Contraction, Graph, GraphError, Op, Origin, ReduceFn, Type, Value};
use tarsia_tensor::{DType, Dim, Tensor};

use crate::{
    PassError,
    emit::{Emitter, Folding},
    simplify::{ordered, with_subgraphs},
};

/// Rewrites every contraction in i32 of bytes minus zero points (that do not vary along what is summed); gives how many there were.
/// `constant_bytes` bounds the constants that folding may make.
///
/// # Errors
/// If a rewritten node does not type-check, which is a defect.
pub fn recentre(graph: &Graph, constant_bytes: usize) -> Result<(Graph, usize), PassError> {
    let mut count = 0;
    let graph = rebuild(graph, constant_bytes, &mut count).map_err(PassError::in_pass("recentre"))?;
    Ok((graph, count))
}

fn rebuild(graph: &Graph, constant_bytes: usize, count: &mut usize) -> Result<Graph, GraphError> {
    let (mut emitter, inputs) = Emitter::new(graph, Folding::all(constant_bytes));
    let mut done: FxHashMap<Value, Value> = FxHashMap::default();
    for ((_, id), value) in graph.inputs().iter().zip(inputs) {
        done.insert((*id).into(), value);
    }
    for id in graph.node_ids() {
        let node = &graph[id];
        let operands: Vec<Value> = graph.operands(id).iter().map(|value| done[value]).collect();
        let results = match &node.op {
            Op::Input { .. } => continue,
            Op::Constant { value } => vec![emitter.constant(value.clone(), &node.origin)],
            Op::Contract { spec, dtype: DType::I32 } => match recentred(&mut emitter, spec, &operands, &node.origin)? {
                Some(value) => {
                    *count += 1;
                    vec![value]
                }
                None => emitter.emit_all(node.op.clone(), &operands, &node.origin)?.to_vec(),
            },
            op => {
                let op = with_subgraphs(op, &mut |sub| rebuild(sub, constant_bytes, count))?;
                emitter.emit_all(op, &operands, &node.origin)?.to_vec()
            }
        };
        for (output, value) in results.into_iter().enumerate() {
            done.insert(Value { node: id, output: output as u32 }, value);
        }
    }
    for output in graph.outputs() {
        emitter.graph.add_output(&output.name, done[&output.value]);
    }
    Ok(ordered(&emitter.graph))
}

/// A byte tensor in the middle of i8, and what is missing to the operand's value.
struct Centred {
    /// i8.
    bytes: Value,
    /// i32, of the operand's rank, size 1 along what is summed; `None` where it is 0.
    rest: Option<Value>,
}

fn recentred(
    emitter: &mut Emitter,
    spec: &Contraction,
    operands: &[Value],
    origin: &Origin,
) -> Result<Option<Value>, GraphError> {
    let terms = [&spec.lhs, &spec.rhs];
    let mut centred = Vec::with_capacity(2);
    for (term, &operand) in terms.iter().zip(operands) {
        match centre(emitter, term, &spec.out, operand, origin)? {
            Some(found) => centred.push(found),
            None => return Ok(None),
        }
    }
    let contract = Op::Contract { spec: spec.clone(), dtype: DType::I32 };
    let mut sum = emitter.emit(contract, &[centred[0].bytes, centred[1].bytes], origin)?;
    let add = Op::Binary(BinaryFn::Add);
    let mul = Op::Binary(BinaryFn::Mul);
    for which in 0..2 {
        let Some(rest) = centred[1 - which].rest else { continue };
        let total = total(emitter, terms[which], &spec.out, centred[which].bytes, origin)?;
        let total = aligned(emitter, terms[which], &spec.out, total, origin)?;
        let rest = aligned(emitter, terms[1 - which], &spec.out, rest, origin)?;
        let product = emitter.emit(mul.clone(), &[total, rest], origin)?;
        sum = emitter.emit(add.clone(), &[sum, product], origin)?;
    }
    if let (Some(p), Some(q)) = (centred[0].rest, centred[1].rest) {
        let summed = spec.lhs.iter().zip(&emitter.ty(operands[0]).shape).filter(|(l, _)| !spec.out.contains(l));
        let dim = Dim::product(&summed.map(|(_, size)| size.clone()).collect::<Vec<_>>());
        let terms_count = emitter.emit(Op::Size { dim }, &[], origin)?;
        let mut product = emitter.emit(Op::Cast { dtype: DType::I32, saturate: true }, &[terms_count], origin)?;
        for (term, rest) in [(&spec.lhs, p), (&spec.rhs, q)] {
            let rest = aligned(emitter, term, &spec.out, rest, origin)?;
            product = emitter.emit(mul.clone(), &[rest, product], origin)?;
        }
        sum = emitter.emit(add, &[sum, product], origin)?;
    }
    Ok(Some(sum))
}

/// An operand `cast(bytes) - zero` or `cast(bytes)`.
fn centre(
    emitter: &mut Emitter,
    term: &[u8],
    out: &[u8],
    operand: Value,
    origin: &Origin,
) -> Result<Option<Centred>, GraphError> {
    let shape = emitter.ty(operand).shape.clone();
    let (difference, zero) = match emitter.producer(operand) {
        (Op::Binary(BinaryFn::Sub), sides) => (sides[0], Some(sides[1])),
        _ => (operand, None),
    };
    let bytes = match emitter.producer(difference) {
        (Op::Cast { .. }, from) => from[0],
        _ => return Ok(None),
    };
    let ty = emitter.ty(bytes).clone();
    if ty.shape != shape || !matches!(ty.dtype, DType::I8 | DType::U8) {
        return Ok(None);
    }
    // The zero point as an array of the operand's rank.
    let zero = match zero {
        Some(zero) => {
            let mut sizes = emitter.ty(zero).shape.clone();
            sizes.splice(0..0, vec![Dim::ONE; shape.len() - sizes.len()]);
            if term.iter().zip(&sizes).any(|(letter, size)| !out.contains(letter) && !size.is(1)) {
                return Ok(None);
            }
            Some(emitter.emit(Op::Reshape { shape: sizes }, &[zero], origin)?)
        }
        None => None,
    };
    const MIDDLE: i32 = 128;
    let (bytes, middle) = match ty.dtype {
        DType::I8 => (bytes, 0),
        _ => {
            let middle = emitter.constant(Tensor::scalar(MIDDLE), origin);
            let moved = emitter.emit(Op::Binary(BinaryFn::Sub), &[difference, middle], origin)?;
            (emitter.emit(Op::Cast { dtype: DType::I8, saturate: true }, &[moved], origin)?, MIDDLE)
        }
    };
    let rest = match zero {
        None if middle == 0 => None,
        None => {
            let middle = emitter.constant(Tensor::scalar(middle), origin);
            Some(emitter.emit(Op::Reshape { shape: vec![Dim::ONE; shape.len()] }, &[middle], origin)?)
        }
        Some(zero) => {
            let middle = emitter.constant(Tensor::scalar(middle), origin);
            Some(emitter.emit(Op::Binary(BinaryFn::Sub), &[middle, zero], origin)?)
        }
    };
    let is_zero = |value: &Value| {
        let numbers = emitter.graph.constant(*value).and_then(|tensor| tensor.numbers().ok());
        numbers.is_some_and(|numbers| numbers.to_f64().iter().all(|&x| x == 0.0))
    };
    Ok(Some(Centred { bytes, rest: rest.filter(|rest| !is_zero(rest)) }))
}

/// The i32 sums of an operand over the axes that the product sums over; they keep size 1.
fn total(emitter: &mut Emitter, term: &[u8], out: &[u8], bytes: Value, origin: &Origin) -> Result<Value, GraphError> {
    let wide = emitter.emit(Op::Cast { dtype: DType::I32, saturate: true }, &[bytes], origin)?;
    let axes: Vec<usize> = (0..term.len()).filter(|&axis| !out.contains(&term[axis])).collect();
    if axes.is_empty() {
        return Ok(wide);
    }
    emitter.emit(Op::Reduce { function: ReduceFn::Sum, axes }, &[wide], origin)
}

/// An array with the axes of an operand (size 1 along what is summed), with the axes of the result.
fn aligned(emitter: &mut Emitter, term: &[u8], out: &[u8], value: Value, origin: &Origin) -> Result<Value, GraphError> {
    let place = |letter: &u8| out.iter().position(|l| l == letter).unwrap_or(out.len());
    let mut perm: Vec<usize> = (0..term.len()).collect();
    perm.sort_by_key(|&axis| place(&term[axis]));
    let Type { shape, .. } = emitter.ty(value).clone();
    let size = |letter: &u8| term.iter().position(|l| l == letter).map_or(Dim::ONE, |axis| shape[axis].clone());
    let shape: Vec<Dim> = out.iter().map(size).collect();
    let moved = emitter.emit(Op::Transpose { perm }, &[value], origin)?;
    emitter.emit(Op::Reshape { shape }, &[moved], origin)
}

#[cfg(test)]
mod tests {
    use tarsia_graph::eval;
    use tarsia_tensor::{Numbers, Overflow};

    use super::*;

    /// `(a - za)·(b - zb)` with a zero point for every column of b.
    fn product(lhs: DType, rhs: DType) -> Graph {
        let mut graph = Graph::new("product");
        let shape = |m: i64, n: i64| vec![Dim::from(m), Dim::from(n)];
        let a = graph.add_input("a", Type::new(lhs, shape(3, 5)));
        let za = graph.add_input("za", Type::new(DType::I32, vec![]));
        let b = graph.add_input("b", Type::new(rhs, shape(5, 4)));
        let zb = graph.add_input("zb", Type::new(DType::I32, vec![Dim::from(4i64)]));
        let mut add = |op: Op, operands: &[Value]| Value::from(graph.add(op, operands, Origin::default()).unwrap());
        let wide = Op::Cast { dtype: DType::I32, saturate: true };
        let (a, b) = (add(wide.clone(), &[a]), add(wide, &[b]));
        let (a, b) = (add(Op::Binary(BinaryFn::Sub), &[a, za]), add(Op::Binary(BinaryFn::Sub), &[b, zb]));
        let spec = Contraction::new(b"ab".to_vec(), b"bc".to_vec(), b"ac".to_vec()).unwrap();
        let result = add(Op::Contract { spec, dtype: DType::I32 }, &[a, b]);
        graph.add_output("y", result);
        graph
    }

    #[test]
    fn products_of_bytes_stay_equal() {
        for (lhs, rhs) in [(DType::U8, DType::U8), (DType::U8, DType::I8), (DType::I8, DType::I8)] {
            let graph = product(lhs, rhs);
            let (narrow, count) = recentre(&graph, 1 << 20).unwrap();
            assert_eq!(count, 1);
            for id in narrow.node_ids().filter(|&id| matches!(narrow[id].op, Op::Contract { .. })) {
                assert!(narrow.operands(id).iter().all(|&operand| narrow.ty(operand).dtype == DType::I8));
            }
            let tensor = |dtype, shape: &[usize]| {
                let middle = if dtype == DType::I8 { 128 } else { 0 };
                let values = (0..shape.iter().product::<usize>() as i64).map(|i| (i * 89 + 3) % 256 - middle);
                let numbers = Numbers::Int(values.collect()).cast(DType::I64, dtype, Overflow::Saturate);
                Tensor::from_numbers(dtype, shape, &numbers).unwrap()
            };
            let inputs = [
                tensor(lhs, &[3, 5]),
                Tensor::scalar(117i32),
                tensor(rhs, &[5, 4]),
                Tensor::from_slice(&[4], &[0i32, 255, 128, -7]).unwrap(),
            ];
            assert_eq!(eval::run(&graph, &inputs).unwrap(), eval::run(&narrow, &inputs).unwrap());
        }
    }
}
