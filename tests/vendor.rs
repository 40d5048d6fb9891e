//! Our schedules beside those of the vendor's open compiler, on one simulator: the same computations, sizes and machine.

use std::{collections::BTreeMap, path::Path};

use tarsia::{Phase, compile, load, sim};

/// The computations in `tests/vendor`: `NAME.graph` is ours, `NAME.opt.mlir` the vendor's schedule.
const NAMES: [&str; 7] =
    ["v1_matmul", "v2_matmul_bias_gelu", "v3_softmax", "v4_layernorm", "v5_elementwise", "v6_reduce", "v7_transpose"];

/// Time of all kernels in microseconds, without and with the time of starting them.
fn time(name: &str, target: &str) -> Result<[f64; 2], String> {
    let machine = tarsia::machine(target).map_err(|e| e.to_string())?;
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vendor").join(name);
    let start = load(&path, Default::default(), &machine).map_err(|e| e.to_string())?;
    let compiled = compile(start, Phase::Tiles, &machine).map_err(|e| e.to_string())?;
    let program = compiled.program.ok_or("nothing was compiled")?;
    let options = sim::Options { bottlenecks: true, ..sim::Options::default() };
    let report = sim::simulate(&program, &machine, &BTreeMap::new(), &options).map_err(|e| e.to_string())?;
    if std::env::var("TARSIA_SHOW").is_ok() {
        for kernel in &report.kernels {
            println!("{name}: {kernel:#?}");
        }
    }
    let per_cycle = report.microseconds / report.cycles;
    Ok([(report.cycles - report.launch_cycles) * per_cycle, report.microseconds])
}

#[test]
fn ours_beside_the_vendors() {
    let target = "ascend910b2";
    let mut table = format!("{:<22} {:>10} {:>10} {:>7}\n", "kernel", "vendor us", "ours us", "ratio");
    let (mut product, mut count) = (1.0, 0);
    for name in NAMES {
        let vendor = time(&format!("{name}.opt.mlir"), target);
        let ours = time(&format!("{name}.graph"), target);
        match (vendor, ours) {
            (Ok(vendor), Ok(ours)) => {
                let ratio = vendor[0] / ours[0];
                table += &format!("{name:<22} {:>10.2} {:>10.2} {ratio:>7.2}\n", vendor[0], ours[0]);
                product *= ratio;
                count += 1;
            }
            (vendor, ours) => table += &format!("{name:<22} {vendor:?} {ours:?}\n"),
        }
    }
    let mean = f64::powf(product, 1.0 / f64::from(count.max(1)));
    println!("{table}{:<22} {:>10} {:>10} {mean:>7.2}", "geometric mean", "", "");
}
