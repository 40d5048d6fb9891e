//! However an exporter writes a softmax, a norm, a GELU, a rotary embedding or an attention: the kernels are the same, and
//! the values stay what they were.

use tarsia_graph::{
    BinaryFn::{Add, Div, Mul, Pow, Sub},
    Graph, GraphError, Op, Origin, Real, ReduceFn, Type,
    UnaryFn::{Erf, Exp, Neg, Reciprocal, Rsqrt, Sigmoid, Sqrt, Tanh},
    Value,
    composite::Builder,
    eval,
};
use tarsia_passes::{
    Options,
    cover::{ByKernels, Options as CoverOptions, Rates, cover},
    optimise,
};
use tarsia_tensor::{DType, Dim, Tensor, rng::Stream};

type Write = fn(&mut Builder, &[Value]) -> Result<Value, GraphError>;

/// What exporters write for one thing, and the kernels it has to become.
struct Case {
    /// Types of the inputs; `0` is the size `n`, bound to 5.
    inputs: &'static [(DType, &'static [i64])],
    /// Kind and ops of each kernel.
    kernels: &'static [&'static str],
    spellings: &'static [(&'static str, Write)],
}

const N: i64 = 5;

fn dims(shape: &[i64]) -> Vec<Dim> {
    shape.iter().map(|&size| if size == 0 { Dim::symbol("n") } else { Dim::from(size) }).collect()
}

fn graph(case: &Case, write: Write) -> Graph {
    let mut graph = Graph::new("spelling");
    let inputs: Vec<Value> = (case.inputs.iter().enumerate())
        .map(|(i, (dtype, shape))| graph.add_input(&format!("x{i}"), Type::new(*dtype, dims(shape))))
        .collect();
    let mut builder = Builder { graph: &mut graph, origin: &Origin::of("spelling") };
    let value = write(&mut builder, &inputs).unwrap();
    graph.add_output("y", value);
    graph
}

fn inputs(case: &Case) -> Vec<Tensor> {
    let mut stream = Stream::new(11);
    let random = |(dtype, shape): &(DType, &[i64])| {
        let shape: Vec<usize> = shape.iter().map(|&size| if size == 0 { N } else { size } as usize).collect();
        let numbers = (0..shape.iter().product()).map(|_| stream.below(4001) as f64 / 1000.0 - 2.0).collect();
        let numbers = tarsia_tensor::Numbers::Float(numbers);
        let numbers = numbers.cast(DType::F64, *dtype, tarsia_tensor::Overflow::Special);
        Tensor::from_numbers(*dtype, &shape, &numbers).unwrap()
    };
    case.inputs.iter().map(random).collect()
}

fn check(case: &Case) {
    let inputs = inputs(case);
    for (name, write) in case.spellings {
        let graph = graph(case, *write);
        let (model, options) = (Rates::default(), CoverOptions::default());
        let extract = ByKernels { model: &model, options: &options };
        let (optimised, _) = optimise(&graph, &Options { extract: &extract, ..Options::default() }).unwrap();
        let (covered, decisions) = cover(&optimised, &model, &options).unwrap();
        let kernels: Vec<String> =
            decisions.kernels.iter().map(|k| format!("{}: {}", k.kind, k.chosen.ops.join(" "))).collect();
        assert_eq!(kernels, case.kernels, "{name}\n{graph}\n{optimised}");
        let (expected, found) = (eval::run(&graph, &inputs).unwrap(), eval::run(&covered, &inputs).unwrap());
        let (expected, found) = (expected[0].numbers().unwrap().to_f64(), found[0].numbers().unwrap().to_f64());
        let tolerance = if case.inputs[0].0 == DType::F32 { 1e-4 } else { 2e-2 };
        for (e, f) in expected.iter().zip(&found) {
            assert!((e - f).abs() <= tolerance * (1.0 + e.abs()), "{name}: {e} became {f}\n{optimised}");
        }
    }
}

