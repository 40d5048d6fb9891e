//! Round trips and faults of the text form.

use proptest::prelude::*;

use super::{
    samples::{MATMUL, STEPS, TWOPIPE, program},
    *,
};

/// The sample with its constants filled with zeros.
pub(crate) fn with_data(text: &str) -> String {
    let mut full = String::new();
    for line in text.lines() {
        if let Some(count) = line.trim().strip_prefix("data ").and_then(|rest| rest.strip_suffix(" bytes elided")) {
            let count: usize = count.parse().unwrap();
            let zeros = "A".repeat(count.div_ceil(3) * 4 - 4);
            let tail = ["AAAA", "AA==", "AAA="][count % 3];
            full.push_str(&format!("data {count} bytes {{\n{zeros}{tail}\n}}\n"));
        } else {
            full.push_str(line);
            full.push('\n');
        }
    }
    full
}

#[test]
fn samples_print_as_they_were_written() {
    let matmul = parse(&with_data(MATMUL)).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(print(&matmul, Data::Elided), MATMUL);
    assert_eq!(parse(&print(&matmul, Data::Inline)).unwrap(), matmul);
    let product = parse(TWOPIPE).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(print(&product, Data::Inline), TWOPIPE);
    let steps = parse(STEPS).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(print(&steps, Data::Inline), STEPS);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn every_program_round_trips(program in program()) {
        let text = print(&program, Data::Inline);
        match parse(&text) {
            Ok(again) => prop_assert_eq!(again, program),
            Err(error) => prop_assert!(false, "{error}\n{text}"),
        }
    }

    #[test]
    fn garbled_text_is_an_error_or_a_program(at in 0usize..4000, length in 0usize..40, with in "[%@(){}\"`a-z0-9 #$,\n-]{0,6}") {
        let mut text: String = STEPS.to_owned();
        let at = at.min(text.len());
        let end = (at + length).min(text.len());
        if text.is_char_boundary(at) && text.is_char_boundary(end) {
            text.replace_range(at..end, &with);
            let _ = parse(&text);
        }
    }
}

#[test]
fn faults_name_line_and_column() {
    let fault = |from: &str, to: &str| {
        assert!(STEPS.contains(from), "{from}");
        parse(&STEPS.replacen(from, to, 1)).unwrap_err().to_string()
    };
    let faults = [
        fault("@x{min(64, -64*i + n), 4 ->", "@q{min(64, -64*i + n), 4 ->"),
        fault("f32[n, 4] row_major input", "f31[n, 4] row_major input"),
        fault("0 +: 4] <- @x", "0 +: 4+] <- @x"),
        fault("neg %t", "negg %t"),
        fault("launch negate", "launch unknown"),
        fault("axis 0 reverse", "axis x reverse"),
        fault("AQ==", "A*"),
        fault("slots 2", "slots"),
        fault("$0, $1} <- %t", "$x, $1} <- %t"),
        fault("-> 64*i + $0, $1", "-> 64*i $0, $1"),
        parse(&STEPS[..STEPS.len() - 3]).unwrap_err().to_string(),
        parse(MATMUL).unwrap_err().to_string(),
    ];
    insta::assert_snapshot!(faults.join("\n"));
}

#[test]
fn nesting_is_limited() {
    let deep = format!("program p for m {{\nkernel k {{\n{}", "for i in 0..1 step 1 {\n".repeat(100_000));
    assert!(parse(&deep).unwrap_err().message.contains("deep"));
    let open = "if @c() -> () {\nprogram p for m {\nbuffer c: bool[] row_major input\n".repeat(10_000);
    let deep = format!("program p for m {{\nbuffer c: bool[] row_major input\n{open}");
    assert!(parse(&deep).unwrap_err().message.contains("deep"));
}

#[test]
fn comments_are_ignored() {
    let text = STEPS.replace("launch negate(@x, @y)\n  if", "launch negate(@x, @y) # a \"comment\n# another\n  if");
    assert_eq!(parse(&text).unwrap(), parse(STEPS).unwrap());
}
