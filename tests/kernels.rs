//! Which kernels the whole compiler makes of real models, and what memory their programs need.

use std::{collections::BTreeMap, path::PathBuf};

use tarsia::{
    Phase, Session, SessionOptions, Start, Tensor,
    graph::{Graph, KernelKind, Op, Value, classify, eval},
    tile::{Program, plan::Plan},
};

/// The five exports of one mixture-of-experts model.
const SPELLINGS: [&str; 5] = [
    "examples/deepseek_v3_tiny",
    "tests/models/deepseek_v3_tiny_dense_bmm",
    "tests/models/deepseek_v3_tiny_dense_loop",
    "tests/models/deepseek_v3_tiny_sparse_nonzero",
    "tests/models/deepseek_v3_tiny_sorted_segments",
];

fn cpu() -> tarsia::Machine {
    tarsia::machine("cpu").expect("the default target")
}

fn compiled(folder: &str, last: Phase) -> tarsia::Compiled {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(folder);
    let model = tarsia::Folder::open(&folder).expect("a model folder").model;
    let start = tarsia::load(&model, tarsia::Limits::default(), &cpu()).expect("it loads");
    tarsia::compile(start, last, &cpu()).expect("it compiles")
}

fn bodies(graph: &Graph) -> impl Iterator<Item = &Graph> {
    graph.node_ids().filter_map(|id| match &graph[id].op {
        Op::Kernel { body } => Some(&**body),
        _ => None,
    })
}

/// Kind and ops of every kernel, whatever their order.
fn kernels(graph: &Graph) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for body in bodies(graph) {
        let (kind, _) = classify(body).expect("a kernel");
        let leaf = |op: &Op| matches!(op, Op::Input { .. } | Op::Constant { .. });
        let mut ops: Vec<&str> = body.node_ids().map(|id| &body[id].op).filter(|op| !leaf(op)).map(Op::name).collect();
        ops.sort_unstable();
        *counts.entry(format!("{kind}: {}", ops.join(" "))).or_default() += 1;
    }
    counts
}

#[test]
fn five_spellings_of_a_mixture_of_experts_are_the_same_kernels() {
    let all = SPELLINGS.map(|folder| kernels(&compiled(folder, Phase::Kernels).kernels.expect("kernels").0));
    // Two of the three layers have experts: a product up and one down each.
    assert_eq!(all[0].iter().filter(|(kernel, _)| kernel.starts_with("routed")).map(|(_, n)| n).sum::<usize>(), 4);
    for (folder, found) in SPELLINGS.iter().zip(&all) {
        assert_eq!(*found, all[0], "{folder}");
    }
}

/// What saturation and covering did: a change of the rules is a difference to read.
#[test]
fn the_optimiser_reports_what_it_did() {
    for folder in ["examples/digits", "examples/deepseek_v3_tiny"] {
        let compiled = compiled(folder, Phase::Kernels);
        let (_, report) = compiled.optimised.expect("optimised");
        let mut text = format!("{}\n", report.summary());
        for region in &report.saturated {
            let health = &region.health;
            let (nodes, classes) = (health.nodes, health.classes);
            text += &format!(
                "{} nodes: {:?} after {} iterations, {nodes} e-nodes in {classes} classes, cost {:.0} -> {:.0}\n",
                region.size, health.stop, health.iterations, region.cost_before, region.cost_after
            );
        }
        text += "\nlaws\n";
        report.laws.iter().for_each(|(law, n)| text += &format!("{n:6} {law}\n"));
        text += "\nrules\n";
        report.applied.iter().for_each(|(rule, n)| text += &format!("{n:6} {rule}\n"));
        text += "\nkernels\n";
        let kernels = kernels(&compiled.kernels.expect("kernels").0);
        kernels.iter().for_each(|(kernel, n)| text += &format!("{n:6} {kernel}\n"));
        insta::assert_snapshot!(format!("optimiser_{}", folder.trim_start_matches("examples/")), text);
    }
}

