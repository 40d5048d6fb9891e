//! Every rule against central differences, in f64.

use std::sync::Arc;

use tarsia_tensor::{Bindings, DType, Dim, ScatterFn, Tensor};

use super::*;
use crate::{BinaryFn, Contraction, Real, UnaryFn, eval};

/// What a case computes from its inputs.
type Build = dyn Fn(&mut Builder, &[Value]) -> Value;

/// A function of f64 tensors with a point at which it is smooth.
struct Case {
    name: String,
    inputs: Vec<Tensor>,
    build: Box<Build>,
}

/// Elements that are no one else's, between `low` and `high`.
fn spread(shape: &[usize], low: f64, high: f64) -> Tensor {
    let count: usize = shape.iter().product();
    let place = |i: usize| ((i * 7 + 3) % count.max(1)) as f64 + 0.25 * ((i % 3) as f64);
    let values: Vec<f64> = (0..count).map(|i| low + (high - low) * place(i) / count as f64).collect();
    Tensor::from_slice(shape, &values).unwrap()
}

fn case(
    name: impl Into<String>,
    inputs: Vec<Tensor>,
    build: impl Fn(&mut Builder, &[Value]) -> Value + 'static,
) -> Case {
    Case { name: name.into(), inputs, build: Box::new(build) }
}

/// The case's function with all results weighed differently, and its derivatives by the inputs.
fn graph_of(case: &Case, symbolic: bool) -> Graph {
    let mut graph = Graph::new(&case.name);
    let xs: Vec<Value> = case
        .inputs
        .iter()
        .enumerate()
        .map(|(i, tensor)| {
            let mut ty = Type::of(tensor);
            if symbolic && let Some(first) = ty.shape.first_mut() {
                *first = Dim::symbol(&format!("n{i}"));
            }
            graph.add_input(&format!("x{i}"), ty)
        })
        .collect();
    let origin = Origin::of("test");
    let mut b = Builder { graph: &mut graph, origin: &origin };
    let y = (case.build)(&mut b, &xs);
    let shape = b.graph.ty(y).shape.clone();
    let y = if shape.is_empty() {
        y
    } else {
        let axis = shape.len() - 1;
        let weights = b.add(Op::Iota { dtype: DType::F64, shape, axis }, &[]).unwrap();
        let weights = b.with_scalar(BinaryFn::Add, weights, 0.5).unwrap();
        b.binary(BinaryFn::Mul, y, weights).unwrap()
    };
    let axes: Vec<usize> = (0..graph.ty(y).rank()).collect();
    let mut b = Builder { graph: &mut graph, origin: &origin };
    let sum = if axes.is_empty() { y } else { b.reduce(ReduceFn::Sum, y, &axes).unwrap() };
    let sum = b.reshape(sum, &[]).unwrap();
    let found = gradients(&mut graph, sum, &xs, &xs, &origin).unwrap_or_else(|error| panic!("{}: {error}", case.name));
    graph.add_output("y", sum);
    for (i, value) in found.into_iter().enumerate() {
        graph.add_output(&format!("gradient{i}"), value);
    }
    crate::verify::verify(&graph).unwrap_or_else(|error| panic!("{}: {error:?}", case.name));
    graph
}

fn check(case: &Case, symbolic: bool) {
    let graph = graph_of(case, symbolic);
    let value = |inputs: &[Tensor]| eval::run(&graph, inputs).unwrap_or_else(|e| panic!("{}: {e}", case.name));
    let found = value(&case.inputs);
    const STEP: f64 = 1e-5;
    for (at, input) in case.inputs.iter().enumerate() {
        let numbers = input.numbers().unwrap().to_f64();
        let derivative = found[at + 1].numbers().unwrap().to_f64();
        assert_eq!(found[at + 1].shape(), input.shape(), "{}", case.name);
        for i in 0..numbers.len() {
            let moved = |by: f64| {
                let (mut inputs, mut numbers) = (case.inputs.clone(), numbers.clone());
                numbers[i] += by;
                inputs[at] = Tensor::from_slice(input.shape(), &numbers).unwrap();
                value(&inputs)[0].numbers().unwrap().to_f64()[0]
            };
            let expected = (moved(STEP) - moved(-STEP)) / (2.0 * STEP);
            let off = (expected - derivative[i]).abs();
            let name = &case.name;
            assert!(
                off <= 1e-5 * (1.0 + expected.abs()),
                "{name}: {} instead of {expected} by {at}[{i}]",
                derivative[i]
            );
        }
    }
}