#[test]
fn softmax() {
    fn exp_over_sum(b: &mut Builder, x: Value, axis: usize) -> Result<Value, GraphError> {
        let exp = b.unary(Exp, x)?;
        let sum = b.reduce(ReduceFn::Sum, exp, &[axis])?;
        b.binary(Div, exp, sum)
    }
    check(&Case {
        inputs: &[(DType::F32, &[2, 0, 7])],
        kernels: &["rows: softmax"],
        spellings: &[
            ("one operator", |b, x| b.add(Op::Softmax { axis: 2 }, x)),
            ("shifted by the maximum", |b, x| {
                let max = b.reduce(ReduceFn::Max, x[0], &[2])?;
                let shifted = b.binary(Sub, x[0], max)?;
                exp_over_sum(b, shifted, 2)
            }),
            ("not shifted", |b, x| exp_over_sum(b, x[0], 2)),
            ("times the reciprocal", |b, x| {
                let exp = b.unary(Exp, x[0])?;
                let sum = b.reduce(ReduceFn::Sum, exp, &[2])?;
                let one_over = b.unary(Reciprocal, sum)?;
                b.binary(Mul, exp, one_over)
            }),
        ],
    });
    check(&Case {
        inputs: &[(DType::F16, &[0, 9])],
        kernels: &["rows: softmax"],
        spellings: &[
            ("one operator", |b, x| b.add(Op::Softmax { axis: 1 }, x)),
            ("in f32 and back", |b, x| {
                let wide = b.cast(x[0], DType::F32)?;
                let y = b.add(Op::Softmax { axis: 1 }, &[wide])?;
                b.cast(y, DType::F16)
            }),
        ],
    });
}

/// x - mean, and the mean.
fn centred(b: &mut Builder, x: Value) -> Result<(Value, Value), GraphError> {
    let mean = b.reduce(ReduceFn::Mean, x, &[2])?;
    Ok((b.binary(Sub, x, mean)?, mean))
}

/// mean(x²) + ε with the square as a power.
fn power_mean(b: &mut Builder, x: Value) -> Result<Value, GraphError> {
    let square = b.with_scalar(Pow, x, 2.0)?;
    let mean = b.reduce(ReduceFn::Mean, square, &[2])?;
    b.with_scalar(Add, mean, 1e-5)
}

#[test]
fn layer_norm() {
    check(&Case {
        inputs: &[(DType::F32, &[2, 0, 8]), (DType::F32, &[8]), (DType::F32, &[8])],
        kernels: &["rows: layer_norm"],
        spellings: &[
            ("one operator", |b, x| b.add(Op::LayerNorm { axis: 2, epsilon: Real(1e-5) }, x)),
            ("before opset 17", |b, x| {
                let (centred, _) = centred(b, x[0])?;
                let variance = power_mean(b, centred)?;
                let deviation = b.unary(Sqrt, variance)?;
                let y = b.binary(Div, centred, deviation)?;
                let y = b.binary(Mul, y, x[1])?;
                b.binary(Add, y, x[2])
            }),
            ("the sum as a mean", |b, x| {
                let sum = b.reduce(ReduceFn::Sum, x[0], &[2])?;
                let mean = b.with_scalar(Div, sum, 8.0)?;
                let centred = b.binary(Sub, x[0], mean)?;
                let square = b.binary(Mul, centred, centred)?;
                let sum = b.reduce(ReduceFn::Sum, square, &[2])?;
                let variance = b.with_scalar(Mul, sum, 0.125)?;
                let shifted = b.with_scalar(Add, variance, 1e-5)?;
                let scale = b.unary(Rsqrt, shifted)?;
                let y = b.binary(Mul, centred, scale)?;
                let y = b.binary(Mul, x[1], y)?;
                b.binary(Add, x[2], y)
            }),
            ("scale and mean folded into factor and offset", |b, x| {
                let (centred, mean) = centred(b, x[0])?;
                let variance = power_mean(b, centred)?;
                let scale = b.unary(Rsqrt, variance)?;
                let factor = b.binary(Mul, scale, x[1])?;
                let scaled = b.binary(Mul, x[0], factor)?;
                let offset = b.binary(Mul, mean, factor)?;
                let offset = b.binary(Sub, x[2], offset)?;
                b.binary(Add, scaled, offset)
            }),
        ],
    });
}

