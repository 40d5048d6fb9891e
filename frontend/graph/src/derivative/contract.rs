//! The derivative of a contraction: two contractions.

use super::{Adjoints, Step};
use crate::{Contraction, Op, composite::Builder};

/// Each operand's adjoint is the contraction of the result's with the other operand.
pub(super) fn contract(b: &mut Builder, spec: &Contraction, step: &Step) -> Adjoints {
    let adjoint = step.adjoint()?;
    let (x, y) = (step.operands[0], step.operands[1]);
    let mut found = Vec::with_capacity(2);
    for (own, other, mine, theirs) in [(x, y, &spec.lhs, &spec.rhs), (y, x, &spec.rhs, &spec.lhs)] {
        let (dtype, wide) = (b.graph.ty(own).dtype, b.graph.ty(adjoint).dtype);
        if !dtype.is_float() {
            found.push(None);
            continue;
        }
        // Letters of the operand are in the result or in the other operand, so that this is a contraction again.
        let spec = Contraction { lhs: spec.out.clone(), rhs: theirs.clone(), out: mine.clone() };
        let other = b.cast(other, wide)?;
        let product = b.add(Op::Contract { spec, dtype: wide }, &[adjoint, other])?;
        found.push(Some(b.cast(product, dtype)?));
    }
    Ok(found)
}
