//! Random graphs mean the same before and after rewriting.

use tarsia_graph::{eval, random};
use tarsia_passes::{Options, emit::Folding, optimise, simplify::simplify};
use tarsia_tensor::Tensor;

/// Every implementation's rounding stays within this on these graphs.
const TOLERANCE: f64 = 0.05;

fn agree(a: &Tensor, b: &Tensor) -> bool {
    let (Ok(x), Ok(y)) = (a.numbers(), b.numbers()) else { return a == b };
    let close = |(x, y): (f64, f64)| x == y || x.is_nan() && y.is_nan() || (x - y).abs() <= TOLERANCE;
    (a.dtype(), a.shape()) == (b.dtype(), b.shape()) && x.to_f64().into_iter().zip(y.to_f64()).all(close)
}

#[test]
fn random_graphs_keep_their_meaning() {
    for seed in 0..300 {
        let (graph, inputs) = random::graph(seed, &random::Options::default());
        let expected = eval::run(&graph, &inputs).expect("random graphs are valid");
        let simple = simplify(&graph, Folding::all(1 << 20)).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        let (optimised, _) =
            optimise(&graph, &Options::default()).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        for (stage, graph) in [("simplify", &simple), ("optimise", &optimised)] {
            let found = eval::run(graph, &inputs).unwrap_or_else(|error| panic!("seed {seed}, {stage}: {error}"));
            for (number, (a, b)) in expected.iter().zip(&found).enumerate() {
                assert!(agree(a, b), "seed {seed}, {stage}, output {number}: {a:?} became {b:?}");
            }
        }
    }
}
