//! Five ways to write one mixture-of-experts layer become the same routed contractions.

use std::collections::BTreeMap;

use tarsia_graph::{Graph, Op, eval, text};
use tarsia_passes::{Options, optimise};
use tarsia_tensor::{Tensor, rng::Stream};

const FORMS: [(&str, &str); 5] = [
    ("gathered", include_str!("experts/gathered.graph")),
    ("dense", include_str!("experts/dense.graph")),
    ("unrolled", include_str!("experts/unrolled.graph")),
    ("nonzero", include_str!("experts/nonzero.graph")),
    ("sorted", include_str!("experts/sorted.graph")),
];

fn random(stream: &mut Stream, shape: &[usize]) -> Tensor {
    let count: usize = shape.iter().product();
    let values: Vec<f32> = (0..count).map(|_| (stream.below(2001) as f32 - 1000.0) / 700.0).collect();
    Tensor::from_slice(shape, &values).expect("as many values as the shape has")
}

fn histogram(graph: &Graph) -> BTreeMap<&'static str, usize> {
    let mut counts = BTreeMap::new();
    for id in graph.node_ids() {
        if !matches!(graph[id].op, Op::Input { .. } | Op::Constant { .. }) {
            *counts.entry(graph[id].op.name()).or_default() += 1;
        }
    }
    counts
}

fn optimised(name: &str, form: &str) -> (Graph, Graph) {
    let graph = text::parse(form).unwrap_or_else(|error| panic!("{name}: {error}"));
    let (optimised, _) = optimise(&graph, &Options::default()).unwrap_or_else(|error| panic!("{name}: {error}"));
    (graph, optimised)
}

#[test]
fn all_forms_give_what_they_gave() {
    let mut stream = Stream::new(7);
    for tokens in [1, 5, 17] {
        let inputs = [&[tokens, 4][..], &[4, 3], &[3, 6, 4], &[3, 4, 3]].map(|shape| random(&mut stream, shape));
        for (name, form) in FORMS {
            let (graph, optimised) = optimised(name, form);
            let expected = eval::run(&graph, &inputs).unwrap_or_else(|error| panic!("{name}: {error}"));
            let found = eval::run(&optimised, &inputs).unwrap_or_else(|error| panic!("{name}: {error}\n{optimised}"));
            let pairs = expected[0].as_slice::<f32>().expect("f32").to_vec();
            for (a, b) in pairs.iter().zip(found[0].as_slice::<f32>().expect("f32").iter()) {
                assert!((a - b).abs() < 1e-4, "{name}: {a} became {b}\n{optimised}");
            }
        }
    }
}

#[test]
fn all_forms_become_one() {
    let (_, first) = optimised(FORMS[0].0, FORMS[0].1);
    let expected = histogram(&first);
    assert_eq!(expected.get("routed"), Some(&2), "{first}");
    for (name, form) in FORMS {
        let (_, graph) = optimised(name, form);
        assert_eq!(histogram(&graph), expected, "{name}\n{graph}\n{first}");
    }
}
