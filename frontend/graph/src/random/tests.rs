//! Drawn graphs are valid, varied, and as precise as promised.

use std::collections::{BTreeMap, BTreeSet};

use super::*;

#[test]
fn every_graph_runs_on_its_inputs() {
    for seed in 0..300 {
        let (graph, inputs) = graph(seed, &Options::default());
        let outputs = eval::run(&graph, &inputs).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        assert!(!outputs.is_empty(), "seed {seed}");
        let finite = outputs.iter().all(|tensor| magnitude(tensor).is_some());
        assert!(finite, "seed {seed} has values that are not finite");
    }
}

#[test]
fn the_same_seed_gives_the_same_graph() {
    let options = Options::default();
    assert_eq!(graph(7, &options).0, graph(7, &options).0);
    assert_ne!(graph(7, &options).0, graph(8, &options).0);
}

fn ops_of(graph: &Graph, counts: &mut BTreeMap<&'static str, usize>) {
    for id in graph.node_ids() {
        *counts.entry(graph[id].op.name()).or_default() += 1;
        graph[id].op.subgraphs().into_iter().for_each(|body| ops_of(body, counts));
    }
}

#[test]
fn every_op_of_the_table_is_drawn() {
    let mut counts = BTreeMap::new();
    for seed in 0..600 {
        ops_of(&graph(seed, &Options::default()).0, &mut counts);
    }
    let names = Op::NAMES.iter().copied();
    let functions = crate::UnaryFn::ALL.iter().map(|f| f.name()).chain(crate::BinaryFn::ALL.iter().map(|f| f.name()));
    let missing: BTreeSet<&str> = names.chain(functions).filter(|name| !counts.contains_key(name)).collect();
    assert!(missing.is_empty(), "never drawn: {missing:?}");
}

/// Without any rounding (all floats in f64) no output may differ by more than the tolerance.
#[test]
fn rounding_stays_within_the_tolerance() {
    let kinds = Options::default().kinds;
    let kinds: Vec<Kind> = kinds.into_iter().filter(|kind| !matches!(kind, Kind::Control | Kind::Host)).collect();
    let mut worst = BTreeMap::new();
    for dtype in [DType::F32, DType::F16, DType::BF16] {
        let options = Options::of(dtype).with_kinds(&kinds);
        for seed in 0..200 {
            let (graph, inputs) = graph(seed, &options);
            let Some(wide) = widened(&graph, dtype) else { continue };
            let rounded = eval::run(&graph, &inputs).unwrap();
            let exact = eval::run(&wide, &inputs.iter().map(|x| widen(x, dtype)).collect::<Vec<_>>()).unwrap();
            for (a, b) in rounded.iter().zip(&exact) {
                let (a, b) = (a.numbers().unwrap().to_f64(), b.numbers().unwrap().to_f64());
                let difference = a.iter().zip(&b).map(|(x, y)| (x - y).abs()).fold(0.0, f64::max);
                assert!(difference <= 0.02, "seed {seed} in {dtype}: {difference}");
                let largest = worst.entry(dtype).or_insert(0.0);
                *largest = difference.max(*largest);
            }
        }
    }
    // The bound is not idle: narrow floats come near it, but f32 stays far below.
    assert!(worst[&DType::BF16] > 1e-3 && worst[&DType::F32] < 1e-3, "{worst:?}");
}

/// The same graph in f64; `None` if it draws random numbers, whose bits depend on the type.
fn widened(graph: &Graph, dtype: DType) -> Option<Graph> {
    let mut copy = Graph::new("widened");
    for id in graph.node_ids() {
        match &graph[id].op {
            Op::Random { .. } => return None,
            Op::Input { types, .. } => {
                let wide = if types[0].dtype == dtype { DType::F64 } else { types[0].dtype };
                copy.add_input("x", Type::new(wide, types[0].shape.clone()));
            }
            Op::Constant { value } => drop(copy.add_constant(widen(value, dtype), Origin::default())),
            op => {
                let attr = |name: &str| {
                    let found = op.attrs().into_iter().find(|(n, _)| *n == name)?.1;
                    Some(if found == crate::Attr::DType(dtype) { crate::Attr::DType(DType::F64) } else { found })
                };
                let op = Op::from_attrs(op.name(), &attr).unwrap();
                copy.add(op, &graph.operands(id), Origin::default()).unwrap();
            }
        }
    }
    graph.outputs().iter().for_each(|output| copy.add_output(&output.name, output.value));
    Some(copy)
}

fn widen(tensor: &Tensor, dtype: DType) -> Tensor {
    let wide = if tensor.dtype() == dtype { DType::F64 } else { tensor.dtype() };
    tensor_of(wide, tensor.shape(), &tensor.numbers().unwrap())
}

#[test]
fn failing_graphs_shrink_to_the_guilty_op() {
    let has_erf = |graph: &Graph| graph.node_ids().any(|id| graph[id].op == Op::Unary(crate::UnaryFn::Erf));
    let mut shrunk = 0;
    for seed in 0..400 {
        let (graph, inputs) = graph(seed, &Options::default());
        if !has_erf(&graph) {
            continue;
        }
        let small = shrink(&graph, &inputs, &|graph, inputs| has_erf(graph) && eval::run(graph, inputs).is_ok());
        assert!(has_erf(&small), "seed {seed}");
        let others = |id| !matches!(small[id].op, Op::Input { .. } | Op::Constant { .. });
        assert!(small.node_ids().filter(|id| others(*id)).count() <= 2, "seed {seed}\n{small}");
        shrunk += 1;
    }
    assert!(shrunk >= 5, "{shrunk}");
    let (graph, inputs) = graph(1, &Options::default());
    assert_eq!(shrink(&graph, &inputs, &|_, _| false), graph);
}
