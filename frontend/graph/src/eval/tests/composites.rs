//! Composites against direct formulas in f64.

use tarsia_tensor::rng::Stream;

use super::*;
use crate::Contraction;

fn random(stream: &mut Stream, shape: &[usize]) -> Tensor {
    let values: Vec<f64> = (0..shape.iter().product()).map(|_| stream.between(-2.0, 2.0)).collect();
    Tensor::from_slice(shape, &values).unwrap()
}

fn values(tensor: &Tensor) -> Vec<f64> {
    tensor.numbers().unwrap().to_f64()
}

#[test]
fn softmax_is_normalised_exponentials() {
    let x = random(&mut Stream::new(1), &[2, 3, 2]);
    let found = one(Op::Softmax { axis: 1 }, std::slice::from_ref(&x));
    let v = values(&x);
    let expected: Vec<f64> = (0..12)
        .map(|at| {
            let (o, inner) = (at / 6, at % 2);
            let sum: f64 = (0..3).map(|k| v[o * 6 + k * 2 + inner].exp()).sum();
            v[at].exp() / sum
        })
        .collect();
    close(&found, &expected, 1e-14);
    close(&one(Op::Softmax { axis: 0 }, &[f(&[2], &[1000.0, 1000.0])]), &[0.5, 0.5], 0.0);
}

#[test]
fn activations_follow_their_definition() {
    let x = random(&mut Stream::new(2), &[50]);
    let sigmoid = |v: f64| 1.0 / (1.0 + (-v).exp());
    let cases: [(Op, &dyn Fn(f64) -> f64); 3] = [
        (Op::Gelu { tanh: false }, &|v| 0.5 * v * libm::erfc(-v / 2f64.sqrt())),
        (Op::Gelu { tanh: true }, &|v| {
            v * sigmoid(2.0 * (2.0 / std::f64::consts::PI).sqrt() * (v + 0.044715 * v * v * v))
        }),
        (Op::Silu {}, &|v| v * sigmoid(v)),
    ];
    for (op, formula) in cases {
        let expected: Vec<f64> = values(&x).into_iter().map(formula).collect();
        close(&one(op, std::slice::from_ref(&x)), &expected, 1e-14);
    }
}

#[test]
fn norms_divide_by_the_spread() {
    let mut stream = Stream::new(3);
    let (x, scale, bias) = (random(&mut stream, &[3, 4]), random(&mut stream, &[4]), random(&mut stream, &[4]));
    let (v, s, t) = (values(&x), values(&scale), values(&bias));
    let (mut layer, mut rms) = (Vec::new(), Vec::new());
    for row in v.chunks(4) {
        let mean = row.iter().sum::<f64>() / 4.0;
        let variance = row.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / 4.0;
        let square = row.iter().map(|v| v * v).sum::<f64>() / 4.0;
        layer.extend((0..4).map(|i| (row[i] - mean) / (variance + 1e-3).sqrt() * s[i] + t[i]));
        rms.extend((0..4).map(|i| row[i] / (square + 1e-3).sqrt() * s[i]));
    }
    let epsilon = Real(1e-3);
    close(&one(Op::LayerNorm { axis: 1, epsilon }, &[x.clone(), scale.clone(), bias]), &layer, 1e-13);
    close(&one(Op::RmsNorm { axis: 1, epsilon }, &[x, scale]), &rms, 1e-13);
}

#[test]
fn rotation_turns_pairs() {
    let x = f(&[1, 4], &[1.0, 2.0, 3.0, 4.0]);
    let (cos, sin) = (f(&[1, 2], &[0.0, 1.0]), f(&[1, 2], &[1.0, 0.0]));
    // The first pair turns by a right angle, the second not at all.
    let halves = one(Op::Rotary { interleaved: false }, &[x.clone(), cos.clone(), sin.clone()]);
    assert_eq!(halves, f(&[1, 4], &[-3.0, 2.0, 1.0, 4.0]));
    let neighbours = one(Op::Rotary { interleaved: true }, &[x, cos, sin]);
    assert_eq!(neighbours, f(&[1, 4], &[-2.0, 1.0, 3.0, 4.0]));
}

#[test]
fn attention_weighs_values_by_scores() {
    let mut stream = Stream::new(4);
    let (heads, shared, s, t, d, e) = (4, 2, 3, 5, 2, 3);
    let q = random(&mut stream, &[1, heads, s, d]);
    let k = random(&mut stream, &[1, shared, t, d]);
    let v = random(&mut stream, &[1, shared, t, e]);
    let mask = random(&mut stream, &[s, t]);
    let (qv, kv, vv, mv) = (values(&q), values(&k), values(&v), values(&mask));
    let mut expected = Vec::new();
    for h in 0..heads {
        let g = h / (heads / shared);
        for i in 0..s {
            let score = |j: usize| -> f64 {
                let dot: f64 = (0..d).map(|c| qv[(h * s + i) * d + c] * kv[(g * t + j) * d + c]).sum();
                (0.7 * dot + mv[i * t + j]).exp()
            };
            let sum: f64 = (0..t).map(score).sum();
            expected.extend((0..e).map(|c| (0..t).map(|j| score(j) / sum * vv[(g * t + j) * e + c]).sum::<f64>()));
        }
    }
    let op = Op::Attention { scale: Real(0.7) };
    close(&one(op.clone(), &[q.clone(), k.clone(), v.clone(), mask]), &expected, 1e-13);
    let unmasked = one(op.clone(), &[q.clone(), k.clone(), v.clone(), Tensor::scalar(0f64)]);
    close(&one(op.clone(), &[q.clone(), k, v.clone()]), &values(&unmasked), 0.0);
    let empty = Tensor::from_slice::<f64>(&[1, 0, 5, 2], &[]).unwrap();
    assert!(!fails(op, &[q, empty, v]).is_empty());
}

#[test]
fn routed_rows_choose_their_weight() {
    let x = f(&[2, 2], &[1.0, 2.0, 3.0, 4.0]);
    let weights = f(&[3, 2, 1], &[1.0, 1.0, 10.0, 10.0, 100.0, 100.0]);
    let op = Op::Routed { spec: "td,tkde->tke".parse::<Contraction>().unwrap(), dtype: DType::F32 };
    let found = one(op, &[x, weights, i(&[2, 2], &[0, 2, 1, 1])]);
    assert_eq!(found, f(&[2, 2, 1], &[3.0, 300.0, 70.0, 70.0]));
}

#[test]
fn narrow_floats_round_once() {
    let x = Tensor::from_slice(&[4], &[0.1, 0.2, 0.3, 0.4].map(half::f16::from_f32)).unwrap();
    let wide = one(Op::Cast { dtype: DType::F32, saturate: true }, std::slice::from_ref(&x));
    let expected = one(Op::Softmax { axis: 0 }, &[wide]);
    let rounded = one(Op::Cast { dtype: DType::F16, saturate: true }, &[expected]);
    assert_eq!(one(Op::Softmax { axis: 0 }, &[x]), rounded);
}
