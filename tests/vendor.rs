//! Our schedules beside those of the vendor's open compiler, on one simulator: the same computations, sizes and machine.

use std::{collections::BTreeMap, path::Path};

use tarsia::{DType, Phase, Session, Tensor, Tolerance, compile, difference, load, sim, tile::Program};

/// The computations in `tests/vendor`: `NAME.graph` is ours, `NAME.opt.mlir` the vendor's schedule.
const NAMES: [&str; 7] =
    ["v1_matmul", "v2_matmul_bias_gelu", "v3_softmax", "v4_layernorm", "v5_elementwise", "v6_reduce", "v7_transpose"];

fn program(name: &str, machine: &tarsia::Machine) -> Result<Program, String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vendor").join(name);
    let start = load(&path, Default::default(), machine).map_err(|e| e.to_string())?;
    let compiled = compile(start, Phase::Tiles, machine).map_err(|e| e.to_string())?;
    compiled.program.ok_or_else(|| "nothing was compiled".into())
}

/// Time of all kernels in microseconds, without and with the time of starting them.
fn time(name: &str, target: &str) -> Result<[f64; 2], String> {
    let machine = tarsia::machine(target).map_err(|e| e.to_string())?;
    let program = program(name, &machine)?;
    let options = sim::Options { bottlenecks: false, ..sim::Options::default() };
    let report = sim::simulate(&program, &machine, &BTreeMap::new(), &options).map_err(|e| e.to_string())?;
    let per_cycle = report.microseconds / report.cycles;
    Ok([(report.cycles - report.launch_cycles) * per_cycle, report.microseconds])
}

/// On the same machine and clock, each side with all cores and one launch: ours take two thirds of the time, or less.
#[test]
fn ours_beside_the_vendors() {
    let target = "ascend910b2";
    let mut table = format!("{:<22} {:>10} {:>10} {:>7}\n", "kernel", "vendor us", "ours us", "ratio");
    let mut product = 1.0;
    for name in NAMES {
        let side = |end: &str| time(&format!("{name}.{end}"), target).unwrap_or_else(|e| panic!("{name}.{end}: {e}"));
        let (vendor, ours) = (side("opt.mlir"), side("graph"));
        let ratio = vendor[0] / ours[0];
        table += &format!("{name:<22} {:>10.2} {:>10.2} {ratio:>7.2}\n", vendor[0], ours[0]);
        product *= ratio;
    }
    let mean = f64::powf(product, 1.0 / NAMES.len() as f64);
    println!("{table}{:<22} {:>10} {:>10} {mean:>7.2}", "geometric mean", "", "");
    assert!(mean >= 1.5, "the geometric mean is {mean:.2}:\n{table}");
}

/// Numbers between -2 and 2, the same every time.
fn numbers(dtype: DType, shape: &[usize]) -> Tensor {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let values = std::iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1u64 << 22) as f32 - 2.0
    });
    let values: Vec<f32> = values.take(shape.iter().product()).collect();
    match dtype {
        DType::F16 => {
            let values: Vec<half::f16> = values.into_iter().map(half::f16::from_f32).collect();
            Tensor::from_slice(shape, &values).expect("as many as the shape has")
        }
        _ => Tensor::from_slice(shape, &values).expect("as many as the shape has"),
    }
}

/// What is read from the vendor's vector kernels computes what the same graph gives on this computer. (Kernels of two parts are
/// left out: the text has no flags between them.)
#[test]
fn the_vendors_kernels_compute_the_same() {
    let (cpu, machine) = (tarsia::machine("cpu").expect("built-in"), tarsia::machine("ascend910b2").expect("built-in"));
    for name in &NAMES[2..] {
        let ours = program(&format!("{name}.graph"), &cpu).expect("compiles");
        let theirs = program(&format!("{name}.opt.mlir"), &machine).expect("is read");
        let inputs: Vec<Tensor> = (ours.inputs.iter())
            .map(|port| {
                let shape: Vec<usize> = port.shape.iter().map(|dim| dim.as_usize().expect("fixed")).collect();
                numbers(ours.buffers[port.buffer.0 as usize].dtype, &shape)
            })
            .collect();
        let run = |program: Program| {
            let session = Session::new(program, &Default::default()).expect("a session");
            session.run(&inputs).expect("runs").remove(0)
        };
        let mine = program(&format!("{name}.graph"), &machine).expect("compiles");
        let expected = run(ours);
        for (side, program) in [("theirs", theirs), ("ours", mine)] {
            let tolerance = Tolerance { rtol: 1e-4, atol: 1e-5, ..Tolerance::default() };
            let reason = difference(name, &expected, &run(program), tolerance).reason;
            assert!(reason.is_empty(), "{name}, {side}: {reason}");
        }
    }
}
