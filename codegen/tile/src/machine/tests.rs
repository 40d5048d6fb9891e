//! Machine files: reading, faults, routes and costs.

use tarsia_tensor::DType;

use super::*;

fn twopipe() -> Machine {
    Machine::builtin("twopipe").unwrap()
}

fn changed(from: &str, to: &str) -> String {
    let text = load::BUILTIN[1].1;
    assert!(text.contains(from), "{from}");
    Machine::from_toml(&text.replacen(from, to, 1)).unwrap_err().to_string()
}

#[test]
fn builtin_machines_print() {
    for name in Machine::builtin_names() {
        insta::assert_snapshot!(format!("machine_{name}"), Machine::builtin(name).unwrap().print());
    }
    assert!(Machine::builtin("nope").unwrap_err().to_string().contains("cpu, twopipe"));
}

#[test]
fn unknown_keys_name_the_allowed_ones() {
    let error = changed("startup_cycles = 20", "start_up_cycles = 20");
    assert!(error.contains("start_up_cycles") && error.contains("`startup_cycles`"), "{error}");
    let error = changed("[\"layout\", \"transpose\"]", "[\"layot\"]");
    assert!(error.contains("layot") && error.contains("im2col"), "{error}");
}

#[test]
fn all_faults_are_reported() {
    let error = changed("[\"move\", \"compute\"]\nspaces", "[\"move\"]\nspaces");
    assert!(error.contains("no core has the pipe `compute`") && error.contains("event move -> compute"), "{error}");
    assert!(changed("hertz = 1.0e9", "hertz = nan").contains("clock.hertz"));
    assert!(changed("alignment = 32", "alignment = 33").contains("power of two"));
    assert!(changed("from = \"l1\"", "from = \"l2\"").contains("no space `l2`"));
    assert!(changed("role = \"acc\"", "role = \"accu\"").contains("accu"));
}

fn end(space: &str, layout: &str, dtype: DType, access: &[Transform]) -> End {
    End { space: space.to_owned(), layout: layout.parse().unwrap(), dtype, access: access.to_vec() }
}

#[test]
fn transfers_go_through_the_memories_in_between() {
    let machine = twopipe();
    let f32 = |space, layout, access: &[Transform]| end(space, layout, DType::F32, access);
    let way = |from: End, to: End, spread| -> Vec<String> {
        let transfer = Transfer { from, to, spread, matrix: true, plane: true, elements: 1024 };
        let hops = machine.transfer(&transfer).unwrap();
        hops.iter().map(|hop| format!("{}>{} {} {}", hop.path.from, hop.path.to, hop.layout, hop.dtype)).collect()
    };
    let matrix = f32("gm", "row_major", &[Transform::Transpose]);
    assert_eq!(way(matrix, f32("l0a", "zZ(8x8)", &[]), false), ["gm>l1 zN(8x8) f32", "l1>l0a zZ(8x8) f32"]);
    assert_eq!(way(f32("l0c", "zN(8x8)", &[]), f32("gm", "row_major", &[]), false), ["l0c>gm row_major f32"]);
    // The store cannot repeat, the vector unit can.
    let (row, result) = (f32("ub", "row_major", &[]), f32("gm", "row_major", &[]));
    assert_eq!(way(row, result, true), ["ub>ub row_major f32", "ub>gm row_major f32"]);
    let half = end("ub", "row_major", DType::F16, &[]);
    assert_eq!(way(half, f32("ub", "row_major", &[]), false), ["ub>ub row_major f32"]);
    // What a view asks for is done where the view is read.
    let (from, to) = (f32("l0a", "zZ(8x8)", &[]), f32("gm", "row_major", &[Transform::Pad]));
    let error =
        machine.transfer(&Transfer { from, to, spread: false, matrix: true, plane: true, elements: 1 }).unwrap_err();
    assert_eq!(
        error.to_string(),
        "twopipe has no way for f32 in l0a in layout zZ(8x8) to f32 in gm in layout row_major that offers pad"
    );
}

