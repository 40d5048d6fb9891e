//! Branches, loops, scans, kernels and host functions.

use std::sync::Arc;

use tarsia_tensor::BinaryFn;

use super::*;
use crate::Origin;

fn add(graph: &mut Graph, op: Op, operands: &[Value]) -> Value {
    graph.add(op, operands, Origin::default()).unwrap().into()
}

fn binary(graph: &mut Graph, function: BinaryFn, x: Value, y: Value) -> Value {
    add(graph, Op::Binary(function), &[x, y])
}

fn scalar_type(dtype: DType) -> Type {
    Type::new(dtype, [])
}

/// A graph of two f32 inputs of shape [2] and one point-wise function.
fn branch(function: BinaryFn) -> Arc<Graph> {
    let mut graph = Graph::new("branch");
    let ty = Type::new(DType::F32, dims(&[2]));
    let (x, y) = (graph.add_input("x", ty.clone()), graph.add_input("y", ty));
    let z = binary(&mut graph, function, x, y);
    graph.add_output("z", z);
    Arc::new(graph)
}

#[test]
fn branches_are_chosen_by_the_condition() {
    let types = vec![Type::new(DType::F32, dims(&[2]))];
    let op = Op::If { then_branch: branch(BinaryFn::Add), else_branch: branch(BinaryFn::Mul), types };
    let (x, y) = (f(&[2], &[2.0, 3.0]), f(&[2], &[4.0, 5.0]));
    assert_eq!(one(op.clone(), &[b(&[], &[1]), x.clone(), y.clone()]), f(&[2], &[6.0, 8.0]));
    assert_eq!(one(op.clone(), &[b(&[], &[0]), x.clone(), y.clone()]), f(&[2], &[8.0, 15.0]));
    assert!(fails(op, &[b(&[2], &[0, 0]), x, y]).contains("condition"));
}

#[test]
fn kernels_are_their_body() {
    let op = Op::Kernel { body: branch(BinaryFn::Sub) };
    assert_eq!(one(op, &[f(&[2], &[2.0, 3.0]), f(&[2], &[4.0, 1.0])]), f(&[2], &[-2.0, 2.0]));
}

/// Sums 0, 1, 2 … while the sum is below the captured limit, and gives each sum.
fn counting_body() -> Arc<Graph> {
    let mut body = Graph::new("body");
    let step = body.add_input("step", scalar_type(DType::I64));
    body.add_input("going", scalar_type(DType::Bool));
    let sum = body.add_input("sum", scalar_type(DType::I64));
    let limit = body.add_input("limit", scalar_type(DType::I64));
    let next = binary(&mut body, BinaryFn::Add, sum, step);
    let going = binary(&mut body, BinaryFn::Lt, next, limit);
    body.add_output("going", going);
    body.add_output("sum", next);
    body.add_output("seen", next);
    Arc::new(body)
}

#[test]
fn loops_carry_and_stack() {
    let mut graph = Graph::new("g");
    let trips = graph.add_input("trips", scalar_type(DType::I64));
    let going = graph.add_constant(b(&[], &[1]), Origin::default());
    let zero = graph.add_constant(Tensor::scalar(0i64), Origin::default());
    let limit = graph.add_constant(Tensor::scalar(10i64), Origin::default());
    let types = vec![scalar_type(DType::I64), Type::new(DType::I64, [Dim::symbol("steps")])];
    let op = Op::Loop { body: counting_body(), carried: 1, types };
    let id = graph.add(op, &[trips, going, zero, limit], Origin::of("count")).unwrap();
    graph.add_output("sum", id.into());
    let sums = Value { node: id, output: 1 };
    // The fresh size can be used after the loop.
    let padded = add(&mut graph, Op::Broadcast { shape: vec![Dim::Const(2), Dim::symbol("steps")] }, &[sums]);
    graph.add_output("sums", padded);
    let go = |trips: i64| run(&graph, &[Tensor::scalar(trips)]).unwrap();
    assert_eq!(go(3), [Tensor::scalar(3i64), i(&[2, 3], &[0, 1, 3, 0, 1, 3])]);
    assert_eq!(go(i64::MAX), [Tensor::scalar(10i64), i(&[2, 5], &[0, 1, 3, 6, 10, 0, 1, 3, 6, 10])]);
    assert_eq!(go(0), [Tensor::scalar(0i64), i(&[2, 0], &[])]);
}

#[test]
fn endless_loops_stop_at_the_limit() {
    let mut body = Graph::new("body");
    body.add_input("step", scalar_type(DType::I64));
    let going = body.add_input("going", scalar_type(DType::Bool));
    body.add_output("going", going);
    let op = Op::Loop { body: Arc::new(body), carried: 0, types: vec![] };
    let options = Options { elements: 1000, iterations: 50 };
    let found = op_within(&op, &[Tensor::scalar(i64::MAX), b(&[], &[1])], &Bindings::new(), &options);
    assert_eq!(found.unwrap_err(), Fault::TooLong(50));
    let body = counting_body();
    let op =
        Op::Loop { body, carried: 1, types: vec![scalar_type(DType::I64), Type::new(DType::I64, [Dim::symbol("k")])] };
    let operands = [Tensor::scalar(i64::MAX), b(&[], &[1]), Tensor::scalar(0i64), Tensor::scalar(i64::MAX)];
    let stacked = op_within(&op, &operands, &Bindings::new(), &Options { elements: 300, iterations: 1000 });
    assert!(matches!(stacked, Err(Fault::TooLarge { .. } | Fault::Body(_))));
}

