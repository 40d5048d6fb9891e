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

#[test]
fn the_vendors_kernels() {
    for (name, source) in MODULES {
        let imported = import(source, &machine(), &Options::default()).unwrap_or_else(|e| panic!("{name}: {e}"));
        let mut text = Vec::new();
        text::write(&imported.program, &mut text).expect("writing to memory");
        let text = String::from_utf8(text).expect("text");
        assert_eq!(text.parse::<Program>().expect("the text form"), imported.program, "{name}");
        if std::env::var("SHOW").is_ok() {
            println!("{text}\n{:?}", imported.notes);
        }
    }
}