fn check_all(cases: &[Case]) {
    for case in cases {
        check(case, false);
    }
}

#[test]
fn unary_functions() {
    let cases: Vec<Case> = UnaryFn::ALL
        .iter()
        .filter(|f| !f.is_predicate() && !matches!(f, UnaryFn::Not | UnaryFn::BitNot))
        .map(|&function| {
            let (low, high) = match function {
                UnaryFn::Acosh => (1.2, 3.0),
                UnaryFn::Asin | UnaryFn::Acos | UnaryFn::Atanh => (-0.8, 0.7),
                UnaryFn::Log | UnaryFn::Sqrt | UnaryFn::Rsqrt => (0.3, 2.0),
                _ => (-1.3, 1.2),
            };
            case(function.name(), vec![spread(&[2, 3], low, high)], move |b, x| b.unary(function, x[0]).unwrap())
        })
        .collect();
    check_all(&cases);
}

#[test]
fn binary_functions() {
    use BinaryFn::*;
    let mut cases = Vec::new();
    for function in [Add, Sub, Mul, Div, Pow, Min, Max, Mod, Rem, Atan2] {
        for (a, b) in [(&[2, 3][..], &[2, 3][..]), (&[2, 3], &[3]), (&[1, 3], &[2, 1]), (&[], &[2])] {
            let inputs = vec![spread(a, 0.6, 2.9), spread(b, 0.7, 1.9)];
            cases.push(case(format!("{function} {a:?}"), inputs, move |g, x| g.binary(function, x[0], x[1]).unwrap()));
        }
    }
    check_all(&cases);
}

#[test]
fn selection_and_conversion() {
    check_all(&[
        case("select", vec![spread(&[2, 3], -1.0, 1.0), spread(&[3], -1.0, 1.0)], |b, x| {
            let condition = b.with_scalar(BinaryFn::Gt, x[0], 0.1).unwrap();
            b.add(Op::Select {}, &[condition, x[0], x[1]]).unwrap()
        }),
        case("composites", vec![spread(&[2, 4], -1.0, 1.0)], |b, x| {
            let y = b.add(Op::Softmax { axis: 1 }, &[x[0]]).unwrap();
            let z = b.add(Op::Gelu { tanh: false }, &[x[0]]).unwrap();
            b.binary(BinaryFn::Mul, y, z).unwrap()
        }),
        case("layer_norm", vec![spread(&[2, 4], -1.0, 1.0), spread(&[4], 0.5, 1.0), spread(&[4], 0.0, 1.0)], |b, x| {
            b.add(Op::LayerNorm { axis: 1, epsilon: Real(1e-3) }, x).unwrap()
        }),
        case(
            "attention",
            vec![spread(&[1, 2, 3, 2], -1.0, 1.0), spread(&[1, 1, 4, 2], -1.0, 1.0), spread(&[1, 1, 4, 2], 0.0, 1.0)],
            |b, x| b.add(Op::Attention { scale: Real(0.7) }, x).unwrap(),
        ),
    ]);
    // A conversion to integers and back is a step.
    let steps = case("cast", vec![spread(&[4], 0.1, 3.0)], |b, x| {
        let whole = b.cast(x[0], DType::I64).unwrap();
        let back = b.cast(whole, DType::F64).unwrap();
        b.binary(BinaryFn::Mul, back, x[0]).unwrap()
    });
    check(&steps, false);
}

