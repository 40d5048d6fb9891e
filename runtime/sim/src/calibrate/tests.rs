//! The calibration's programs are programs: placed and synchronised, as what is compiled.

use tarsia_tile::verify::{Stage, verify};

use super::*;

#[test]
fn the_programs_verify() {
    let machine = Machine::builtin("ascend910b1").unwrap();
    let rows = [measured::copies(), measured::ladder(), measured::sums(), measured::predictions()].concat();
    let mut seen: Vec<Program> = Vec::new();
    for row in rows {
        if !seen.contains(&row.program) {
            let program = program(&row, &machine).unwrap();
            verify(&program, &machine, Stage::Synchronised).unwrap_or_else(|faults| panic!("{}: {faults}", row.name));
            seen.push(row.program);
        }
    }
    assert!(seen.len() > 15);
}
