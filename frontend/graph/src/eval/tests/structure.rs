//! Movements, indices, order and windows against values computed by hand.

use tarsia_tensor::{ReduceFn, ScatterFn};

use super::*;
use crate::Contraction;

#[test]
fn leaves_count_and_draw() {
    let iota = |axis| one(Op::Iota { dtype: DType::F32, shape: dims(&[2, 3]), axis }, &[]);
    assert_eq!(iota(0), f(&[2, 3], &[0.0, 0.0, 0.0, 1.0, 1.0, 1.0]));
    assert_eq!(iota(1), f(&[2, 3], &[0.0, 1.0, 2.0, 0.0, 1.0, 2.0]));
    let mut bindings = Bindings::new();
    bindings.set(tarsia_tensor::Symbol::new("n"), 4);
    let size = Op::Size { dim: "2*n + 1".parse().unwrap() };
    assert_eq!(super::super::op(&size, &[], &bindings).unwrap(), [Tensor::scalar(9i64)]);
    assert!(fails(size, &[]).contains("`n`"));
    let random = |seed| Op::Random { dtype: DType::F32, shape: dims(&[100]), distribution: "uniform".into(), seed };
    assert_eq!(one(random(1), &[]), one(random(1), &[]));
    assert_ne!(one(random(1), &[]), one(random(2), &[]));
    let wrong = Op::Random { dtype: DType::F32, shape: vec![], distribution: "gamma".into(), seed: 0 };
    assert!(fails(wrong, &[]).contains("gamma"));
}