#[test]
fn movement() {
    let dims = |sizes: &[i64]| sizes.iter().map(|&size| Dim::Const(size)).collect::<Vec<Dim>>();
    let x = || vec![spread(&[3, 4], -1.0, 1.0)];
    let slice = move |starts: [i64; 2], sizes: [i64; 2], steps: [i64; 2]| {
        let op = Op::Slice { starts: dims(&starts), sizes: dims(&sizes), steps: steps.to_vec() };
        case(format!("slice by {steps:?}"), x(), move |b: &mut Builder, x: &[Value]| {
            b.add(op.clone(), &[x[0]]).unwrap()
        })
    };
    check_all(&[
        slice([1, 0], [2, 2], [1, 3]),
        slice([2, 3], [3, 2], [-1, -2]),
        slice([1, 1], [0, 2], [1, 1]),
        case("transpose", vec![spread(&[2, 3, 2], -1.0, 1.0)], |b, x| {
            b.add(Op::Transpose { perm: vec![2, 0, 1] }, x).unwrap()
        }),
        case("reshape", x(), |b, x| b.reshape(x[0], &[Dim::Const(2), Dim::Const(6)]).unwrap()),
        case("broadcast", vec![spread(&[1, 3], -1.0, 1.0)], |b, x| {
            b.add(Op::Broadcast { shape: vec![Dim::Const(2), Dim::Const(4), Dim::Const(3)] }, x).unwrap()
        }),
        case("pad", vec![spread(&[2, 3], -1.0, 1.0), spread(&[], 0.5, 1.0)], |b, x| {
            let op = Op::Pad { low: vec![Dim::ONE, Dim::ZERO], high: vec![Dim::ZERO, Dim::ONE], interior: vec![0, 1] };
            b.add(op, x).unwrap()
        }),
        case("concat", vec![spread(&[2, 3], -1.0, 1.0), spread(&[2, 1], 0.5, 1.0)], |b, x| {
            b.add(Op::Concat { axis: 1 }, &[x[0], x[1], x[0]]).unwrap()
        }),
    ]);
}

#[test]
fn reductions() {
    let mut cases = Vec::new();
    for function in ReduceFn::ALL.iter().copied() {
        for axes in [vec![0], vec![0, 2], vec![0, 1, 2]] {
            let op = Op::Reduce { function, axes: axes.clone() };
            let x = spread(&[2, 3, 2], -1.0, 1.2);
            cases.push(case(format!("{function} {axes:?}"), vec![x], move |b, x| b.add(op.clone(), x).unwrap()));
        }
        for (exclusive, reverse) in [(false, false), (false, true), (true, false), (true, true)] {
            if function == ReduceFn::Mean {
                continue;
            }
            let op = Op::Scan { function, axis: 1, exclusive, reverse };
            let x = spread(&[2, 4], 0.4, 1.2);
            cases.push(case(format!("scan {function}"), vec![x], move |b, x| {
                let y = b.add(op.clone(), x).unwrap();
                // What stands for nothing is infinite: differences of it are no numbers.
                let infinite = b.unary(UnaryFn::IsInf, y).unwrap();
                let zero = b.scalar(DType::F64, 0.0);
                b.add(Op::Select {}, &[infinite, zero, y]).unwrap()
            }));
        }
    }
    let zero = Tensor::from_slice(&[1, 3], &[0.0f64, 2.0, 3.0]).unwrap();
    cases.push(case("product with a zero", vec![zero], |b, x| b.reduce(ReduceFn::Prod, x[0], &[1]).unwrap()));
    check_all(&cases);
}

