//! Equal layers are saturated once, and that changes nothing but the time it takes.

use tarsia_graph::{Graph, Op, Origin, Type, Value, text};
use tarsia_passes::{
    Options, Report,
    cover::{ByKernels, Options as CoverOptions, Rates, cover},
    emit::{Emitter, Folding},
    optimise,
    simplify::inline,
};
use tarsia_tensor::{DType, Dim};

/// A model of equal layers, each a mixture of experts with its own weights and a residual sum.
fn layers(count: usize) -> Graph {
    let layer = text::parse(include_str!("experts/gathered.graph")).expect("a graph");
    let mut inputs = Graph::new("layers");
    inputs.add_input("x", Type::new(DType::F32, [Dim::symbol("t"), Dim::from(4usize)]));
    for number in 0..count {
        for (name, id) in &layer.inputs()[1..] {
            inputs.add_input(&format!("{name}.{number}"), layer.ty(Value::from(*id)).clone());
        }
    }
    let (mut emitter, inputs) = Emitter::new(&inputs, Folding::all(0));
    let (mut x, mut weights) = (inputs[0], inputs[1..].iter());
    for number in 0..count {
        let operands: Vec<Value> =
            std::iter::once(x).chain(weights.by_ref().take(layer.inputs().len() - 1).copied()).collect();
        let origin = Origin::of(&format!("layer {number}"));
        let y = inline(&mut emitter, &layer, &operands).expect("the layer fits")[0];
        x = emitter.emit(Op::Binary(tarsia_graph::BinaryFn::Add), &[x, y], &origin).expect("a sum");
    }
    emitter.graph.add_output("y", x);
    emitter.graph
}

fn kernels(graph: &Graph, reuse: bool) -> (Graph, Graph, Report) {
    let (model, cover_options) = (Rates::default(), CoverOptions::default());
    let extract = ByKernels { model: &model, options: &cover_options };
    let options = Options { extract: &extract, reuse, ..Options::default() };
    let (optimised, report) = optimise(graph, &options).expect("it optimises");
    let (covered, _) = cover(&optimised, &model, &cover_options).expect("it is covered");
    (optimised, covered, report)
}

#[test]
fn extraction_with_reuse_is_extraction_without() {
    let graph = layers(12);
    let (optimised, covered, report) = kernels(&graph, true);
    let (optimised_each, covered_each, report_each) = kernels(&graph, false);
    assert_eq!(optimised.to_string(), optimised_each.to_string());
    assert_eq!(covered.to_string(), covered_each.to_string());
    assert_eq!(report_each.reused, 0);
    assert_eq!(report_each.saturated.len(), report_each.regions);
    assert_eq!(report.regions, report_each.regions);
    assert_eq!(report.reused + report.saturated.len(), report.regions);
}

#[test]
fn more_layers_are_not_more_saturation() {
    let (_, covered, few) = kernels(&layers(12), true);
    let (_, covered_more, many) = kernels(&layers(24), true);
    assert!(few.reused >= 8, "{}", few.summary());
    assert_eq!(many.saturated.len(), few.saturated.len());
    // Twelve more layers are twelve times the kernels of one.
    let count = |graph: &Graph| graph.node_ids().filter(|&id| matches!(graph[id].op, Op::Kernel { .. })).count();
    assert_eq!(count(&covered_more) - count(&covered), count(&covered), "every layer has the same kernels");
}
