//! Round trips of texts, and errors for broken ones.

use std::sync::Arc;

use tarsia_tensor::{DType, Dim, Tensor, rng::Stream};

use super::*;
use crate::{Graph, Op, Origin, Real, Type, Value, random};

#[test]
fn random_graphs_round_trip() {
    for seed in 0..300 {
        let (graph, _) = random::graph(seed, &random::Options { tolerance: None, ..random::Options::default() });
        let text = graph.to_string();
        let again = parse(&text).unwrap_or_else(|error| panic!("seed {seed}: {error}\n{text}"));
        assert_eq!(again, graph, "seed {seed}\n{text}");
        assert_eq!(again.name, graph.name);
        assert!(graph.node_ids().all(|id| again[id].origin == graph[id].origin), "seed {seed}\n{text}");
        assert_eq!(again.to_string(), text, "seed {seed}");
        let mut bytes = Vec::new();
        write(&graph, Data::Full, &mut bytes).unwrap();
        assert_eq!(bytes, text.as_bytes());
    }
}

#[test]
fn the_form_is_readable() {
    let mut graph = Graph::new("classifier");
    let image = graph.add_input("image", Type::new(DType::F32, [Dim::symbol("batch"), Dim::Const(2)]));
    let weight = graph.add_constant(Tensor::from_slice(&[2, 9], &[0.5f32; 18]).unwrap(), Origin::of("fc.weight"));
    let half = graph.add_constant(Tensor::scalar(0.5f32), Origin::default());
    let spec = "ab,bc->ac".parse().unwrap();
    let op = Op::Contract { spec, dtype: DType::F32 };
    let product = graph.add(op, &[image, weight], Origin::of("fc/MatMul")).unwrap();
    let origin = Origin::of("fc/Mul").merge(&Origin::of("a, b"));
    let scaled = graph.add(Op::Binary(crate::BinaryFn::Mul), &[product.into(), half], origin).unwrap();
    let op = Op::TopK { axis: 1, k: Dim::Const(3), largest: true };
    let best = graph.add(op, &[scaled.into()], Origin::default()).unwrap();
    graph.add_output("scores", best.into());
    graph.add_output("classes", Value { node: best, output: 1 });
    let expected = "\
graph @classifier(%0 \"image\": f32[batch, 2]) {
  %1 = constant elided : f32[2, 9]  # fc.weight
  %2 = constant 0.5 : f32[]
  %3 = contract(%0, %1) {spec: \"ab,bc->ac\", dtype: f32} : f32[batch, 9]  # fc/MatMul
  %4 = mul(%3, %2) : f32[batch, 9]  # \"a, b\", fc/Mul
  %5 = top_k(%4) {axis: 1, k: 3, largest: true} : f32[batch, 3], i64[batch, 3]
  return %5:0 as \"scores\", %5:1 as \"classes\"
}
";
    assert_eq!(listing(&graph, Data::Elided).to_string(), expected);
    assert_eq!(line(&graph, best), "%5 = top_k(%4) {axis: 1, k: 3, largest: true} : f32[batch, 3], i64[batch, 3]");
    let full = graph.to_string();
    assert!(full.contains("%1 = constant @c0 : f32[2, 9]"));
    assert!(full.contains("\ndata @c0 = f32[2, 9] base64:\"AAAAPwAAAD8"));
    assert_eq!(parse(&full).unwrap(), graph);
    let error = parse(expected).unwrap_err();
    assert_eq!((error.line, error.column), (2, 17));
    assert!(error.message.contains("left out"));
}

#[test]
fn subgraphs_are_nested() {
    let text = "\
graph @outer(%0 \"flag\": bool[], %1 \"x\": f32[n]) {
  %2 = if(%0, %1) {
    then_branch: graph @a(%0 \"x\": f32[n]) {
      %1 = neg(%0) : f32[n]
      return %1 as \"y\"
    },
    else_branch: graph @\"b c\"(%0 \"x\": f32[n]) {
      return %0 as \"y\"
    }
  } : f32[n]  # branch
  return %2 as \"y\"
}
";
    let graph = parse(text).unwrap();
    assert_eq!(graph.to_string(), text);
    let Op::If { then_branch, else_branch, types } = &graph[crate::NodeId::new(2)].op else { panic!("not an if") };
    assert_eq!((then_branch.node_count(), else_branch.name.as_str()), (2, "b c"));
    assert_eq!(types, &[Type::new(DType::F32, [Dim::symbol("n")])]);
    let kernel = line(&graph, crate::NodeId::new(2));
    assert_eq!(kernel, "%2 = if(%0, %1) {then_branch: graph @a, else_branch: graph @\"b c\"} : f32[n]  # branch");
}