#[test]
fn contractions_and_windows() {
    let mut cases = Vec::new();
    for (text, a, b) in
        [("mk,kn->mn", &[2, 3][..], &[3, 2][..]), ("bi,bj->jbi", &[2, 3], &[2, 4]), ("k,k->", &[3], &[3])]
    {
        let spec: Contraction = text.parse().unwrap();
        let op = Op::Contract { spec, dtype: DType::F64 };
        let inputs = vec![spread(a, -1.0, 1.0), spread(b, -1.0, 1.0)];
        cases.push(case(text, inputs, move |g, x| g.add(op.clone(), x).unwrap()));
    }
    let conv = |strides: [usize; 2], low: [usize; 2], high: [usize; 2], dilations: [usize; 2], groups| Op::Conv {
        strides: strides.to_vec(),
        low: low.to_vec(),
        high: high.to_vec(),
        dilations: dilations.to_vec(),
        groups,
        dtype: DType::F64,
    };
    for (op, x, w) in [
        (conv([1, 1], [0, 0], [0, 0], [1, 1], 1), [2, 2, 3, 4], [3, 2, 2, 2]),
        (conv([2, 1], [1, 0], [0, 2], [1, 2], 2), [1, 4, 4, 3], [2, 2, 2, 2]),
    ] {
        let inputs = vec![spread(&x, -1.0, 1.0), spread(&w, -1.0, 1.0)];
        cases.push(case("conv", inputs, move |g, x| g.add(op.clone(), x).unwrap()));
    }
    for function in ReduceFn::ALL.iter().copied() {
        let op = Op::WindowReduce {
            function,
            window: vec![1, 2, 2],
            strides: vec![1, 2, 1],
            low: vec![0, 1, 0],
            high: vec![0, 0, 1],
            dilations: vec![1, 1, 1],
        };
        let x = spread(&[1, 4, 3], 0.3, 1.2);
        cases.push(case(format!("window {function}"), vec![x], move |g, x| g.add(op.clone(), x).unwrap()));
    }
    check_all(&cases);
}

/// Constant indices.
fn indices(b: &mut Builder, shape: &[usize], values: &[i64]) -> Value {
    b.graph.add_constant(Tensor::from_slice(shape, values).unwrap(), b.origin.clone())
}

#[test]
fn indexed_and_ordered() {
    let mut cases = vec![
        case("gather", vec![spread(&[2, 3, 2], -1.0, 1.0)], |b, x| {
            let at = indices(b, &[2, 2], &[2, 0, 0, 0]);
            b.add(Op::Gather { axis: 1 }, &[x[0], at]).unwrap()
        }),
        case("take_along", vec![spread(&[2, 3], -1.0, 1.0)], |b, x| {
            let at = indices(b, &[2, 2], &[2, 0, 1, 1]);
            b.add(Op::TakeAlong { axis: 1 }, &[x[0], at]).unwrap()
        }),
        case("sort", vec![spread(&[2, 4], -1.0, 1.0)], |b, x| {
            b.add(Op::Sort { axis: 1, descending: true }, x).unwrap()
        }),
        case("top_k", vec![spread(&[2, 4], -1.0, 1.0)], |b, x| {
            b.add(Op::TopK { axis: 1, k: Dim::Const(2), largest: true }, x).unwrap()
        }),
    ];
    for function in ScatterFn::ALL.iter().copied() {
        let inputs = || vec![spread(&[3, 2], -1.0, 1.0), spread(&[2, 2], 0.0, 1.0)];
        cases.push(case("scatter_rows", inputs(), move |b, x| {
            let at = indices(b, &[2], &[2, 0]);
            b.add(Op::ScatterRows { function }, &[x[0], at, x[1]]).unwrap()
        }));
        cases.push(case("scatter_along", inputs(), move |b, x| {
            let at = indices(b, &[2, 2], &[2, 0, 1, 1]);
            b.add(Op::ScatterAlong { function, axis: 0 }, &[x[0], at, x[1]]).unwrap()
        }));
    }
    // Several updates to one place.
    for function in [ScatterFn::Add, ScatterFn::Mul, ScatterFn::Min, ScatterFn::Max] {
        let inputs = vec![spread(&[3, 2], 0.3, 1.0), spread(&[3, 2], 0.2, 1.1)];
        cases.push(case("scatter_rows to one place", inputs, move |b, x| {
            let at = indices(b, &[3], &[2, 0, 2]);
            b.add(Op::ScatterRows { function }, &[x[0], at, x[1]]).unwrap()
        }));
    }
    check_all(&cases);
}