#[test]
fn rms_norm() {
    check(&Case {
        inputs: &[(DType::F32, &[2, 0, 8]), (DType::F32, &[8])],
        kernels: &["rows: rms_norm"],
        spellings: &[
            ("one operator", |b, x| b.add(Op::RmsNorm { axis: 2, epsilon: Real(1e-5) }, x)),
            ("times rsqrt", |b, x| {
                let mean = power_mean(b, x[0])?;
                let scale = b.unary(Rsqrt, mean)?;
                let y = b.binary(Mul, x[0], scale)?;
                b.binary(Mul, x[1], y)
            }),
            ("over sqrt", |b, x| {
                let mean = power_mean(b, x[0])?;
                let root = b.unary(Sqrt, mean)?;
                let y = b.binary(Div, x[0], root)?;
                b.binary(Mul, y, x[1])
            }),
            ("times one over sqrt", |b, x| {
                let square = b.binary(Mul, x[0], x[0])?;
                let mean = b.reduce(ReduceFn::Mean, square, &[2])?;
                let mean = b.with_scalar(Add, mean, 1e-5)?;
                let root = b.unary(Sqrt, mean)?;
                let one = b.scalar(DType::F32, 1.0);
                let scale = b.binary(Div, one, root)?;
                let y = b.binary(Mul, x[0], scale)?;
                b.binary(Mul, y, x[1])
            }),
            ("power -1/2", |b, x| {
                let mean = power_mean(b, x[0])?;
                let scale = b.with_scalar(Pow, mean, -0.5)?;
                let y = b.binary(Mul, x[0], scale)?;
                b.binary(Mul, y, x[1])
            }),
        ],
    });
    check(&Case {
        inputs: &[(DType::F16, &[2, 0, 8]), (DType::F16, &[8])],
        kernels: &["rows: rms_norm"],
        spellings: &[
            ("one operator", |b, x| b.add(Op::RmsNorm { axis: 2, epsilon: Real(1e-5) }, x)),
            ("in f32 and back", |b, x| {
                let wide = b.cast(x[0], DType::F32)?;
                let mean = power_mean(b, wide)?;
                let scale = b.unary(Rsqrt, mean)?;
                let y = b.binary(Mul, wide, scale)?;
                let y = b.cast(y, DType::F16)?;
                b.binary(Mul, x[1], y)
            }),
        ],
    });
}

#[test]
fn gelu() {
    check(&Case {
        inputs: &[(DType::F32, &[0, 8])],
        kernels: &["map: gelu"],
        spellings: &[
            ("one operator", |b, x| b.add(Op::Gelu { tanh: false }, x)),
            ("erf(x / √2), half at the end", |b, x| {
                let y = b.with_scalar(Div, x[0], std::f64::consts::SQRT_2)?;
                let y = b.unary(Erf, y)?;
                let y = b.with_scalar(Add, y, 1.0)?;
                let y = b.binary(Mul, x[0], y)?;
                b.with_scalar(Mul, y, 0.5)
            }),
            ("erf(x · √½), half in front", |b, x| {
                let half = b.with_scalar(Mul, x[0], 0.5)?;
                let y = b.with_scalar(Mul, x[0], std::f64::consts::FRAC_1_SQRT_2)?;
                let y = b.unary(Erf, y)?;
                let y = b.with_scalar(Add, y, 1.0)?;
                b.binary(Mul, half, y)
            }),
            ("half of the sum", |b, x| {
                let y = b.with_scalar(Mul, x[0], std::f64::consts::FRAC_1_SQRT_2)?;
                let y = b.unary(Erf, y)?;
                let y = b.with_scalar(Add, y, 1.0)?;
                let y = b.with_scalar(Mul, y, 0.5)?;
                b.binary(Mul, x[0], y)
            }),
        ],
    });
    const ROOT: f64 = 0.797_884_560_802_865_4;
    check(&Case {
        inputs: &[(DType::F32, &[0, 8])],
        kernels: &["map: gelu"],
        spellings: &[
            ("one operator", |b, x| b.add(Op::Gelu { tanh: true }, x)),
            ("x³ as a power", |b, x| {
                let cube = b.with_scalar(Pow, x[0], 3.0)?;
                let cube = b.with_scalar(Mul, cube, 0.044715)?;
                let sum = b.binary(Add, x[0], cube)?;
                let y = b.with_scalar(Mul, sum, ROOT)?;
                let y = b.unary(Tanh, y)?;
                let y = b.with_scalar(Add, y, 1.0)?;
                let half = b.with_scalar(Mul, x[0], 0.5)?;
                b.binary(Mul, half, y)
            }),
            ("x factored out", |b, x| {
                let square = b.binary(Mul, x[0], x[0])?;
                let y = b.with_scalar(Mul, square, 0.044715)?;
                let y = b.with_scalar(Add, y, 1.0)?;
                let scaled = b.with_scalar(Mul, x[0], ROOT)?;
                let y = b.binary(Mul, scaled, y)?;
                let y = b.unary(Tanh, y)?;
                let y = b.with_scalar(Add, y, 1.0)?;
                let y = b.binary(Mul, x[0], y)?;
                b.with_scalar(Mul, y, 0.5)
            }),
        ],
    });
}

