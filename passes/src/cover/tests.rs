//! Expected fusions, legality of every body, and agreement with the reference evaluation on random graphs.

use tarsia_graph::{
    BinaryFn, Contraction, Graph, GraphError, Kind, Op, Origin, ReduceFn, Type, UnaryFn, Value,
    composite::{self, Builder},
    eval, kernel, random,
};
use tarsia_tensor::{DType, Dim, Tensor};

use super::{Decisions, Options, Rates, cover};

/// A graph written down in a closure that gets the inputs.
fn graph(inputs: &[&[i64]], write: impl FnOnce(&mut Builder, &[Value]) -> Result<Vec<Value>, GraphError>) -> Graph {
    let mut graph = Graph::new("test");
    let ty = |shape: &[i64]| Type::new(DType::F32, shape.iter().map(|&d| Dim::from(d)).collect::<Vec<_>>());
    let values: Vec<Value> =
        inputs.iter().enumerate().map(|(i, shape)| graph.add_input(&format!("x{i}"), ty(shape))).collect();
    let outputs = write(&mut Builder { graph: &mut graph, origin: &Origin::of("test") }, &values).unwrap();
    for (i, value) in outputs.into_iter().enumerate() {
        graph.add_output(&format!("y{i}"), value);
    }
    graph
}

fn covered(graph: &Graph) -> (Graph, Decisions) {
    let (covered, decisions) = cover(graph, &Rates::default(), &Options::default()).unwrap();
    check_structure(&covered, &decisions);
    (covered, decisions)
}

/// Nothing but kernels, aliases and leaves computes; bodies are legal.
fn check_structure(graph: &Graph, decisions: &Decisions) {
    let uncovered: Vec<u32> = decisions.uncovered.iter().map(|node| node.node).collect();
    for id in graph.node_ids() {
        let op = &graph[id].op;
        match op {
            Op::Kernel { body } => {
                kernel::legal(body).unwrap_or_else(|reason| panic!("{reason}: {body:?}"));
            }
            Op::Input { .. } | Op::Constant { .. } | Op::Reshape { .. } => {}
            op if matches!(op.kind(), Kind::Control | Kind::Host) => {}
            op => assert!(uncovered.contains(&(id.index() as u32)), "`{}` is outside kernels", op.name()),
        }
    }
}

/// Kind and ops of every kernel.
fn kernels(graph: &Graph) -> Vec<String> {
    let (_, decisions) = covered(graph);
    decisions.kernels.iter().map(|kernel| format!("{}: {}", kernel.kind, kernel.chosen.ops.join(" "))).collect()
}

#[test]
fn a_product_takes_bias_and_activation_along() {
    let graph = graph(&[&[128, 64], &[64, 256], &[256]], |b, x| {
        let product = b.add(Op::Contract { spec: Contraction::matmul(0), dtype: DType::F32 }, &x[..2])?;
        let sum = b.binary(BinaryFn::Add, product, x[2])?;
        Ok(vec![composite::expand(b.graph, &Op::Gelu { tanh: false }, &[sum], b.origin)?.unwrap()])
    });
    assert_eq!(kernels(&graph), ["contract: contract add mul erf add mul mul"]);
}

#[test]
fn an_expanded_softmax_is_one_kernel() {
    let graph = graph(&[&[32, 1000]], |b, x| {
        Ok(vec![composite::expand(b.graph, &Op::Softmax { axis: 1 }, x, b.origin)?.unwrap()])
    });
    assert_eq!(kernels(&graph), ["rows: reduce sub exp reduce div"]);
}

#[test]
fn a_residual_sum_is_stored_with_the_product_and_normalised_by_rows() {
    let graph = graph(&[&[128, 64], &[64, 256], &[128, 256], &[256], &[256]], |b, x| {
        let product = b.add(Op::Contract { spec: Contraction::matmul(0), dtype: DType::F32 }, &x[..2])?;
        let sum = b.binary(BinaryFn::Add, product, x[2])?;
        let norm = b.add(Op::LayerNorm { axis: 1, epsilon: tarsia_graph::Real(1e-5) }, &[sum, x[3], x[4]])?;
        Ok(vec![sum, norm])
    });
    assert_eq!(kernels(&graph), ["contract: contract add", "rows: layer_norm"]);
}