/// `x·tanh(y)` or `x - y`, as a branch.
fn branch(twisted: bool) -> Graph {
    let mut graph = Graph::new("branch");
    let ty = || Type::new(DType::F64, [Dim::Const(3)]);
    let (x, y) = (graph.add_input("x", ty()), graph.add_input("y", ty()));
    let origin = Origin::default();
    let mut b = Builder { graph: &mut graph, origin: &origin };
    let result = if twisted {
        let tanh = b.unary(UnaryFn::Tanh, y).unwrap();
        b.binary(BinaryFn::Mul, x, tanh).unwrap()
    } else {
        b.binary(BinaryFn::Sub, x, y).unwrap()
    };
    graph.add_output("r", result);
    graph
}

#[test]
fn branches_and_loops() {
    let mut cases = Vec::new();
    for taken in [true, false] {
        let inputs = vec![spread(&[3], -1.0, 1.0), spread(&[3], 0.2, 1.0)];
        cases.push(case("if", inputs, move |b, x| {
            let condition = b.scalar(DType::Bool, f64::from(u8::from(taken)));
            let types = vec![Type::new(DType::F64, [Dim::Const(3)])];
            let op = Op::If { then_branch: Arc::new(branch(true)), else_branch: Arc::new(branch(false)), types };
            b.add(op, &[condition, x[0], x[1]]).unwrap()
        }));
    }
    // state = tanh(state·w + slice), result = state·slice.
    for reverse in [false, true] {
        for result in [0u32, 1] {
            let inputs = vec![spread(&[2], -1.0, 1.0), spread(&[2, 4], -1.0, 1.0), spread(&[2], 0.3, 0.9)];
            cases.push(case(format!("scan_loop {result}"), inputs, move |b, x| {
                let mut body = Graph::new("body");
                let ty = || Type::new(DType::F64, [Dim::Const(2)]);
                let (state, slice) = (body.add_input("s", ty()), body.add_input("x", ty()));
                let weight = body.add_input("w", ty());
                let origin = Origin::default();
                let mut inner = Builder { graph: &mut body, origin: &origin };
                let product = inner.binary(BinaryFn::Mul, state, weight).unwrap();
                let sum = inner.binary(BinaryFn::Add, product, slice).unwrap();
                let next = inner.unary(UnaryFn::Tanh, sum).unwrap();
                let out = inner.binary(BinaryFn::Mul, next, slice).unwrap();
                body.add_output("s", next);
                body.add_output("y", out);
                let op = Op::ScanLoop {
                    body: Arc::new(body),
                    states: 1,
                    input_axes: vec![1],
                    input_reverse: vec![reverse],
                    output_axes: vec![1],
                    output_reverse: vec![reverse],
                    types: vec![ty(), Type::new(DType::F64, [Dim::Const(2), Dim::Const(4)])],
                };
                let node = b.graph.add(op, x, b.origin.clone()).unwrap();
                Value { node, output: result }
            }));
        }
    }
    check_all(&cases);
}

