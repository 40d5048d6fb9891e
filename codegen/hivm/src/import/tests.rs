//! Modules that the vendor's compiler has written, and broken ones.

use tarsia_tile::{Machine, text};

use super::*;

/// Scheduled kernels of the vendor's open compiler.
const MODULES: [(&str, &str); 7] = [
    ("v1_matmul", include_str!("../../../../tests/vendor/v1_matmul.opt.mlir")),
    ("v2_matmul_bias_gelu", include_str!("../../../../tests/vendor/v2_matmul_bias_gelu.opt.mlir")),
    ("v3_softmax", include_str!("../../../../tests/vendor/v3_softmax.opt.mlir")),
    ("v4_layernorm", include_str!("../../../../tests/vendor/v4_layernorm.opt.mlir")),
    ("v5_elementwise", include_str!("../../../../tests/vendor/v5_elementwise.opt.mlir")),
    ("v6_reduce", include_str!("../../../../tests/vendor/v6_reduce.opt.mlir")),
    ("v7_transpose", include_str!("../../../../tests/vendor/v7_transpose.opt.mlir")),
];

fn machine() -> Machine {
    Machine::builtin("ascend910b2").expect("a built-in machine")
}

fn read(source: &str) -> Result<Imported, ImportError> {
    import(source, &machine(), &Options::default())
}

fn listing(program: &Program) -> String {
    let mut text = Vec::new();
    text::write(program, &mut text).expect("writing to memory");
    String::from_utf8(text).expect("text")
}

#[test]
fn the_vendors_kernels_are_programs() {
    for (name, source) in MODULES {
        let imported = read(source).unwrap_or_else(|e| panic!("{name}: {e}"));
        let text = listing(&imported.program);
        assert_eq!(text.parse::<Program>().expect("the text form"), imported.program, "{name}");
        let joined = imported.program.kernels.iter().filter(|kernel| kernel.lanes.is_some()).count();
        assert_eq!(joined, imported.notes.len(), "{name}: the vendor's joined kernels have no flags between the cores");
    }
}

/// A kernel of the vector cores, statement by statement: addresses, flags, templates.
#[test]
fn softmax_in_full() {
    insta::assert_snapshot!(listing(&read(MODULES[2].1).expect("readable").program));
}

/// The whole-matrix template as loops over tiles, then the vector cores' part.
#[test]
fn product_in_full() {
    insta::assert_snapshot!(listing(&read(MODULES[0].1).expect("readable").program));
}

#[test]
fn everything_unknown_is_told_at_once() {
    let source = MODULES[2].1.replace("@vexp_1d_float(", "@vsinh_1d_float(").replace("scf.for", "scf.forall");
    let error = read(&source).expect_err("an unknown loop").to_string();
    insta::assert_snapshot!(error);
    let source = MODULES[2]
        .1
        .replace("@vexp_1d_float(", "@vsinh_1d_float(")
        .replacen("hivm.hir.pipe_barrier[<PIPE_V>]", "hivm.hir.pipe_barrier[<PIPE_X>]", 1)
        .replacen("memref.view", "memref.turn", 1);
    insta::assert_snapshot!(read(&source).expect_err("unknown operations").to_string());
}

#[test]
fn other_machines_are_refused() {
    let cpu = Machine::builtin("cpu").expect("a built-in machine");
    let error = import(MODULES[5].1, &cpu, &Options::default()).expect_err("no such pipes").to_string();
    assert!(error.contains("cpu has no events from `aiv_mte2` to `aiv_v`"), "{error}");
    assert!(read("module {\n}\n").expect_err("no kernel").to_string().contains("there is no kernel"));
}

#[test]
fn modules_are_recognised() {
    assert!(MODULES.iter().all(|(_, source)| is_module(source)));
    assert!(is_module("// a comment\nmodule attributes {}"));
    assert!(!is_module("program x for y {\n"));
    assert!(!is_module("\u{8}\u{7}onnx module {"));
}

#[test]
fn expressions_do_not_explode() {
    let head = "module {\n  func.func @f(%x: memref<4xf32, #hivm.address_space<gm>>) attributes {hacc.entry} {\n    %b = hivm.hir.get_block_idx -> i64\n    %v0 = arith.addi %b, %b : i64\n";
    let square = |i: usize| format!("    %v{} = arith.muli %v{i}, %v{i} : i64\n", i + 1);
    let products = (0..60).map(square).collect::<String>();
    let choice = |i: usize| format!("    %v{} = arith.select %b, %v{i}, %v{i} : i64\n", i + 1);
    let choices = (0..60).map(choice).collect::<String>();
    for body in [products, choices] {
        let error = read(&format!("{head}{body}    return\n  }}\n}}\n")).expect_err("too large").to_string();
        assert!(error.contains("too large"), "{error}");
    }
    assert!(read(&"module {\n".repeat(100_000)).is_err());
}

/// Cut off anywhere or with characters replaced, a module gives an error or another program, never a panic.
#[test]
fn broken_modules_are_errors() {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut random = move |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % below as u64) as usize
    };
    const CHARACTERS: &[u8] = b"%<>[](){},:#@=-x?0917 \n\"ac";
    for (_, source) in [MODULES[0], MODULES[3], MODULES[6]] {
        for _ in 0..60 {
            assert!(read(&source[..random(source.len() - 3)]).is_err());
        }
        for _ in 0..60 {
            let mut bytes = source.as_bytes().to_vec();
            for _ in 0..1 + random(4) {
                let at = random(bytes.len());
                bytes[at] = CHARACTERS[random(CHARACTERS.len())];
            }
            let _ = read(std::str::from_utf8(&bytes).expect("ASCII"));
        }
    }
}
