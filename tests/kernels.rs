//! The kernels of every test model: how many of which kind, and what is inside.

#[path = "support/mod.rs"]
mod support;

use std::{collections::BTreeMap, fmt::Write, path::Path, time::Instant};

use tarsia_onnx::{Limits, Model};
use tarsia_passes::{
    Settings, compile,
    cover::{self, Rates, cover},
};

#[test]
fn scratch() {
    let Ok(folder) = std::env::var("SCRATCH") else { return };
    let model = Model::open(Path::new(&folder), Limits::default()).unwrap();
    let graph = match tarsia_onnx::import(&model, &tarsia_onnx::Options::default()) {
        Ok(graph) => graph,
        Err(error) => {
            println!("IMPORT {error}");
            return;
        }
    };
    println!("nodes {}", graph.node_count());
    let start = Instant::now();
    let simple = tarsia_passes::simplify::simplify(&graph, 1 << 28).unwrap();
    println!("simplify {:?}: {} nodes", start.elapsed(), simple.node_count());
    let start = Instant::now();
    let (_, plain) = cover(&simple, &Rates::default(), &cover::Options::default()).unwrap();
    println!(
        "cover {:?}: {} kernels, {} uncovered, {:.3} ms",
        start.elapsed(),
        plain.kernels.len(),
        plain.uncovered.len(),
        plain.time * 1e3
    );
    let start = Instant::now();
    let (opt, _) = tarsia_passes::optimise(&graph, &tarsia_passes::Options::default()).unwrap();
    println!("greedy optimise {:?}: {} nodes", start.elapsed(), opt.node_count());
    let start = Instant::now();
    let (_, best) = cover(&opt, &Rates::default(), &cover::Options::default()).unwrap();
    println!(
        "cover {:?}: {} kernels, {} uncovered, {:.3} ms",
        start.elapsed(),
        best.kernels.len(),
        best.uncovered.len(),
        best.time * 1e3
    );
    if std::env::var("DUMP").is_ok() {
        for id in opt.node_ids() {
            println!(
                "{} = {} {:?} {:?} -> {}",
                id.index(),
                opt[id].op.name(),
                opt.operands(id).iter().map(|v| v.node.index()).collect::<Vec<_>>(),
                opt[id]
                    .op
                    .attrs()
                    .iter()
                    .filter(|a| a.0 != "value")
                    .map(|(n, a)| format!("{n}={a:?}"))
                    .collect::<Vec<_>>(),
                opt[id].types[0]
            );
        }
    }
    let start = Instant::now();
    let (kernels, report, decisions) = compile(&graph, &Rates::default(), &Settings::default()).unwrap();
    println!(
        "compile {:?}: {} kernels, {} uncovered, {:.3} ms; regions {} reused {}",
        start.elapsed(),
        decisions.kernels.len(),
        decisions.uncovered.len(),
        decisions.time * 1e3,
        report.regions,
        report.reused
    );
    for region in &report.saturated {
        println!(
            "  region {} -> {} enodes {} classes {:?} {} iterations",
            region.size, region.health.nodes, region.health.classes, region.health.stop, region.health.iterations
        );
    }
    let _ = kernels;
    if std::env::var("LIST").is_ok() {
        for kernel in &decisions.kernels {
            println!(
                "{}: {}   [{} operands, {:.1} us]",
                kernel.kind,
                kernel.chosen.ops.join(" "),
                kernel.chosen.operands,
                kernel.chosen.time * 1e6
            );
        }
        if std::env::var("WHY").is_ok() {
            for kernel in &decisions.kernels {
                println!("{}: {}", kernel.kind, kernel.chosen.ops.join(" "));
                for lost in &kernel.lost {
                    println!("    lost {} {} by {:.2} us", lost.kind, lost.ops.join(" "), lost.difference * 1e6);
                }
                for refused in &kernel.refused {
                    println!("    refused {}: {}", refused.ops.join(" "), refused.reason);
                }
            }
        }
        for node in &decisions.uncovered {
            println!("UNCOVERED {} {}", node.op, node.reason);
        }
    }
}
