//! What the verifier accepts and what it refuses.

use proptest::prelude::*;

use super::*;
use crate::text::{
    parse,
    samples::{LANES, MATMUL, STEPS, TWOPIPE, program},
    tests::with_data,
};

fn machine(name: &str) -> Machine {
    Machine::builtin(name).unwrap()
}

/// The faults of a sample in which one text is replaced everywhere.
fn faults(sample: &str, target: &str, stage: Stage, changes: &[(&str, &str)]) -> String {
    let mut text = with_data(sample);
    for (from, to) in changes {
        assert!(text.contains(from), "{from}");
        text = text.replace(from, to);
    }
    let program = parse(&text).unwrap_or_else(|error| panic!("{error}"));
    match verify(&program, &machine(target), stage) {
        Ok(_) => panic!("{changes:?} is accepted"),
        Err(faults) => faults.to_string(),
    }
}

#[test]
fn samples_keep_the_rules() {
    for (text, target, stage) in [
        (MATMUL, "cpu", Stage::Routed),
        (STEPS, "twopipe", Stage::Tiled),
        (TWOPIPE, "twopipe", Stage::Synchronised),
        (LANES, "ascend910b2", Stage::Synchronised),
    ] {
        let program = parse(&with_data(text)).unwrap();
        let checks = verify(&program, &machine(target), stage).unwrap_or_else(|faults| panic!("{faults}"));
        assert_eq!(checks, [], "bounds of {} are proven", program.name);
        assert_eq!(bind_checks(&program).unwrap(), []);
    }
}

/// Every rule of a kernel, broken once.
#[test]
fn broken_kernels() {
    let two = |changes: &[(&str, &str)]| faults(TWOPIPE, "twopipe", Stage::Synchronised, changes);
    let cpu = |changes: &[(&str, &str)]| faults(MATMUL, "cpu", Stage::Routed, changes);
    let broken = [
        (
            "race: no event between load and product",
            two(&[("wait_event from=move to=compute", "wait_event from=compute to=move")]),
        ),
        (
            "race: buffer overwritten while it is read",
            two(&[("if k - 16 > 0", "if k - 999 > 0"), ("if -k + 32 > 0", "if -k - 999 > 0")]),
        ),
        (
            "race: slots that are one",
            two(&[("%a#(mod(floordiv(k, 16), 2))", "%a"), ("%b#(mod(floordiv(k, 16), 2))", "%b")]),
        ),
        ("doubly set and never waited for", two(&[("if k - 16 > 0", "if k - 999 > 0")])),
        ("unmatched wait", two(&[("if -k + 32 > 0", "if -k > 0")])),
        ("event out of range", two(&[("event=(2)", "event=(4)")])),
        ("unknown pipe", two(&[("from=compute to=move event=(2)", "from=vector to=move event=(2)")])),
        ("overlap", two(&[("slots 2 at 2048", "slots 2 at 1024")])),
        ("misaligned", two(&[("l0b slots 2 at 0", "l0b slots 2 at 64")])),
        ("beyond the space", two(&[("slots 2 at 2048", "slots 2 at 31744")])),
        ("no address", two(&[("in ub at 0", "in ub")])),
        ("capacity", two(&[("tile o: f32[16, 16] row_major in ub at 0", "tile o: f32[65, 64] row_major in ub at 0")])),
        ("wrong space", two(&[("tile o: f32[16, 16] row_major in ub", "tile o: f32[16, 16] row_major in l1")])),
        ("unknown space", two(&[("row_major in ub", "row_major in ubb")])),
        ("wrong layout", two(&[("nZ(8x8) in l0b", "zN(8x8) in l0b")])),
        ("bad type", two(&[("tile c: f32", "tile c: f16")])),
        ("view out of bounds", two(&[("16*i + $0, k + $1", "16*i + $0, k + 1 + $1")])),
        ("flat view out of bounds", two(&[("16*k + 16*$0 + $1", "16*k + 17*$0 + $1")])),
        (
            "tile out of bounds",
            two(&[(
                "%ws#(mod(floordiv(k, 16), 2))[0 +: 16, 0 +: 16]",
                "%ws#(mod(floordiv(k, 16), 2))[8 +: 16, 0 +: 16]",
            )]),
        ),
        ("slot out of range", two(&[("%a#(mod(floordiv(k, 16), 2))", "%a#(floordiv(k, 16))")])),
        ("not at a block", cpu(&[("%a[0 +: min(48, -48*i + m), 0 +: 32]", "%a[1 +: min(47, -48*i + m), 0 +: 32]")])),
        (
            "read before written",
            cpu(&[("copy rows=1 %b[0 +: 40] <- @bias{40 -> $0}", "neg %b[0 +: 40] <- %b[0 +: 40]")]),
        ),
        ("unknown variable", cpu(&[("48*i + $0, k + $1", "48*i + $0, q + $1")])),
        (
            "written against its declaration",
            cpu(&[("param y: f32[m, 40] row_major write", "param y: f32[m, 40] row_major read")]),
        ),
        ("shapes that do not fit", cpu(&[("%acc[r +: 1, 0 +: 40], 0.0", "%acc[r +: 1, 0 +: 39], 0.0")])),
        ("loop that does not end", cpu(&[("step 32", "step 0")])),
        ("one name twice", cpu(&[("for r in", "for i in")])),
    ];
    let text: String = broken.iter().map(|(name, faults)| format!("## {name}\n{faults}\n")).collect();
    insta::assert_snapshot!(text);
}

