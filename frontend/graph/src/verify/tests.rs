//! What the verifier accepts and refuses.

use std::sync::Arc;

use super::*;
use crate::{BinaryFn, UnaryFn, random};

#[test]
fn random_graphs_are_valid() {
    for seed in 0..300 {
        let (graph, _) = random::graph(seed, &random::Options::default());
        verify(&graph).unwrap_or_else(|problems| panic!("seed {seed}: {problems}\n{graph}"));
    }
}

fn problems(text: &str) -> Vec<String> {
    let graph: Graph = text.parse().unwrap();
    match verify(&graph) {
        Ok(()) => Vec::new(),
        Err(Problems(problems)) => problems.into_iter().map(|problem| problem.message).collect(),
    }
}

#[test]
fn all_problems_are_reported_with_their_lines() {
    let text = "graph(%x: f32[n], %y \"x\": f32[2*k, k*k]) {
  %2 = iota {dtype: f32, shape: [m + n], axis: 0}  # counter
  %3 = host(%x) {function: \"frobnicate\", ints: [], reals: []} : f32[m]
  %4 = iota {dtype: f32, shape: [m, k], axis: 0}
  %5 = reshape(%x) {shape: [q]}
  return %x as \"a\", %y as \"a\"
}";
    let graph: Graph = text.parse().unwrap();
    let error = verify(&graph).unwrap_err().to_string();
    let expected = "\
several inputs are named `x`
%2 = iota {dtype: f32, shape: [m + n], axis: 0} : f32[m + n]  # counter
    nothing before it determines the size `m`
%3 = host(%0) {function: \"frobnicate\", ints: [], reals: []} : f32[m]
    there is no host function `frobnicate`
%5 = reshape(%0) {shape: [q]} : f32[q]
    nothing before it determines the size `q`
several outputs are named `a`";
    assert_eq!(error, expected);
}

#[test]
fn subgraphs_must_fit_their_op() {
    let branch = |inputs: &str, output: &str| format!("graph({inputs}) {{\n return {output} as \"y\"\n}}");
    let choose = |condition: &str, then: &str, otherwise: &str| {
        problems(&format!(
            "graph(%c: {condition}, %x: f32[2]) {{\n %2 = if(%c, %x) {{then_branch: {then}, else_branch: {otherwise}}} : f32[2]\n return %2 as \"y\"\n}}"
        ))
    };
    let same = branch("%x: f32[2]", "%x");
    assert_eq!(choose("bool[]", &same, &same), Vec::<String>::new());
    assert_eq!(choose("f32[]", &same, &same), ["operand 0 must be bool[], not f32[]"]);
    let wide = branch("%x: f32[3]", "%x");
    assert_eq!(
        choose("bool[]", &same, &wide),
        [
            "the inputs of `else_branch` are (f32[3]) instead of (f32[2])",
            "the outputs of `else_branch` are (f32[3]) instead of (f32[2])"
        ]
    );
    let symbolic = branch("%x: f32[s]", "%x");
    assert_eq!(choose("bool[]", &symbolic, &same), Vec::<String>::new());
}

#[test]
fn loops_must_fit_their_body() {
    let text = |body: &str| {
        format!(
            "graph(%t: i64[], %c: bool[], %x: f32[2]) {{\n %3 = loop(%t, %c, %x) {{body: {body}, carried: 1}} : f32[2], f32[s, 2]\n return %3:0 as \"x\", %3:1 as \"s\"\n}}"
        )
    };
    let good = "graph(%i: i64[], %c: bool[], %x: f32[2]) {\n return %c as \"c\", %x as \"x\", %x as \"s\"\n}";
    assert_eq!(problems(&text(good)), Vec::<String>::new());
    let bad = "graph(%i: i64[], %x: f32[2]) {\n return %x as \"x\"\n}";
    assert_eq!(
        problems(&text(bad)),
        [
            "the inputs of `body` are (i64[], f32[2]) instead of (i64[], bool[], f32[2])",
            "the outputs of `body` are (f32[2]) instead of (bool[], f32[2], f32[2])"
        ]
    );
    let scan = "graph(%x: f32[3, 2]) {
 %1 = scan_loop(%x) {body: graph(%e: f32[3]) {\n return %e as \"e\"\n}, states: 0, input_axes: [1], input_reverse: [0], output_axes: [1], output_reverse: []} : f32[3, 2]
 return %1 as \"y\"
}";
    assert_eq!(problems(scan), ["states, axes and directions do not fit the number of operands and results"]);
    assert_eq!(problems(&scan.replace("output_reverse: []", "output_reverse: [1]")), Vec::<String>::new());
}

#[test]
fn problems_in_bodies_name_the_way() {
    let mut body = Graph::new("body");
    let shape = vec![Dim::symbol("unknown")];
    let id = body.add(Op::Iota { dtype: DType::F32, shape, axis: 0 }, &[], Origin::of("inner")).unwrap();
    body.add_output("y", id.into());
    let mut graph = Graph::new("g");
    graph.add(Op::Kernel { body: Arc::new(body) }, &[], Origin::default()).unwrap();
    let Problems(found) = verify(&graph).unwrap_err();
    assert_eq!((found[0].path.as_slice(), found[0].node), ([NodeId::new(0)].as_slice(), Some(NodeId::new(0))));
    assert!(found[0].to_string().starts_with("in %0: %0 = iota"), "{}", found[0]);
    assert_eq!(found[0].origin, Origin::of("inner"));
}

#[test]
fn missing_values_are_found() {
    let mut graph = Graph::new("g");
    let x = graph.add_input("x", Type::new(DType::F32, []));
    let y = graph.add(Op::Unary(UnaryFn::Neg), &[x], Origin::default()).unwrap();
    graph.add_output("y", Value { node: y, output: 3 });
    graph.add_output("z", NodeId::new(17).into());
    graph.add(Op::Input { index: 5, types: vec![] }, &[], Origin::default()).unwrap();
    let Problems(found) = verify(&graph).unwrap_err();
    let messages: Vec<&str> = found.iter().map(|problem| problem.message.as_str()).collect();
    assert_eq!(
        messages,
        [
            "the graph does not name this node as its input 5",
            "the value of the output `y` does not exist",
            "the value of the output `z` does not exist"
        ]
    );
    // The evaluation refuses such a graph instead of failing in the middle.
    assert!(crate::eval::run(&graph, &[tarsia_tensor::Tensor::scalar(1f32)]).is_err());
    let sum = graph.add(Op::Binary(BinaryFn::Add), &[x, x], Origin::default());
    assert!(sum.is_ok());
}