#[test]
fn silu() {
    check(&Case {
        inputs: &[(DType::F32, &[0, 8])],
        kernels: &["map: silu"],
        spellings: &[
            ("one operator", |b, x| b.add(Op::Silu {}, x)),
            ("times sigmoid", |b, x| {
                let gate = b.unary(Sigmoid, x[0])?;
                b.binary(Mul, gate, x[0])
            }),
            ("written out", |b, x| {
                let y = b.unary(Neg, x[0])?;
                let y = b.unary(Exp, y)?;
                let y = b.with_scalar(Add, y, 1.0)?;
                b.binary(Div, x[0], y)
            }),
        ],
    });
}

/// The halves of the last axis.
fn halves(b: &mut Builder, x: Value) -> Result<(Value, Value), GraphError> {
    let first = b.slice_axis(x, 3, Dim::from(0i64), Dim::from(4i64), 1)?;
    let second = b.slice_axis(x, 3, Dim::from(4i64), Dim::from(4i64), 1)?;
    Ok((first, second))
}

#[test]
fn rotary() {
    check(&Case {
        inputs: &[(DType::F32, &[2, 3, 0, 8]), (DType::F32, &[1, 1, 0, 4]), (DType::F32, &[1, 1, 0, 4])],
        kernels: &["map: rotary"],
        spellings: &[
            ("one operator", |b, x| b.add(Op::Rotary { interleaved: false }, x)),
            ("rotate half", |b, x| {
                let cos = b.add(Op::Concat { axis: 3 }, &[x[1], x[1]])?;
                let sin = b.add(Op::Concat { axis: 3 }, &[x[2], x[2]])?;
                let (first, second) = halves(b, x[0])?;
                let minus = b.unary(Neg, second)?;
                let turned = b.add(Op::Concat { axis: 3 }, &[minus, first])?;
                let (a, c) = (b.binary(Mul, x[0], cos)?, b.binary(Mul, turned, sin)?);
                b.binary(Add, a, c)
            }),
            ("by halves", |b, x| {
                let (first, second) = halves(b, x[0])?;
                let (ac, bs) = (b.binary(Mul, first, x[1])?, b.binary(Mul, second, x[2])?);
                let (bc, as_) = (b.binary(Mul, second, x[1])?, b.binary(Mul, first, x[2])?);
                let (a, c) = (b.binary(Sub, ac, bs)?, b.binary(Add, bc, as_)?);
                b.add(Op::Concat { axis: 3 }, &[a, c])
            }),
        ],
    });
    check(&Case {
        inputs: &[(DType::F32, &[2, 3, 0, 8]), (DType::F32, &[1, 1, 0, 4]), (DType::F32, &[1, 1, 0, 4])],
        kernels: &["map: rotary"],
        spellings: &[
            ("one operator", |b, x| b.add(Op::Rotary { interleaved: true }, x)),
            ("neighbours stacked", |b, x| {
                let even = b.slice_axis(x[0], 3, Dim::from(0i64), Dim::from(4i64), 2)?;
                let odd = b.slice_axis(x[0], 3, Dim::from(1i64), Dim::from(4i64), 2)?;
                let (ac, bs) = (b.binary(Mul, even, x[1])?, b.binary(Mul, odd, x[2])?);
                let (bc, as_) = (b.binary(Mul, odd, x[1])?, b.binary(Mul, even, x[2])?);
                let (a, c) = (b.binary(Sub, ac, bs)?, b.binary(Add, as_, bc)?);
                let column = dims(&[2, 3, 0, 4, 1]);
                let (a, c) = (b.reshape(a, &column)?, b.reshape(c, &column)?);
                let pairs = b.add(Op::Concat { axis: 4 }, &[a, c])?;
                b.reshape(pairs, &dims(&[2, 3, 0, 8]))
            }),
        ],
    });
}