#[test]
fn labels_types_and_names_may_be_written_freely() {
    let text = "\n# a comment\ngraph(%x: f32[2], %mask \"the mask\": bool[2]) {\n\n  # another\n  %y = neg(%x)\n\t%z=select( %mask ,%y, %x ) : f32[ 2 ]\n  return %z as \"z\",\n    %y as \"y\"\n}\n";
    let graph = parse(text).unwrap();
    assert_eq!(graph.inputs().iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["x", "the mask"]);
    assert_eq!(graph.outputs().len(), 2);
    assert_eq!(parse(&graph.to_string()).unwrap(), graph);
}

#[test]
fn reals_names_and_data_round_trip_exactly() {
    let mut graph = Graph::new("");
    let x = graph
        .add_input("a \"quoted\"\n\u{202e}name\\", Type::new(DType::F32, [Dim::symbol("odd, name]"), Dim::Const(4)]));
    for epsilon in
        [0.0, -0.0, 1.0, 1e-300, f64::INFINITY, f64::NEG_INFINITY, f64::NAN, f64::from_bits(0x7ff8_0000_0000_0001)]
    {
        let reals = vec![Real(epsilon), Real(0.1)];
        let op = Op::Host { function: "f\"".into(), ints: vec![], reals, types: vec![Type::new(DType::F32, [])] };
        graph.add(op, &[x], Origin::of("weird # name, \u{7}")).unwrap();
    }
    for dtype in DType::ALL.iter().copied().filter(|dtype| dtype.is_numeric()) {
        for count in [0, 1, 3, 40] {
            let size = dtype.bytes_of(count).unwrap();
            let bytes: Vec<u8> = (0..size).map(|i| (i * 73 + 5) as u8).collect();
            graph.add_constant(Tensor::new(dtype, &[count], bytes.into()).unwrap(), Origin::default());
            graph.add_constant(Tensor::new(dtype, &[1, count], vec![0xff; size].into()).unwrap(), Origin::default());
        }
    }
    let strings = |count: usize| vec![bytes::Bytes::from_static(b"\xff\"\\, ]\n"); count];
    for count in [0, 1, 40] {
        graph.add_constant(Tensor::from_strings(&[count], strings(count)).unwrap(), Origin::default());
    }
    graph.add_constant(Tensor::from_strings(&[], strings(1)).unwrap(), Origin::default());
    let text = graph.to_string();
    let again = parse(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    assert_eq!(again, graph);
    assert_eq!(again.to_string(), text);
}

#[test]
fn shared_data_are_printed_once() {
    let tensor = Tensor::from_slice(&[100], &[1.5f32; 100]).unwrap();
    let mut body = Graph::new("body");
    let constant = body.add_constant(tensor.clone(), Origin::default());
    body.add_output("y", constant);
    let mut graph = Graph::new("g");
    graph.add_constant(tensor.clone(), Origin::default());
    graph.add_constant(tensor, Origin::default());
    let id = graph.add(Op::Kernel { body: Arc::new(body) }, &[], Origin::default()).unwrap();
    graph.add_output("y", id.into());
    let text = graph.to_string();
    assert_eq!(text.matches("data @").count(), 1);
    assert_eq!(parse(&text).unwrap(), graph);
}

fn error_of(body: &str) -> String {
    parse(&format!("graph @g(%x: f32[2, n]) {{\n{body}\n  return %x as \"x\"\n}}\n")).unwrap_err().to_string()
}

#[test]
fn errors_say_where_and_what() {
    let cases = [
        ("  %y = frobnicate(%x)", "line 2, column 8: there is no core op `frobnicate`"),
        ("  %y = neg(%q)", "line 2, column 12: `%q` is not defined before this line"),
        ("  %y = neg(%x:1)", "line 2, column 12: `%x` has 1 results, there is no number 1"),
        ("  %y = neg(%x) : f32[3, n]", "line 2, column 8: the result is f32[2, n], not f32[3, n] as written"),
        (
            "  %y = softmax(%x) {axis: 5}",
            "line 2, column 8: `softmax` cannot take f32[2, n]: axis 5 is not below the rank 2",
        ),
        (
            "  %y = softmax(%x) {axis: \"one\"}",
            "line 2, column 21: the attribute `axis` of `softmax` has the wrong kind of value",
        ),
        ("  %y = softmax(%x)", "line 2, column 8: `softmax` needs the attribute `axis`"),
        ("  %y = softmax(%x) {axis: 1, size: 2}", "line 2, column 30: `softmax` has no attribute `size`"),
        ("  %y = softmax(%x) {axis: 1, axis: 1}", "line 2, column 30: the attribute `axis` is given twice"),
        ("  %x = neg(%x)", "line 2, column 3: `%x` is given twice"),
        ("  %y = constant @c7 : f32[2]", "line 2, column 17: the data `@c7` are not in this text"),
        (
            "  %y = constant [1, 2] : f32[3]",
            "line 2, column 17: a f32 tensor of shape [3] takes 12 bytes, but 8 were given",
        ),
        ("  %y = constant [300] : u8[1]", "line 2, column 17: `300` is not a value of u8"),
        (
            "  %y = constant [1.0] : f32[n]",
            "line 2, column 17: constant data cannot be f32[n]: their sizes must be numbers",
        ),
        ("  %y = input", "line 2, column 8: inputs stand in the head of the graph"),
        ("  %y = neg(%x) nonsense", "line 2, column 16: expected the end of the line"),
        ("  y = neg(%x)", "line 2, column 3: expected a node (`%…`) or `return`"),
        (
            "  %y = neg(%x) : f32[2, (n]",
            "line 2, column 25: `(n]` is not a size expression: expected `)` at position 2",
        ),
        ("  %y = neg(%x) : f33[2]", "line 2, column 18: `f33` is not an element type"),
    ];
    for (body, expected) in cases {
        assert_eq!(error_of(body), expected, "{body}");
    }
}

#[test]
fn hostile_texts_are_errors() {
    let nested = format!("graph(){{ %0 = kernel {{body: {}", "graph() { %0 = kernel {body: ".repeat(10_000));
    let wide = format!(
        "graph() {{\n %0 = iota {{dtype: f32, shape: [{}1{}], axis: 0}}\n return\n}}",
        "(".repeat(9999),
        ")".repeat(9999)
    );
    let huge = "graph() {\n return\n}\ndata @a = f32[9223372036854775807, 9223372036854775807] base64:\"\"\n";
    let twice = "graph() {\n return\n}\ndata @a = f32[0] base64:\"\"\ndata @a = f32[0] base64:\"\"\n";
    for text in [
        "",
        "graph",
        "graph(",
        "graph()",
        "graph() {",
        "graph() {}",
        "graph() {\n return\n} x",
        &nested,
        &wide,
        huge,
        twice,
    ] {
        assert!(parse(text).is_err(), "{text:.60}");
    }
    assert!(parse("graph() {\n return\n}").is_ok());
}

#[test]
fn mutilated_texts_never_panic() {
    let options = random::Options { nodes: 8, elements: 64, ..random::Options::default() };
    let mut stream = Stream::new(11);
    let pieces = [
        "%",
        "(",
        "[",
        "{",
        "}",
        "]",
        ")",
        ",",
        ":",
        "-",
        "99999999999999999999",
        "-1",
        "n",
        "\"",
        "\\",
        "\n",
        "#",
        "graph",
        "floordiv(",
        "🦀",
    ];
    for seed in 0..150 {
        let text = random::graph(seed, &options).0.to_string();
        for _ in 0..20 {
            let mut mutated: Vec<char> = text.chars().collect();
            for _ in 0..1 + stream.below(3) {
                let at = stream.below(mutated.len());
                let end = (at + stream.below(4)).min(mutated.len());
                let piece: Vec<char> = if stream.one_in(2) { vec![] } else { stream.pick(&pieces).chars().collect() };
                mutated.splice(at..end, piece);
            }
            let mutated: String = mutated.into_iter().collect();
            if let Ok(graph) = parse(&mutated) {
                assert_eq!(parse(&graph.to_string()).as_ref(), Ok(&graph), "{mutated}");
            }
        }
    }
}
