//! Class probabilities from those of pairs of classes.

use super::{Call, HostError};
use crate::Tensor;

/// Wu, Lin and Weng, JMLR 5 (2004), second method, as libsvm and onnxruntime compute it: in f32, until no error is above 0.005/k.
pub(super) fn pairwise(call: &Call) -> Result<Vec<Tensor>, HostError> {
    let x = &call.operands[0];
    let classes = usize::try_from(call.int(0)?).ok().filter(|classes| (2..1 << 15).contains(classes));
    let classes = classes.ok_or_else(|| call.fault("it couples two classes or more"))?;
    let pairs = classes * (classes - 1) / 2;
    let (rows, values) = match (x.shape(), x.as_slice::<f32>()) {
        (&[rows, columns], Some(values)) if columns == pairs => (rows, values),
        _ => return Err(call.fault(format!("{x:?} is not f32 [rows, {pairs}]"))),
    };
    call.within_limit(&[rows, classes])?;
    let mut result = Vec::with_capacity(rows * classes);
    for row in values.chunks_exact(pairs) {
        let mut wins = vec![0f32; classes * classes];
        let each = (0..classes).flat_map(|i| (i + 1..classes).map(move |j| (i, j)));
        for ((i, j), &value) in each.zip(row) {
            let value = value.clamp(1e-7, 1.0 - 1e-7);
            wins[i * classes + j] = value;
            wins[j * classes + i] = 1.0 - value;
        }
        result.extend(coupled(classes, &wins));
    }
    call.made(Tensor::from_slice(&[rows, classes], &result))
}

/// The probabilities of `k` classes of which class `i` wins against `j` with probability `wins[i·k + j]`.
fn coupled(k: usize, wins: &[f32]) -> Vec<f32> {
    let mut q = vec![0f32; k * k];
    for t in 0..k {
        for j in (0..k).filter(|&j| j != t) {
            q[t * k + t] += wins[j * k + t] * wins[j * k + t];
            q[t * k + j] = -wins[j * k + t] * wins[t * k + j];
        }
    }
    let mut p = vec![1.0 / k as f32; k];
    let mut qp = vec![0f32; k];
    for _ in 0..k.max(100) {
        for t in 0..k {
            qp[t] = (0..k).map(|j| q[t * k + j] * p[j]).sum();
        }
        let mut total: f32 = p.iter().zip(&qp).map(|(p, qp)| p * qp).sum();
        let error = qp.iter().map(|qp| (qp - total).abs()).fold(0f32, f32::max);
        if error < 0.005 / k as f32 {
            break;
        }
        for t in 0..k {
            let step = (total - qp[t]) / q[t * k + t];
            p[t] += step;
            total = (total + step * (step * q[t * k + t] + 2.0 * qp[t])) / (1.0 + step) / (1.0 + step);
            for j in 0..k {
                qp[j] = (qp[j] + step * q[t * k + j]) / (1.0 + step);
                p[j] /= 1.0 + step;
            }
        }
    }
    p
}