#[test]
fn movement_places_elements() {
    let x = f(&[2, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    let only = std::slice::from_ref(&x);
    assert_eq!(one(Op::Reshape { shape: dims(&[3, 2]) }, only), f(&[3, 2], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]));
    assert_eq!(one(Op::Transpose { perm: vec![1, 0] }, only), f(&[3, 2], &[1.0, 4.0, 2.0, 5.0, 3.0, 6.0]));
    let wide = one(Op::Broadcast { shape: dims(&[2, 1, 3]) }, &[f(&[3], &[1.0, 2.0, 3.0])]);
    assert_eq!(wide, f(&[2, 1, 3], &[1.0, 2.0, 3.0, 1.0, 2.0, 3.0]));
    let slice = Op::Slice { starts: dims(&[1, 2]), sizes: dims(&[1, 2]), steps: vec![1, -2] };
    assert_eq!(one(slice, only), f(&[1, 2], &[6.0, 4.0]));
    let outside = Op::Slice { starts: dims(&[0, 2]), sizes: dims(&[1, 2]), steps: vec![1, 1] };
    assert!(fails(outside, only).contains("leave"));
    let pad = Op::Pad { low: dims(&[0, 1]), high: dims(&[1, 0]), interior: vec![0, 1] };
    let padded = one(pad, &[f(&[1, 2], &[1.0, 2.0]), f(&[], &[9.0])]);
    assert_eq!(padded, f(&[2, 4], &[9.0, 1.0, 9.0, 2.0, 9.0, 9.0, 9.0, 9.0]));
    let negative = Op::Pad { low: dims(&[-1]), high: dims(&[1]), interior: vec![0] };
    assert!(fails(negative, &[f(&[2], &[1.0, 2.0]), f(&[], &[0.0])]).contains("-1"));
    let joined = one(Op::Concat { axis: 1 }, &[x.clone(), f(&[2, 0], &[]), f(&[2, 1], &[7.0, 8.0])]);
    assert_eq!(joined, f(&[2, 4], &[1.0, 2.0, 3.0, 7.0, 4.0, 5.0, 6.0, 8.0]));
    assert!(fails(Op::Reshape { shape: dims(&[4]) }, only).contains("6"));
}

#[test]
fn contractions_sum_over_shared_axes() {
    let contract = |spec: &str, a: &Tensor, b: &Tensor| {
        let op = Op::Contract { spec: spec.parse().unwrap(), dtype: a.dtype() };
        one(op, &[a.clone(), b.clone()])
    };
    let (a, c) = (f(&[2, 2], &[1.0, 2.0, 3.0, 4.0]), f(&[2, 2], &[5.0, 6.0, 7.0, 8.0]));
    assert_eq!(contract("ab,bc->ac", &a, &c), f(&[2, 2], &[19.0, 22.0, 43.0, 50.0]));
    assert_eq!(contract("ab,bc->ca", &a, &c), f(&[2, 2], &[19.0, 43.0, 22.0, 50.0]));
    assert_eq!(contract("ab,cb->ac", &a, &c), f(&[2, 2], &[17.0, 23.0, 39.0, 53.0]));
    assert_eq!(contract("ab,ab->a", &a, &c), f(&[2], &[17.0, 53.0]));
    assert_eq!(contract("a,b->ba", &f(&[2], &[1.0, 2.0]), &f(&[1], &[3.0])), f(&[1, 2], &[3.0, 6.0]));
    assert_eq!(contract("ab,ab->", &a, &c), f(&[], &[70.0]));
    assert_eq!(contract("ab,bc->ac", &f(&[2, 0], &[]), &f(&[0, 1], &[])), f(&[2, 1], &[0.0, 0.0]));
    // Unsigned by signed bytes in 32 bits, as quantised products are.
    let op = Op::Contract { spec: Contraction::matmul(0), dtype: DType::I32 };
    let (u, s) =
        (Tensor::from_slice(&[1, 2], &[255u8, 255]).unwrap(), Tensor::from_slice(&[2, 1], &[-128i8, -128]).unwrap());
    assert_eq!(one(op.clone(), &[u, s]), Tensor::from_slice(&[1, 1], &[-65280i32]).unwrap());
    assert!(fails(op, &[f(&[1, 2], &[0.0; 2]), f(&[3, 1], &[0.0; 3])]).contains("differ"));
    let long = f(&[1, 1000], &[1.0; 1000]);
    assert_eq!(contract("ab,cb->ac", &long, &long), f(&[1, 1], &[1000.0]));
}

fn conv(strides: usize, low: usize, high: usize, dilation: usize, groups: usize) -> Op {
    Op::Conv {
        strides: vec![strides; 2],
        low: vec![low; 2],
        high: vec![high; 2],
        dilations: vec![dilation; 2],
        groups,
        dtype: DType::F32,
    }
}

#[test]
fn convolutions_slide_windows() {
    let x = f(&[1, 1, 3, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0]);
    let ones = f(&[1, 1, 2, 2], &[1.0; 4]);
    let run = |op: Op, x: &Tensor, w: &Tensor| one(op, &[x.clone(), w.clone()]);
    assert_eq!(run(conv(1, 0, 0, 1, 1), &x, &ones), f(&[1, 1, 2, 2], &[12.0, 16.0, 24.0, 28.0]));
    assert_eq!(run(conv(2, 1, 0, 1, 1), &x, &ones), f(&[1, 1, 2, 2], &[1.0, 5.0, 11.0, 28.0]));
    assert_eq!(run(conv(1, 0, 0, 2, 1), &x, &ones), f(&[1, 1, 1, 1], &[20.0]));
    // Two groups: each output channel sees its own input channel.
    let two = f(&[1, 2, 1, 2], &[1.0, 2.0, 3.0, 4.0]);
    let weights = f(&[2, 1, 1, 1], &[10.0, 100.0]);
    assert_eq!(run(conv(1, 0, 0, 1, 2), &two, &weights), f(&[1, 2, 1, 2], &[10.0, 20.0, 300.0, 400.0]));
    let mixing = f(&[1, 2, 1, 1], &[10.0, 100.0]);
    assert_eq!(run(conv(1, 0, 0, 1, 1), &two, &mixing), f(&[1, 1, 1, 2], &[310.0, 420.0]));
    assert!(fails(conv(1, 0, 0, 1, 3), &[two, mixing]).contains("groups"));
}

#[test]
fn pooling_leaves_padding_out() {
    let x = f(&[1, 3], &[1.0, 2.0, 6.0]);
    let pool = |function| {
        let op = Op::WindowReduce {
            function,
            window: vec![1, 2],
            strides: vec![1, 2],
            low: vec![0, 1],
            high: vec![0, 0],
            dilations: vec![1, 1],
        };
        one(op, std::slice::from_ref(&x))
    };
    assert_eq!(pool(ReduceFn::Max), f(&[1, 2], &[1.0, 6.0]));
    assert_eq!(pool(ReduceFn::Mean), f(&[1, 2], &[1.0, 4.0]));
    assert_eq!(pool(ReduceFn::Sum), f(&[1, 2], &[1.0, 8.0]));
    assert_eq!(pool(ReduceFn::Prod), f(&[1, 2], &[1.0, 12.0]));
}

#[test]
fn indices_read_and_write() {
    let x = f(&[3, 2], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    let gather = |axis, at: &Tensor| one(Op::Gather { axis }, &[x.clone(), at.clone()]);
    assert_eq!(gather(0, &i(&[2], &[2, 0])), f(&[2, 2], &[5.0, 6.0, 1.0, 2.0]));
    assert_eq!(gather(1, &i(&[1, 1], &[1])), f(&[3, 1, 1], &[2.0, 4.0, 6.0]));
    assert_eq!(gather(0, &i(&[], &[1])), f(&[2], &[3.0, 4.0]));
    assert!(
        fails(Op::Gather { axis: 0 }, &[x.clone(), i(&[2], &[0, 3])]).contains("index 3 at element 1 is not in 0..3")
    );
    assert!(fails(Op::Gather { axis: 0 }, &[x.clone(), i(&[1], &[-1])]).contains("index -1"));
    let taken = one(Op::TakeAlong { axis: 0 }, &[x.clone(), i(&[1, 2], &[2, 1])]);
    assert_eq!(taken, f(&[1, 2], &[5.0, 4.0]));
    assert!(fails(Op::TakeAlong { axis: 0 }, &[x.clone(), i(&[1, 3], &[0, 0, 0])]).contains("only 2 elements"));
    let rows = |function, at: &[i64], updates: &[f32]| {
        one(Op::ScatterRows { function }, &[x.clone(), i(&[at.len()], at), f(&[at.len(), 2], updates)])
    };
    assert_eq!(rows(ScatterFn::Set, &[1, 1], &[7.0, 8.0, 9.0, 10.0]), f(&[3, 2], &[1.0, 2.0, 9.0, 10.0, 5.0, 6.0]));
    assert_eq!(rows(ScatterFn::Add, &[1, 1], &[1.0, 2.0, 3.0, 4.0]), f(&[3, 2], &[1.0, 2.0, 7.0, 10.0, 5.0, 6.0]));
    assert_eq!(rows(ScatterFn::Mul, &[0], &[10.0, 10.0]), f(&[3, 2], &[10.0, 20.0, 3.0, 4.0, 5.0, 6.0]));
    assert_eq!(rows(ScatterFn::Max, &[0], &[0.0, 10.0]), f(&[3, 2], &[1.0, 10.0, 3.0, 4.0, 5.0, 6.0]));
    assert_eq!(rows(ScatterFn::Min, &[0], &[0.0, 10.0]), f(&[3, 2], &[0.0, 2.0, 3.0, 4.0, 5.0, 6.0]));
    let along = Op::ScatterAlong { function: ScatterFn::Add, axis: 1 };
    let found = one(along.clone(), &[x.clone(), i(&[2, 1], &[1, 0]), f(&[2, 1], &[10.0, 20.0])]);
    assert_eq!(found, f(&[3, 2], &[1.0, 12.0, 23.0, 4.0, 5.0, 6.0]));
    assert!(fails(along, &[x, i(&[2, 1], &[1, 0]), f(&[1, 1], &[10.0])]).contains("as many updates"));
}

#[test]
fn sorting_gives_values_and_indices() {
    let x = f(&[2, 3], &[3.0, 1.0, 2.0, 5.0, 5.0, 4.0]);
    let both = |op: Op| super::super::op(&op, std::slice::from_ref(&x), &Bindings::new()).unwrap();
    assert_eq!(
        both(Op::Sort { axis: 1, descending: false }),
        [f(&[2, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 5.0]), i(&[2, 3], &[1, 2, 0, 2, 0, 1])]
    );
    assert_eq!(
        both(Op::TopK { axis: 1, k: Dim::Const(2), largest: true }),
        [f(&[2, 2], &[3.0, 2.0, 5.0, 5.0]), i(&[2, 2], &[0, 2, 0, 1])]
    );
    assert_eq!(both(Op::TopK { axis: 0, k: Dim::Const(1), largest: false })[1], i(&[1, 3], &[0, 0, 0]));
    assert!(fails(Op::TopK { axis: 0, k: Dim::Const(3), largest: true }, &[x]).contains("no 3 elements"));
}

#[test]
fn symbols_are_bound_and_checked() {
    let mut graph = Graph::new("g");
    let shape = |text: &[&str]| text.iter().map(|t| t.parse::<Dim>().unwrap()).collect::<Vec<_>>();
    let x = graph.add_input("x", Type::new(DType::F32, shape(&["n", "n + m"])));
    let y = graph.add_input("y", Type::new(DType::F32, shape(&["m"])));
    let flat = graph.add(Op::Reshape { shape: shape(&["n*n + n*m"]) }, &[x], crate::Origin::of("flatten")).unwrap();
    let joined = graph.add(Op::Concat { axis: 0 }, &[flat.into(), y], crate::Origin::default()).unwrap();
    graph.add_output("z", joined.into());
    let z = run(&graph, &[f(&[1, 3], &[1.0, 2.0, 3.0]), f(&[2], &[4.0, 5.0])]).unwrap();
    assert_eq!(z, [f(&[5], &[1.0, 2.0, 3.0, 4.0, 5.0])]);
    let wrong = run(&graph, &[f(&[1, 3], &[0.0; 3]), f(&[3], &[0.0; 3])]).unwrap_err();
    assert!(matches!(&wrong, EvalError::Bind { name, .. } if name == "y"), "{wrong}");
    assert!(matches!(run(&graph, &[]), Err(EvalError::InputCount { expected: 2, found: 0 })));
    let type_error = run(&graph, &[i(&[1, 3], &[0; 3]), f(&[2], &[0.0; 2])]).unwrap_err();
    assert!(type_error.to_string().contains("the input `x` must be f32"), "{type_error}");
    let bound = bind(&graph, &[f(&[1, 3], &[0.0; 3]), f(&[2], &[0.0; 2])]).unwrap();
    assert_eq!(bound.iter().map(|(s, v)| format!("{s}={v}")).collect::<Vec<_>>(), ["m=2", "n=1"]);
}

#[test]
fn sizes_taken_as_equal_are_checked_and_errors_name_the_node() {
    let mut graph = Graph::new("g");
    let x = graph.add_input("x", Type::new(DType::F32, [Dim::symbol("a")]));
    let y = graph.add_input("y", Type::new(DType::F32, [Dim::symbol("b")]));
    let sum = graph.add(Op::Binary(tarsia_tensor::BinaryFn::Add), &[x, y], crate::Origin::of("residual")).unwrap();
    graph.add_output("z", sum.into());
    let error = run(&graph, &[f(&[2], &[0.0; 2]), f(&[3], &[0.0; 3])]).unwrap_err().to_string();
    assert!(error.starts_with("%2 = add (from residual): "), "{error}");
    assert!(error.contains("2 and 3"), "{error}");
    // Broadcasting against 1 changes the declared size: an error too, since the plan of every later stage relies on it.
    assert!(run(&graph, &[f(&[1], &[0.0]), f(&[3], &[0.0; 3])]).is_err());
}

#[test]
fn elements_are_bounded() {
    let mut graph = Graph::new("g");
    let x = graph.add_input("x", Type::new(DType::F32, [Dim::symbol("n")]));
    let shape = vec![Dim::Const(1 << 40), Dim::symbol("n")];
    let wide = graph.add(Op::Broadcast { shape }, &[x], crate::Origin::default()).unwrap();
    graph.add_output("y", wide.into());
    let error = run(&graph, &[f(&[3], &[0.0; 3])]).unwrap_err();
    assert!(matches!(&error, EvalError::Node { fault, .. } if matches!(**fault, Fault::TooLarge { .. })), "{error}");
}

#[test]
fn values_are_dropped_after_their_last_use() {
    let mut graph = Graph::new("g");
    let mut x = graph.add_input("x", Type::new(DType::F32, [Dim::Const(100)]));
    for _ in 0..50 {
        x = graph.add(Op::Unary(tarsia_tensor::UnaryFn::Neg), &[x], crate::Origin::default()).unwrap().into();
    }
    graph.add_output("y", x);
    let options = Options { elements: 200, iterations: 0 };
    assert_eq!(run_within(&graph, &[f(&[100], &[1.0; 100])], &options).unwrap(), [f(&[100], &[1.0; 100])]);
    let traced = trace(&graph, &[f(&[100], &[1.0; 100])], &options).unwrap();
    assert_eq!(traced.len(), 51);
    assert_eq!(traced[1][0], f(&[100], &[-1.0; 100]));
}