#[test]
fn carried_values_may_grow() {
    let mut body = Graph::new("body");
    body.add_input("step", scalar_type(DType::I64));
    let going = body.add_input("going", scalar_type(DType::Bool));
    let list = body.add_input("list", Type::new(DType::F32, [Dim::symbol("len")]));
    let longer = add(&mut body, Op::Concat { axis: 0 }, &[list, list]);
    body.add_output("going", going);
    body.add_output("list", longer);
    let op = Op::Loop { body: Arc::new(body), carried: 1, types: vec![Type::new(DType::F32, [Dim::symbol("final")])] };
    assert_eq!(one(op, &[Tensor::scalar(3i64), b(&[], &[1]), f(&[1], &[2.0])]), f(&[8], &[2.0; 8]));
}

#[test]
fn scans_slice_and_stack_along_axes() {
    // state + slice, both as the new state and as a slice of the result.
    let mut body = Graph::new("body");
    let ty = Type::new(DType::F32, dims(&[2]));
    let (state, slice) = (body.add_input("state", ty.clone()), body.add_input("slice", ty));
    let sum = binary(&mut body, BinaryFn::Add, state, slice);
    body.add_output("state", sum);
    body.add_output("slice", sum);
    let body = Arc::new(body);
    let scan = |axis: usize, reverse: bool, output_axis: usize, output_reverse: bool, shape: &[i64]| Op::ScanLoop {
        body: body.clone(),
        states: 1,
        input_axes: vec![axis],
        input_reverse: vec![reverse],
        output_axes: vec![output_axis],
        output_reverse: vec![output_reverse],
        types: vec![Type::new(DType::F32, dims(&[2])), Type::new(DType::F32, dims(shape))],
    };
    let go = |op: Op, x: Tensor| super::super::op(&op, &[f(&[2], &[0.0, 0.0]), x], &Bindings::new()).unwrap();
    let rows = f(&[3, 2], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    let forward = go(scan(0, false, 0, false, &[3, 2]), rows.clone());
    assert_eq!(forward, [f(&[2], &[9.0, 12.0]), f(&[3, 2], &[1.0, 2.0, 4.0, 6.0, 9.0, 12.0])]);
    let backward = go(scan(0, true, 0, true, &[3, 2]), rows);
    assert_eq!(backward[1], f(&[3, 2], &[9.0, 12.0, 8.0, 10.0, 5.0, 6.0]));
    let columns = f(&[2, 3], &[1.0, 3.0, 5.0, 2.0, 4.0, 6.0]);
    assert_eq!(go(scan(1, false, 1, false, &[2, 3]), columns)[1], f(&[2, 3], &[1.0, 4.0, 9.0, 2.0, 6.0, 12.0]));
    assert_eq!(go(scan(0, false, 0, false, &[0, 2]), f(&[0, 2], &[]))[1], f(&[0, 2], &[]));
}

#[test]
fn host_results_bind_their_symbols() {
    let mut graph = Graph::new("g");
    let x = graph.add_input("x", Type::new(DType::F32, dims(&[4])));
    let types = vec![Type::new(DType::I64, [Dim::ONE, Dim::symbol("k")])];
    let op = Op::Host { function: "nonzero".into(), ints: vec![], reals: vec![], types };
    let places = add(&mut graph, op, &[x]);
    let flat = add(&mut graph, Op::Reshape { shape: vec![Dim::symbol("k")] }, &[places]);
    let count = add(&mut graph, Op::Size { dim: Dim::symbol("k") }, &[]);
    let kept = add(&mut graph, Op::Gather { axis: 0 }, &[x, flat]);
    graph.add_output("count", count);
    graph.add_output("kept", kept);
    let found = run(&graph, &[f(&[4], &[0.0, 3.0, 0.0, 5.0])]).unwrap();
    assert_eq!(found, [Tensor::scalar(2i64), f(&[2], &[3.0, 5.0])]);
}

#[test]
fn errors_in_bodies_name_both_nodes() {
    let mut body = Graph::new("body");
    let x = body.add_input("x", Type::new(DType::F32, dims(&[2])));
    let at = body.add_constant(i(&[1], &[7]), Origin::default());
    let id = body.add(Op::Gather { axis: 0 }, &[x, at], Origin::of("lookup")).unwrap();
    body.add_output("y", id.into());
    let mut graph = Graph::new("g");
    let x = graph.add_input("x", Type::new(DType::F32, dims(&[2])));
    let id = graph.add(Op::Kernel { body: Arc::new(body) }, &[x], Origin::of("outer")).unwrap();
    graph.add_output("y", id.into());
    let error = run(&graph, &[f(&[2], &[0.0; 2])]).unwrap_err().to_string();
    assert_eq!(
        error,
        "%1 = kernel (from outer): in its body: %2 = gather (from lookup): index 7 at element 0 is not in 0..2"
    );
}