/// A loop whose state is `tanh(state·w + number/8)` until it is below a bound or `trips` are over, which counts too, and which gives
/// `state·count` of each iteration.
fn counted(b: &mut Builder, x: &[Value], trips: f64, stacked: bool, result: u32) -> Value {
    let mut body = Graph::new("body");
    let (state, counter) = (Type::new(DType::F64, [Dim::Const(2)]), Type::new(DType::I64, []));
    let number = body.add_input("i", counter.clone());
    body.add_input("going", Type::new(DType::Bool, []));
    let (own, count) = (body.add_input("s", state.clone()), body.add_input("n", counter.clone()));
    let weight = body.add_input("w", state.clone());
    let origin = Origin::default();
    let mut inner = Builder { graph: &mut body, origin: &origin };
    let product = inner.binary(BinaryFn::Mul, own, weight).unwrap();
    let step = inner.cast(number, DType::F64).unwrap();
    let step = inner.with_scalar(BinaryFn::Mul, step, 0.125).unwrap();
    let sum = inner.binary(BinaryFn::Add, product, step).unwrap();
    let next = inner.unary(UnaryFn::Tanh, sum).unwrap();
    let more = inner.with_scalar(BinaryFn::Add, count, 1.0).unwrap();
    let factor = inner.cast(more, DType::F64).unwrap();
    let out = inner.binary(BinaryFn::Mul, next, factor).unwrap();
    let going = inner.with_scalar(BinaryFn::Lt, more, 3.0).unwrap();
    for (name, value) in [("going", going), ("s", next), ("n", more)] {
        body.add_output(name, value);
    }
    let mut types = vec![state, counter];
    if stacked {
        body.add_output("y", out);
        types.push(Type::new(DType::F64, [Dim::symbol("rounds"), Dim::Const(2)]));
    }
    let (trips, going) = (b.scalar(DType::I64, trips), b.scalar(DType::Bool, 1.0));
    let zero = b.scalar(DType::I64, 0.0);
    let op = Op::Loop { body: Arc::new(body), carried: 2, types };
    let node = b.graph.add(op, &[trips, going, x[0], zero, x[1]], b.origin.clone()).unwrap();
    Value { node, output: result }
}

#[test]
fn loops_whose_iterations_are_counted_at_run_time() {
    let inputs = || vec![spread(&[2], -0.9, 1.0), spread(&[2], 0.3, 0.9)];
    let mut cases = Vec::new();
    // By the trips, and by the condition.
    for trips in [2.0, 9.0] {
        cases.push(case("the state of a loop", inputs(), move |b, x| counted(b, x, trips, false, 0)));
        cases.push(case("the state of a loop that stacks", inputs(), move |b, x| counted(b, x, trips, true, 0)));
        cases.push(case("what a loop stacks", inputs(), move |b, x| {
            let y = counted(b, x, trips, true, 2);
            b.reduce(ReduceFn::Sum, y, &[0]).unwrap()
        }));
    }
    check_all(&cases);
}

#[test]
fn sizes_may_be_symbols() {
    let product = case("mean of a product", vec![spread(&[3, 2], -1.0, 1.0), spread(&[2, 2], 0.2, 1.0)], |b, x| {
        let spec: Contraction = "nk,km->nm".parse().unwrap();
        let y = b.add(Op::Contract { spec, dtype: DType::F64 }, x).unwrap();
        b.reduce(ReduceFn::Mean, y, &[0]).unwrap()
    });
    check(&product, true);
}

#[test]
fn what_has_no_derivative_says_so() {
    let mut graph = Graph::new("g");
    let x = graph.add_input("x", Type::new(DType::F64, [Dim::Const(2), Dim::Const(2)]));
    let types = vec![Type::new(DType::F64, [])];
    let op = Op::Host { function: "det".into(), ints: Vec::new(), reals: Vec::new(), types };
    let y = graph.add(op, &[x], Origin::of("the node")).unwrap().into();
    let error = gradients(&mut graph, y, &[x], &[x], &Origin::default()).unwrap_err().to_string();
    assert!(error.contains("`host`") && error.contains("the node"), "{error}");
    // What does not depend on x at all has zeros.
    let constant = graph.add_constant(Tensor::scalar(1f64), Origin::default());
    let zeros = gradients(&mut graph, constant, &[x], &[x], &Origin::default()).unwrap();
    assert_eq!(eval::op(&graph[zeros[0].node].op, &[Tensor::scalar(0f64)], &Bindings::new()).unwrap()[0].count(), 4);
}
