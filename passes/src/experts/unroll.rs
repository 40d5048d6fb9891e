//! A loop that is run a known, small number of times is its body that many times.

use smallvec::SmallVec;
use tarsia_graph::{Graph, GraphError, Op, Origin, Value};
use tarsia_tensor::{Dim, Tensor};

use crate::{emit::Emitter, known::splat, simplify::inline};

/// Loops of more nodes than this, all iterations together, stay loops.
const NODES: usize = 8192;

pub(super) fn unroll(
    emitter: &mut Emitter,
    op: &Op,
    operands: &[Value],
    origin: &Origin,
) -> Result<Option<SmallVec<[Value; 1]>>, GraphError> {
    let Op::Loop { body, carried, types } = op else { return Ok(None) };
    let (Some(trips), Some(start)) = (splat(&emitter.graph, operands[0]), splat(&emitter.graph, operands[1])) else {
        return Ok(None);
    };
    let trips = trips as usize;
    if start != 1.0
        || !goes_on(body)
        || trips == 0
        || trips.saturating_mul(body.node_count()) > NODES
        || !is_mixture(body)
    {
        return Ok(None);
    }
    let mut state: Vec<Value> = operands[2..2 + carried].to_vec();
    let mut scanned: Vec<Vec<Value>> = vec![Vec::new(); types.len() - carried];
    for i in 0..trips {
        let counter = emitter.constant(Tensor::scalar(i as i64), origin);
        let mut inputs = vec![counter, operands[1]];
        inputs.extend(&state);
        inputs.extend(&operands[2 + carried..]);
        let results = inline(emitter, body, &inputs)?;
        state = results[1..1 + carried].to_vec();
        scanned.iter_mut().zip(&results[1 + carried..]).for_each(|(all, value)| all.push(*value));
    }
    let mut results: SmallVec<[Value; 1]> = state.into();
    for parts in scanned {
        let mut rows = Vec::new();
        for part in parts {
            let mut shape = emitter.ty(part).shape.clone();
            shape.insert(0, Dim::ONE);
            rows.push(emitter.emit(Op::Reshape { shape }, &[part], origin)?);
        }
        results.push(emitter.emit(Op::Concat { axis: 0 }, &rows, origin)?);
    }
    Ok(Some(results))
}

/// Whether the body's condition is always true: a constant, or the condition it was given.
fn goes_on(body: &Graph) -> bool {
    let Some(condition) = body.outputs().first() else { return false };
    let given = body.inputs().get(1).map(|(_, id)| Value::from(*id));
    Some(condition.value) == given || splat(body, condition.value) == Some(1.0)
}

/// Whether the body handles the rows of one expert: only then is more gained than lost.
fn is_mixture(body: &Graph) -> bool {
    body.node_ids().any(|id| matches!(&body[id].op, Op::Host { function, .. } if function == super::NON_ZERO))
}