#[test]
fn movements_before_and_after_a_product_are_inside() {
    let graph = graph(&[&[2, 16, 64], &[2, 16, 64]], |b, x| {
        let heads: Vec<Dim> = [2, 16, 4, 16].map(Dim::Const).to_vec();
        let q = b.reshape(x[0], &heads)?;
        let q = b.add(Op::Transpose { perm: vec![0, 2, 1, 3] }, &[q])?;
        let k = b.reshape(x[1], &heads)?;
        let k = b.add(Op::Transpose { perm: vec![0, 2, 3, 1] }, &[k])?;
        let scores = b.add(Op::Contract { spec: Contraction::matmul(2), dtype: DType::F32 }, &[q, k])?;
        let turned = b.add(Op::Transpose { perm: vec![0, 2, 1, 3] }, &[scores])?;
        Ok(vec![b.with_scalar(BinaryFn::Mul, turned, 0.25)?])
    });
    let (covered, _) = covered(&graph);
    let count = covered.node_ids().filter(|&id| matches!(covered[id].op, Op::Kernel { .. })).count();
    assert_eq!(count, 1);
}

#[test]
fn cheap_shared_values_are_computed_again_and_costly_ones_stored() {
    let shared = |write: fn(&mut Builder, Value, Value) -> Result<Value, GraphError>| {
        graph(&[&[256, 256], &[256, 256]], |b, x| {
            let value = write(b, x[0], x[1])?;
            let sum = b.reduce(ReduceFn::Sum, value, &[1])?;
            let other = b.reduce(ReduceFn::Max, value, &[0])?;
            Ok(vec![sum, other])
        })
    };
    let cheap = kernels(&shared(|b, x, _| b.unary(UnaryFn::Neg, x)));
    assert_eq!(cheap, ["rows: neg reduce", "rows: neg reduce"]);
    let costly = kernels(&shared(|b, x, y| {
        let product = b.add(Op::Contract { spec: Contraction::matmul(0), dtype: DType::F32 }, &[x, y])?;
        b.unary(UnaryFn::Exp, product)
    }));
    assert_eq!(costly, ["contract: contract exp", "rows: reduce", "rows: reduce"]);
}

#[test]
fn two_products_are_two_kernels_and_the_reason_is_known() {
    let graph = graph(&[&[64, 64], &[64, 64], &[64, 64]], |b, x| {
        let first = b.add(Op::Contract { spec: Contraction::matmul(0), dtype: DType::F32 }, &x[..2])?;
        let second = b.add(Op::Contract { spec: Contraction::matmul(0), dtype: DType::F32 }, &[first, x[2]])?;
        Ok(vec![b.binary(BinaryFn::Mul, first, second)?])
    });
    let (_, decisions) = covered(&graph);
    assert_eq!(decisions.kernels.len(), 2);
    assert!(decisions.kernels.iter().all(|kernel| kernel.lost.iter().all(|lost| lost.difference >= -1e-12)));
    let text = serde_json::to_string(&decisions).unwrap();
    assert_eq!(serde_json::from_str::<Decisions>(&text).unwrap(), decisions);
}

#[test]
fn the_target_without_a_kernel_gets_the_expansion() {
    let write = |b: &mut Builder, x: &[Value]| Ok(vec![b.add(Op::Attention { scale: tarsia_graph::Real(0.5) }, x)?]);
    let graph = graph(&[&[1, 4, 8, 16], &[1, 4, 8, 16], &[1, 4, 8, 16]], write);
    assert_eq!(kernels(&graph), ["attention: attention"]);
    let mut options = Options::default();
    options.kinds.remove(&tarsia_graph::KernelKind::Attention);
    let (graph, decisions) = cover(&graph, &Rates::default(), &options).unwrap();
    check_structure(&graph, &decisions);
    let kinds: Vec<&str> = decisions.kernels.iter().map(|kernel| kernel.kind.as_str()).collect();
    assert_eq!(kinds, ["contract", "rows", "contract"]);
}

/// Tensors are the same up to rounding in another order.
fn agree(expected: &[Tensor], found: &[Tensor], what: &str) {
    assert_eq!(expected.len(), found.len(), "{what}");
    for (e, f) in expected.iter().zip(found) {
        assert_eq!((e.dtype(), e.shape()), (f.dtype(), f.shape()), "{what}");
        assert_eq!(format!("{:?}", e.numbers()), format!("{:?}", f.numbers()), "{what}");
    }
}

#[test]
fn random_graphs_keep_their_values() {
    for seed in 0..400 {
        let (graph, inputs) = random::graph(seed, &random::Options { elements: 512, ..Default::default() });
        let expected = eval::run(&graph, &inputs).unwrap();
        let (covered, decisions) = cover(&graph, &Rates::default(), &Options::default()).unwrap();
        check_structure(&covered, &decisions);
        let found = eval::run(&covered, &inputs).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        agree(&expected, &found, &format!("seed {seed}"));
    }
}

#[test]
fn the_same_graph_gives_the_same_kernels() {
    for seed in 0..20 {
        let (graph, _) = random::graph(seed, &random::Options::default());
        let first = cover(&graph, &Rates::default(), &Options::default()).unwrap();
        let second = cover(&graph, &Rates::default(), &Options::default()).unwrap();
        assert_eq!(first.1, second.1);
        assert!(first.0 == second.0);
    }
}
