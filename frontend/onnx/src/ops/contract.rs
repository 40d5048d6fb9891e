//! Matrix products.

use tarsia_graph::{BinaryFn, Contraction, Op, Value};
use tarsia_tensor::{DType, Dim};

use super::{Importer::One, Row, Rows};
use crate::{
    Node,
    import::{Ctx, Outcome, invalid, unsupported},
};

pub(super) const ROWS: Rows = &[Row::new("Gemm", 1, One(gemm)), Row::new("MatMul", 1, One(matmul))];

fn matmul<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Value> {
    let (a, b) = (ctx.value(node, 0)?, ctx.value(node, 1)?);
    let dtype = ctx.dtype(a);
    product(ctx, a, b, dtype)
}

/// NumPy's matrix product of stacks of matrices, or of vectors, as one contraction. Axes that one operand repeats are letters of
/// the other alone.
pub(super) fn product(ctx: &mut Ctx<'_, '_>, a: Value, b: Value, dtype: DType) -> Outcome<Value> {
    let (left, right) = (ctx.shape(a), ctx.shape(b));
    if left.is_empty() || right.is_empty() {
        return Err(invalid("a matrix product needs operands with at least one axis"));
    }
    let batch = left.len().max(right.len()).saturating_sub(2);
    if batch > 40 {
        return Err(unsupported(format!("matrix products of {} axes", batch + 2)));
    }
    let letter = |i: usize| if i < 26 { b'a' + i as u8 } else { b'A' + (i - 26) as u8 };
    let (m, k, n) = (letter(batch), letter(batch + 1), letter(batch + 2));
    let (mut lhs, mut rhs, mut out) = (Term::default(), Term::default(), Vec::new());
    for i in 0..batch {
        let at = |shape: &[Dim]| (i + shape.len()).checked_sub(batch + 2).and_then(|j| shape.get(j).cloned());
        let (x, y) = (at(&left), at(&right));
        let one = |dim: &Option<Dim>| dim.as_ref().is_none_or(|dim| dim.is(1));
        out.push(letter(i));
        match (x, y) {
            (x, y) if one(&x) && !one(&y) => rhs.push(letter(i), y),
            (x, y) if one(&y) && !one(&x) => lhs.push(letter(i), x),
            // Both are 1, where one may be missing, or neither is, and they must agree.
            (x, y) => {
                lhs.push(letter(i), x);
                rhs.push(letter(i), y);
            }
        }
    }
    if left.len() > 1 {
        lhs.push(m, left.get(left.len() - 2).cloned());
        out.push(m);
    }
    lhs.push(k, left.last().cloned());
    rhs.push(k, right.get(right.len().saturating_sub(2)).cloned());
    if right.len() > 1 {
        rhs.push(n, right.last().cloned());
        out.push(n);
    }
    let (a, b) = (ctx.reshape(a, &lhs.shape)?, ctx.reshape(b, &rhs.shape)?);
    let spec = Contraction::new(lhs.letters, rhs.letters, out).map_err(|error| invalid(error.to_string()))?;
    ctx.add(Op::Contract { spec, dtype }, &[a, b])
}

/// One operand's axes that take part.
#[derive(Default)]
struct Term {
    letters: Vec<u8>,
    shape: Vec<Dim>,
}

impl Term {
    /// An axis; one that the operand does not have is left out.
    fn push(&mut self, letter: u8, size: Option<Dim>) {
        if let Some(size) = size {
            self.letters.push(letter);
            self.shape.push(size);
        }
    }
}

/// `alpha · A · B + beta · C`, each matrix perhaps transposed.
pub(super) fn gemm<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Value> {
    let (a, b, c) = (ctx.value(node, 0)?, ctx.value(node, 1)?, ctx.value_opt(node, 2)?);
    let left = if node.attr_bool_or("transA", false)? { "km" } else { "mk" };
    let right = if node.attr_bool_or("transB", false)? { "nk" } else { "kn" };
    let spec = format!("{left},{right}->mn").parse().map_err(|error| invalid(format!("{error}")))?;
    // Everything is computed on the f32 sum of narrow floats, which is rounded once.
    let dtype = ctx.dtype(a);
    let wide = if matches!(dtype, DType::F16 | DType::BF16) { DType::F32 } else { dtype };
    let mut y = ctx.add(Op::Contract { spec, dtype: wide }, &[a, b])?;
    let (alpha, beta) = (node.attr_f32_or("alpha", 1.0)?, node.attr_f32_or("beta", 1.0)?);
    if alpha != 1.0 {
        y = ctx.with_scalar(BinaryFn::Mul, y, alpha.into())?;
    }
    if let Some(c) = c.filter(|_| beta != 0.0) {
        let mut c = ctx.cast(c, wide)?;
        if beta != 1.0 {
            c = ctx.with_scalar(BinaryFn::Mul, c, beta.into())?;
        }
        y = ctx.binary(BinaryFn::Add, y, c)?;
    }
    ctx.cast(y, dtype)
}
