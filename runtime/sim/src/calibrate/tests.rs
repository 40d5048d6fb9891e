//! The calibration's programs are programs, placed and synchronised as what is compiled; its document is current, its errors small.

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

#[test]
fn the_calibration_is_what_the_document_says() {
    let machine = Machine::builtin("ascend910b1").unwrap();
    let calibration = calibrate(&machine).unwrap();
    let rows = || calibration.copies.iter().chain(&calibration.products).chain(&calibration.sums);
    let mut far = Vec::new();
    for row in rows() {
        let pipes = row.pipes.iter().map(|(pipe, pair)| (format!("{}: {pipe}", row.name), pair.error()));
        let errors = std::iter::once((row.name.clone(), row.kernel.error())).chain(pipes);
        far.extend(errors.filter(|(_, error)| error.abs() > 0.2).map(|(name, _)| name));
    }
    assert!(far.is_empty(), "more than 20 % off: {far:?}");
    let mut errors: Vec<f64> = rows().map(|row| row.kernel.error().abs()).collect();
    errors.sort_by(f64::total_cmp);
    assert!(errors[errors.len() / 2] < 0.1, "the median error is {}", errors[errors.len() / 2]);

    let text = document(&machine, &calibration);
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/calibration.md");
    if std::env::var("INSTA_UPDATE").is_ok_and(|update| update == "always") {
        std::fs::write(&path, &text).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap();
    assert!(committed == text, "run `tarsia calibrate --target ascend910b1 > docs/calibration.md`");
}