/// Rules of kernels that several kinds of core share.
#[test]
fn broken_lanes() {
    let lanes = |changes: &[(&str, &str)]| faults(LANES, "ascend910b2", Stage::Synchronised, changes);
    let broken = [
        ("a lane takes rows of the other", lanes(&[("3072*t + 64*s + $0", "3072*t + 63*s + $0")])),
        ("both lanes write the same rows", lanes(&[("+ 64*s + $0", "+ $0")])),
        ("items meet", lanes(&[("128*core + 3072*t + 64*s", "127*core + 3072*t + 64*s")])),
        (
            "the exchange is overwritten while lanes read it",
            lanes(&[("      wait_event from=aiv_mte2 to=aic_fix event=(mod(t, 2))", "")]),
        ),
        (
            "a barrier does not order kinds of core",
            lanes(&[
                ("      set_event from=aic_fix to=aiv_mte2 event=(mod(t, 2))", "      barrier"),
                ("      wait_event from=aic_fix to=aiv_mte2 event=(mod(t, 2))", ""),
            ]),
        ),
        (
            "only one lane signals",
            lanes(&[(
                "      set_event from=aiv_mte2 to=aic_fix event=(mod(t, 2))",
                "if s > 0 {\nset_event from=aiv_mte2 to=aic_fix event=(mod(t, 2))\n}",
            )]),
        ),
        (
            "the cube core has no lane",
            lanes(&[(
                "%p#(mod(t, 2))[0 +: 128, 0 +: 128] <- %c[0 +: 128, 0 +: 128]",
                "%p#(mod(t, 2))[64*s +: 64, 0 +: 128] <- %c[64*s +: 64, 0 +: 128]",
            )]),
        ),
        (
            "flags between cores are few",
            lanes(&[("from=aic_fix to=aiv_mte2 event=(mod(t, 2))", "from=aic_fix to=aiv_mte2 event=(7)")]),
        ),
        (
            "the wrong copy",
            lanes(&[("%v[0 +: 64, 0 +: 128] <- %p#(mod(t, 2))", "%v[0 +: 64, 0 +: 128] <- %p#(1 - mod(t, 2))")]),
        ),
    ];
    let text: String = broken.iter().map(|(name, faults)| format!("## {name}\n{faults}\n")).collect();
    insta::assert_snapshot!(text);
}

/// What users of the text form and of machine files can get wrong, each with what they are told.
#[test]
fn negative_cases() {
    let two = |changes: &[(&str, &str)]| faults(TWOPIPE, "twopipe", Stage::Synchronised, changes);
    let lanes = |changes: &[(&str, &str)]| faults(LANES, "ascend910b2", Stage::Synchronised, changes);
    let unknown_key = include_str!("../../targets/twopipe.toml").replace("bytes = 16384", "bites = 16384");
    let cases = [
        (
            "over-capacity tile",
            two(&[("tile o: f32[16, 16] row_major in ub at 0", "tile o: f32[300, 16] row_major in ub at 0")]),
        ),
        (
            "over-capacity fractal",
            lanes(&[("tile k: f16[64, 128] zN(16x16) in l1", "tile k: f16[4096, 128] zN(16x16) in l1")]),
        ),
        (
            "over-capacity row",
            two(&[("tile o: f32[16, 16] row_major in ub at 0", "tile o: f32[16, 9999] row_major in ub at 0")]),
        ),
        ("misaligned address", two(&[("l0b slots 2 at 0", "l0b slots 2 at 64")])),
        ("missing wait", two(&[("      wait_event from=move to=compute event=(mod(floordiv(k, 16), 2))\n", "")])),
        ("event reuse", two(&[("event=(mod(floordiv(k, 16), 2))", "event=(0)")])),
        (
            "event set twice",
            two(&[(
                "    set_event from=compute to=move event=(2)\n",
                "    set_event from=compute to=move event=(2)\n    set_event from=compute to=move event=(2)\n",
            )]),
        ),
        ("wrong layout for a path", two(&[("nZ(8x8) in l0b", "zN(8x8) in l0b")])),
        ("no such path", lanes(&[("tile v: f32[64, 128] row_major in ub", "tile v: f32[64, 128] row_major in ws")])),
        ("unknown key of a machine", Machine::from_toml(&unknown_key).unwrap_err().to_string()),
        ("unknown machine", Machine::builtin("ascend910").unwrap_err().to_string()),
    ];
    let text: String = cases.iter().map(|(name, faults)| format!("## {name}\n{faults}\n")).collect();
    insta::assert_snapshot!(text);
}

