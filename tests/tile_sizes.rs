//! Tiles of a size that a user asks for: a legal one is used and results stay right; for any other the error names the kernel, the
//! tensor, the memory and its bytes, and the largest size that is legal.

use std::{collections::BTreeSet, path::Path, process::Command};

use tarsia::{Error, Limits, Machine, Options, Phase, SessionOptions, TileSize};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

fn tiles(sizes: &[&str]) -> Options {
    let tiles = sizes.iter().map(|size| size.parse::<TileSize>().expect("a size")).collect();
    Options { tiles, ..Options::default() }
}

/// Compiles one of the examples.
fn compile(model: &str, target: &str, size: &str) -> Result<tarsia::tile::Program, Error> {
    let machine = Machine::builtin(target).expect("a built-in machine");
    let model = Path::new(ROOT).join("examples").join(model);
    let start = tarsia::load(&model, Limits::default(), &machine).expect("it loads");
    let compiled = tarsia::compile_with(start, Phase::Tiles, &machine, tiles(&[size]))?;
    Ok(compiled.program.expect("a program"))
}

fn shapes(program: &tarsia::tile::Program, kernel: &str) -> BTreeSet<Vec<usize>> {
    let kernel = program.kernels.iter().find(|known| known.name == kernel).expect("the kernel");
    kernel.tiles.iter().map(|tile| tile.shape.clone()).collect()
}

#[test]
fn legal_sizes_are_used() {
    let digits = "digits/digits.onnx";
    for (target, kernel, size, tile) in [
        ("ascend910b2", "contract15", "8x10x32", vec![8, 10]),
        ("ascend910b2", "conv11", "16x16x16", vec![9 * 16, 16]),
        ("ascend910b2", "map1", "256", vec![256]),
        ("twopipe", "contract15", "8x10x32", vec![8, 10]),
        ("cpu", "contract15", "8x10x32", vec![8, 10]),
    ] {
        let program = compile(digits, target, &format!("{kernel}={size}")).expect("it compiles");
        let found = shapes(&program, kernel);
        assert!(found.contains(&tile), "{target}: {kernel} of {size} has {found:?}");
    }
}

#[test]
fn results_stay_right() {
    let examples = [
        ("digits", ["conv=16x24x9", "contract=3x7x40", "map=100", "rows=33", "window=50"].as_slice()),
        ("deepseek_v3_tiny", ["contract=16x48x32", "attention=16x48", "rows=100", "map=99", "index=64"].as_slice()),
    ];
    for target in ["ascend910b2", "twopipe", "cpu"] {
        let machine = Machine::builtin(target).expect("a built-in machine");
        for (example, sizes) in examples {
            let folder = Path::new(ROOT).join("examples").join(example);
            let (limits, session) = (Limits::default(), SessionOptions::default());
            let reports = tarsia::compare_folder(&folder, limits, &machine, tiles(sizes), &session);
            let reports = reports.unwrap_or_else(|error| panic!("{target}: {example}: {error}"));
            assert!(!reports.is_empty() && reports.iter().all(tarsia::SetReport::passes), "{target}: {example}");
        }
    }
}

/// The size that an error says is the largest.
fn largest(error: &str) -> Vec<usize> {
    let (_, rest) = error.split_once("the largest within it that does is ").expect("it names the largest");
    let size: String = rest.chars().take_while(|c| c.is_ascii_digit() || *c == 'x').collect();
    size.split('x').map(|side| side.parse().expect("a number")).collect()
}

#[test]
fn the_largest_size_is_the_largest() {
    let digits = "digits/digits.onnx";
    let deepseek = "deepseek_v3_tiny/model.onnx";
    for (model, target, kernel, asked, granule) in [
        (digits, "ascend910b2", "contract15", vec![4096, 4096, 4096], vec![16, 16, 8]),
        (digits, "twopipe", "contract15", vec![4096, 10, 512], vec![8, 8, 8]),
        (digits, "ascend910b2", "map1", vec![1 << 20], vec![1]),
        (digits, "cpu", "contract15", vec![1 << 20, 10, 512], vec![16, 16, 16]),
        (deepseek, "twopipe", "attention143", vec![256, 512], vec![8, 8]),
    ] {
        let attempt = |sides: &[usize]| {
            let text: Vec<String> = sides.iter().map(usize::to_string).collect();
            compile(model, target, &format!("{kernel}={}", text.join("x")))
        };
        let error = attempt(&asked).expect_err("it is too large");
        assert!(!error.is_internal(), "{target}: it is the user's: {error}");
        let most = largest(&error.to_string());
        attempt(&most).unwrap_or_else(|error| panic!("{target}: {kernel} of {most:?}: {error}"));
        assert!(most.iter().zip(&asked).any(|(most, asked)| most < asked));
        for side in 0..most.len() {
            let mut longer = most.clone();
            longer[side] += granule[side];
            let legal = longer[side] <= asked[side] && attempt(&longer).is_ok();
            assert!(!legal, "{target}: {kernel} of {longer:?} is legal, more than {most:?}");
        }
    }
}

#[test]
fn what_is_told() {
    let mut text = String::from("What is told of tiles that do not fit, or are asked of kernels that are not there.\n");
    for (model, target, sizes) in [
        ("digits", "ascend910b2", ["contract15=4096x4096x4096"].as_slice()),
        ("digits", "twopipe", &["conv7=64x256x288"]),
        ("digits", "ascend910b2", &["map1=100000", "rows16=100000"]),
        ("digits", "ascend910b2", &["window=100000"]),
        ("digits", "ascend910b2", &["contract99=16x16", "attention=16x16"]),
        ("digits", "ascend910b2", &["contract=16", "map=16x16"]),
        ("digits", "ascend910b2", &["contract15=16x0x16"]),
        ("digits", "ascend910b2", &["contract15"]),
        ("digits", "twopipe", &["contract15=512x10x512"]),
        ("digits", "cpu", &["contract15=1048576x10x512"]),
        ("deepseek_v3_tiny", "ascend910b2", &["attention45=1000x64"]),
        ("deepseek_v3_tiny", "twopipe", &["attention143=64x512"]),
        ("deepseek_v3_tiny", "ascend910b2", &["routed111=16x16"]),
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tarsia"));
        command.args(["compile", &format!("examples/{model}"), "--emit", "tiles", "--target", target]);
        sizes.iter().for_each(|size| _ = command.args(["--tile", size]));
        let output = command.current_dir(ROOT).env("NO_COLOR", "1").output().expect("the command starts");
        assert_eq!(output.status.code(), Some(2), "{sizes:?}");
        text += &format!("\n{model} on {target}: {}\n", sizes.join(", "));
        text += &String::from_utf8_lossy(&output.stderr);
    }
    insta::assert_snapshot!(text);
}