fn product(b: &mut Builder, spec: &str, x: Value, y: Value) -> Result<Value, GraphError> {
    let dtype = b.graph.ty(x).dtype;
    b.add(Op::Contract { spec: spec.parse().expect("a contraction"), dtype }, &[x, y])
}

/// softmax(scores) · v.
fn weighted(b: &mut Builder, scores: Value, v: Value) -> Result<Value, GraphError> {
    let weights = b.add(Op::Softmax { axis: 3 }, &[scores])?;
    product(b, "bhst,bhte->bhse", weights, v)
}

#[test]
fn attention() {
    check(&Case {
        inputs: &[
            (DType::F32, &[2, 3, 0, 16]),
            (DType::F32, &[2, 3, 0, 16]),
            (DType::F32, &[2, 3, 0, 16]),
            (DType::F32, &[2, 1, 1, 0]),
        ],
        kernels: &["attention: attention"],
        spellings: &[
            ("one operator", |b, x| b.add(Op::Attention { scale: Real(0.25) }, x)),
            ("scores over √d", |b, x| {
                let k = b.add(Op::Transpose { perm: vec![0, 1, 3, 2] }, &[x[1]])?;
                let scores = product(b, "bhsd,bhdt->bhst", x[0], k)?;
                let scores = b.with_scalar(Div, scores, 4.0)?;
                let scores = b.binary(Add, scores, x[3])?;
                weighted(b, scores, x[2])
            }),
            ("queries and keys scaled by √√d each", |b, x| {
                let q = b.with_scalar(Mul, x[0], 0.5)?;
                let k = b.add(Op::Transpose { perm: vec![0, 1, 3, 2] }, &[x[1]])?;
                let k = b.with_scalar(Mul, k, 0.5)?;
                let scores = product(b, "bhsd,bhdt->bhst", q, k)?;
                let scores = b.binary(Add, scores, x[3])?;
                weighted(b, scores, x[2])
            }),
        ],
    });
    // Position bias for every head and no scale, as in T5.
    check(&Case {
        inputs: &[
            (DType::F32, &[2, 3, 0, 16]),
            (DType::F32, &[2, 3, 0, 16]),
            (DType::F32, &[2, 3, 0, 16]),
            (DType::F32, &[1, 3, 0, 0]),
        ],
        kernels: &["attention: attention"],
        spellings: &[
            ("one operator", |b, x| b.add(Op::Attention { scale: Real(1.0) }, x)),
            ("bias added to scores", |b, x| {
                let k = b.add(Op::Transpose { perm: vec![0, 1, 3, 2] }, &[x[1]])?;
                let scores = product(b, "bhsd,bhdt->bhst", x[0], k)?;
                let scores = b.binary(Add, scores, x[3])?;
                weighted(b, scores, x[2])
            }),
        ],
    });
    // Heads that share keys and values, repeated by the exporter; queries come from a projection as [batch, n, heads·16].
    check(&Case {
        inputs: &[(DType::F32, &[2, 0, 96]), (DType::F32, &[2, 2, 0, 16]), (DType::F32, &[2, 2, 0, 16])],
        kernels: &["attention: transpose attention"],
        spellings: &[("repeated", |b, x| {
            let q = b.reshape(x[0], &dims(&[2, 0, 6, 16]))?;
            let q = b.add(Op::Transpose { perm: vec![0, 2, 1, 3] }, &[q])?;
            let mut wide = [x[1], x[2]];
            for x in &mut wide {
                let column = b.reshape(*x, &dims(&[2, 2, 1, 0, 16]))?;
                let shape = dims(&[2, 2, 3, 0, 16]);
                let all = b.add(Op::Broadcast { shape }, &[column])?;
                *x = b.reshape(all, &dims(&[2, 6, 0, 16]))?;
            }
            let scores = product(b, "bhsd,bhtd->bhst", q, wide[0])?;
            let scores = b.with_scalar(Mul, scores, 0.25)?;
            weighted(b, scores, wide[1])
        })],
    });
}