#[test]
fn whatever_is_covered_can_be_lowered() {
    let options = tarsia::graph::random::Options::default();
    let mut failures = Vec::new();
    for seed in 0..400 {
        let (graph, _) = tarsia::graph::random::graph(seed, &options);
        if let Err(error) = tarsia::compile(Start::Graph(graph), Phase::Tiles, &cpu()) {
            failures.push(format!("seed {seed}: {error}"));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// Bytes of the arena when every symbol is `size`, but `batch` 1 and `past` sizes 0.
fn arena(program: &Program, size: i64) -> usize {
    let value = |name: &str| match name {
        name if name.contains("batch") => 1,
        name if name.contains("past") => 0,
        _ => size,
    };
    let bound = Plan::new(program).bind(&|symbol| Some(value(symbol.name())), usize::MAX);
    bound.expect("every size is bound").bytes()
}

/// Bytes of the weights that gathering would copy for one token.
fn gathered_bytes(graph: &Graph) -> usize {
    let routed = bodies(graph).filter(|body| matches!(classify(body), Ok((KernelKind::Routed, _))));
    let bytes = routed.map(|body| {
        let id = body.node_ids().find(|&id| matches!(body[id].op, Op::Routed { .. })).expect("the anchor");
        let operands = body.operands(id);
        let (weights, ids) = (body.ty(operands[1]), body.ty(operands[2]));
        let slots = ids.shape.last().and_then(|dim| dim.as_usize()).expect("as many experts for every token");
        let matrix: usize = weights.shape[1..].iter().map(|dim| dim.as_usize().expect("a known size")).product();
        slots * matrix * weights.dtype.bits() / 8
    });
    bytes.sum()
}

#[test]
fn memory_of_the_gathering_export_does_not_grow_with_the_weights() {
    let compiled = compiled(SPELLINGS[0], Phase::Tiles);
    let program = compiled.program.expect("a program");
    let per_token = gathered_bytes(&compiled.kernels.expect("kernels").0);
    // The attention mask grows with the square of the tokens; up to here it is smaller than the rest.
    let grown = (arena(&program, 256) - arena(&program, 128)) / 128;
    assert!(grown * 2 < per_token, "{grown} bytes for each token, of {per_token} that gathering would take");
}

/// A mixture of experts as exporters that gather write it: width, inner width, experts, 4 of them chosen.
fn gathering(width: usize, inner: usize, experts: usize) -> Graph {
    let (d, h, e) = (width, inner, experts);
    let text = format!(
        "graph @gathering(%0 \"x\": f32[t, {d}], %1 \"g\": f32[{d}, {e}], %2 \"w1\": f32[{e}, {h}, {d}], %3 \"w2\": f32[{e}, {d}, {h}]) {{
  %4 = contract(%0, %1) {{spec: \"ab,bc->ac\", dtype: f32}} : f32[t, {e}]
  %5 = softmax(%4) {{axis: 1}} : f32[t, {e}]
  %6 = top_k(%5) {{axis: 1, k: 4, largest: true}} : f32[t, 4], i64[t, 4]
  %7 = reshape(%0) {{shape: [t, 1, {d}]}} : f32[t, 1, {d}]
  %8 = broadcast(%7) {{shape: [t, 4, {d}]}} : f32[t, 4, {d}]
  %9 = reshape(%8) {{shape: [4*t, {d}, 1]}} : f32[4*t, {d}, 1]
  %10 = reshape(%6:0) {{shape: [4*t, 1]}} : f32[4*t, 1]
  %11 = reshape(%6:1) {{shape: [4*t]}} : i64[4*t]
  %12 = gather(%2, %11) {{axis: 0}} : f32[4*t, {h}, {d}]
  %13 = contract(%12, %9) {{spec: \"abc,acd->abd\", dtype: f32}} : f32[4*t, {h}, 1]
  %14 = silu(%13) : f32[4*t, {h}, 1]
  %15 = gather(%3, %11) {{axis: 0}} : f32[4*t, {d}, {h}]
  %16 = contract(%15, %14) {{spec: \"abc,acd->abd\", dtype: f32}} : f32[4*t, {d}, 1]
  %17 = reshape(%16) {{shape: [4*t, {d}]}} : f32[4*t, {d}]
  %18 = mul(%17, %10) : f32[4*t, {d}]
  %19 = reshape(%18) {{shape: [t, 4, {d}]}} : f32[t, 4, {d}]
  %20 = reduce(%19) {{function: \"reduce_sum\", axes: [1]}} : f32[t, 1, {d}]
  %21 = reshape(%20) {{shape: [t, {d}]}} : f32[t, {d}]
  return %21 as \"y\"
}}
"
    );
    text.parse().unwrap_or_else(|error| panic!("{error}\n{text}"))
}

#[test]
fn memory_of_experts_grows_with_tokens_and_not_with_tokens_times_weights() {
    for (width, inner, experts) in [(64, 96, 16), (64, 96, 64), (64, 192, 16), (512, 1024, 64)] {
        let compiled =
            tarsia::compile(Start::Graph(gathering(width, inner, experts)), Phase::Tiles, &cpu()).expect("compiles");
        let program = compiled.program.expect("a program");
        let per_token = gathered_bytes(&compiled.kernels.expect("kernels").0);
        assert_eq!(per_token, 2 * 4 * width * inner * 4);
        // What each chosen expert reads and gives, the gate's values, and as much again for values that are alive with them.
        let values = 2 * 4 * (4 * (2 * width + inner) + 2 * experts);
        let slope = (arena(&program, 4096) - arena(&program, 2048)) / 2048;
        assert!(slope <= values, "{slope} bytes for each token, more than {values}");
        assert!(slope * 8 < per_token, "{slope} bytes for each token, of {per_token} that gathering would take");
    }
}

#[test]
fn experts_that_are_not_gathered_give_what_gathering_gives() {
    let graph = gathering(32, 48, 16);
    let tokens = 77;
    let mut state = 1u32;
    let mut random = |shape: &[usize]| {
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 23) as f32 - 1.0
        };
        let values: Vec<f32> = (0..shape.iter().product()).map(|_| next()).collect();
        Tensor::from_slice(shape, &values).expect("as many values as the shape has")
    };
    let inputs: Vec<Tensor> = graph
        .inputs()
        .iter()
        .map(|(_, id)| {
            let shape: Vec<usize> =
                graph.ty(Value::from(*id)).shape.iter().map(|dim| dim.as_usize().unwrap_or(tokens)).collect();
            random(&shape)
        })
        .collect();
    let expected = eval::run(&graph, &inputs).expect("the reference evaluates it");
    let program =
        tarsia::compile(Start::Graph(graph), Phase::Tiles, &cpu()).expect("compiles").program.expect("a program");
    let session = Session::new(program, &SessionOptions::default()).expect("a session");
    let found = session.run(&inputs).expect("it runs");
    let (expected, found) = (expected[0].as_slice::<f32>().expect("f32"), found[0].as_slice::<f32>().expect("f32"));
    for (e, f) in expected.iter().zip(found.iter()) {
        assert!((e - f).abs() <= 1e-3 * (1.0 + e.abs()), "{e} became {f}");
    }
}