#[test]
fn broken_programs() {
    let steps = |changes: &[(&str, &str)]| faults(STEPS, "twopipe", Stage::Tiled, changes);
    let broken = [
        ("wrong machine", steps(&[("program steps for twopipe", "program steps for cpu")])),
        ("read before written", steps(&[("launch negate(@x, @y)\n  if", "launch negate(@z, @y)\n  if")])),
        ("constant overwritten", steps(&[("-> (@found)", "-> (@cond)")])),
        (
            "wrong type passed",
            steps(&[("launch negate(@rows, @\"odd name\")", "launch negate(@found, @\"odd name\")")]),
        ),
        ("too few buffers", steps(&[("launch negate(@x, @y)\n  if", "launch negate(@x)\n  if")])),
        (
            "unbound symbol",
            steps(&[("f32[n, 4] row_major temporary\n  buffer z", "f32[q, 4] row_major temporary\n  buffer z")]),
        ),
        ("constant of another size", steps(&[("buffer cond: bool[]", "buffer cond: bool[3]")])),
        ("nested types", steps(&[("buffer go: bool[]", "buffer go: f32[]")])),
        ("two of one name", steps(&[("buffer z:", "buffer y:"), ("@z", "@y")])),
        ("input given twice", steps(&[("input trip: @trip[]", "input trip: @c[]")])),
        (
            "aliasing",
            steps(&[("launch negate(@rows, @\"odd name\") in_place @x -> @y", "launch negate(@rows, @rows)")]),
        ),
        ("not possible in place", steps(&[("in_place @x -> @y", "in_place @y -> @x")])),
    ];
    let text: String = broken.iter().map(|(name, faults)| format!("## {name}\n{faults}\n")).collect();
    insta::assert_snapshot!(text);
}

#[test]
fn bounds_that_symbols_decide_are_checked_at_binding() {
    let text = MATMUL.replace("[m, 96]", "[m, q]");
    let program = parse(&with_data(&text)).unwrap();
    let checks = verify(&program, &machine("cpu"), Stage::Routed).unwrap_or_else(|faults| panic!("{faults}"));
    // Columns up to 96 are read, whatever q is.
    assert_eq!(checks.len(), 1, "{checks:?}");
    let at = |q: i64| checks[0].check(&|symbol| Some(if symbol.name() == "q" { q } else { 100 }));
    assert!(at(96).is_ok() && at(200).is_ok());
    assert_eq!(
        at(95).unwrap_err().to_string(),
        "the highest index into axis 1 of `x`: k + 31 must be at most q - 1 (it is more at k = 64)"
    );
}

#[test]
fn computing_in_place_is_offered_where_it_is_safe() {
    let kernel = &parse(STEPS).unwrap().kernels[0];
    assert_eq!(in_place_pairs(kernel), [(crate::ParamId(0), crate::ParamId(1))]);
    let kernel = &parse(TWOPIPE).unwrap().kernels[0];
    assert_eq!(in_place_pairs(kernel), []);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    /// Meaningless programs are refused, or accepted, but never make the verifier fail.
    #[test]
    fn any_program_is_judged(program in program()) {
        for name in ["cpu", "twopipe"] {
            let _ = verify(&program, &machine(name), Stage::Synchronised).map_err(|faults| faults.to_string());
        }
    }
}

#[test]
fn hostile_kernels_are_judged_in_time() {
    let nested = |depth: usize, body: &str| {
        let open: String = (0..depth).map(|i| format!("for v{i} in 0..1000000 step 1 {{\n")).collect();
        format!(
            "program p for twopipe {{\nkernel k {{\ntile t: f32[8] row_major in ub at 0\n{open}{body}\n{}}}\n}}\n",
            "}\n".repeat(depth)
        )
    };
    let sum = (0..30).map(|i| format!("min(v{i}, v{})", (i * 7 + 1) % 30)).collect::<Vec<_>>().join("*");
    for body in
        ["fill %t[0 +: 8] <- 0.0", &format!("fill %t[{sum} +: 8] <- 0.0"), "fill %t[v0*v1*v2 - v3*v4 +: v5] <- 0.0"]
    {
        let program = parse(&nested(30, body));
        if let Ok(program) = program {
            let _ = verify(&program, &machine("twopipe"), Stage::Synchronised);
        }
    }
}