/// Runs of memory become columns of a tile, which the vector unit turns into rows; and the other way round.
#[test]
fn transposed_matrices_are_turned_around_in_scratch() {
    let machine = Machine::builtin("ascend910b2").unwrap();
    let (dense, turned) =
        (end("gm", "row_major", DType::F16, &[]), end("gm", "row_major", DType::F16, &[Transform::Transpose]));
    let way = |from: &End, to: &End, plane| -> Vec<String> {
        let (from, to) = (from.clone(), to.clone());
        let hops =
            machine.transfer(&Transfer { from, to, spread: false, matrix: true, plane, elements: 4096 }).unwrap();
        hops.iter().map(|hop| format!("{}>{} {} {}", hop.path.from, hop.path.to, hop.layout, hop.path.pipe)).collect()
    };
    let rows = "ub>ub row_major aiv_v";
    assert_eq!(way(&turned, &dense, true), ["gm>ub nN(1x1) aiv_mte2", rows, "ub>gm row_major aiv_mte3"]);
    let columns = "ub>ub nN(1x1) aiv_v";
    assert_eq!(way(&dense, &turned, true), ["gm>ub row_major aiv_mte2", columns, "ub>gm row_major aiv_mte3"]);
    assert_eq!(way(&turned, &dense, false)[0], "gm>ub row_major aiv_s");
}

#[test]
fn costs_follow_the_rates() {
    let machine = twopipe();
    assert_eq!(machine.mmad_cycles(DType::F32, DType::F32, [9, 8, 8]), Some(8.0 + 1024.0 / 512.0));
    assert_eq!(machine.mmad_cycles(DType::I8, DType::I8, [8, 8, 8]), None);
    assert_eq!(machine.vector_cycles(Class::Pointwise, "exp", DType::F32, 400), Some(112.0));
    assert_eq!(machine.vector_cycles(Class::Pointwise, "add", DType::F32, 160), Some(20.0));
    assert_eq!(machine.vector_cycles(Class::Pointwise, "add", DType::F16, 160), None);
    let path = machine.path("gm", "ub", &[]).unwrap();
    assert_eq!(machine.path_cycles(path, 1600), 120.0);
    assert_eq!(machine.event_ids("move", "compute"), 4);
    assert_eq!(machine.event_ids("move", "move"), 0);
}

#[test]
fn the_matrix_unit_prefers_panels() {
    let machine = Machine::builtin("cpu").unwrap();
    let (unit, product) = machine.product(DType::F32, DType::BF16).unwrap();
    assert_eq!(product.acc, DType::F32);
    let layout = |role| unit.operand(role, false).unwrap().preferred_layout(DType::F32).unwrap().to_string();
    assert_eq!((layout("a"), layout("b"), layout("acc")), ("nZ(12x1)".into(), "zN(1x32)".into(), "row_major".into()));
    assert!(machine.dtypes(Class::Pointwise).contains(&DType::I64));
    assert!(!machine.has_concurrent_pipes());
}

#[test]
fn fewer_cores_are_fewer_of_every_kind() {
    let machine = Machine::builtin("ascend910b2").unwrap();
    let counts = |machine: &Machine| machine.cores.iter().map(|core| core.count).collect::<Vec<_>>();
    assert_eq!(counts(&machine.with_cores(3).unwrap()), [3, 6]);
    assert_eq!(machine.with_cores(24).unwrap(), machine);
    let error = |count| machine.with_cores(count).unwrap_err().to_string();
    assert_eq!(error(25), "ascend910b2 has 1 to 24 cores to compile for, not 25");
    assert!(error(0).contains("not 0"));
}

#[test]
fn types_are_changed_over_types_that_lose_nothing() {
    let machine = Machine::builtin("ascend910b2").unwrap();
    let way = |from: DType, to: DType| -> Vec<DType> {
        let (from, to) = (end("ub", "row_major", from, &[]), end("ub", "row_major", to, &[]));
        let transfer = Transfer { from, to, spread: false, matrix: false, plane: false, elements: 4096 };
        machine.transfer(&transfer).unwrap().iter().map(|hop| hop.dtype).collect()
    };
    assert_eq!(way(DType::U8, DType::I32), [DType::F16, DType::I32]);
    assert_eq!(way(DType::BF16, DType::F16), [DType::F32, DType::F16]);
    // Over f16 it would be rounded twice.
    assert_eq!(way(DType::F32, DType::I8), [DType::I8]);
    assert_eq!(way(DType::U8, DType::I8), [DType::I8]);
}
