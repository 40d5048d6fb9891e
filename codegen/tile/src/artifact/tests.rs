//! Round trips, and files that are damaged or made to harm.

use proptest::prelude::*;

use super::*;
use crate::text::{
    parse,
    samples::{MATMUL, STEPS, TWOPIPE, program},
    tests::with_data,
};

fn bytes(program: &Program) -> Bytes {
    let mut out = Vec::new();
    write(program, &mut out).unwrap();
    Bytes::from(out)
}

#[test]
fn files_are_mapped_verified_and_equal() {
    let folder = tempfile::tempdir().unwrap();
    for text in [MATMUL, TWOPIPE] {
        let program = parse(&with_data(text)).unwrap();
        let path = folder.path().join("model.tarsia");
        save(&program, &path).unwrap();
        let again = read(map(&path).unwrap(), &Limits::default()).unwrap();
        assert_eq!(again, program);
        for constant in &again.constants {
            assert_eq!(constant.data.bytes().unwrap().as_ptr() as usize % ALIGNMENT, 0);
        }
    }
    // The last one is complete: placed and synchronised.
    assert!(load(&folder.path().join("model.tarsia"), &Limits::default()).is_ok());
    // Nothing but the file itself is left.
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn shared_constants_are_written_once() {
    let mut program = parse(&with_data(MATMUL)).unwrap();
    let size = bytes(&program).len();
    let shared = program.constants[0].clone();
    program.constants.push(shared);
    assert!(bytes(&program).len() < size + 1000);
    assert_eq!(read(bytes(&program), &Limits::default()).unwrap(), program);
}

#[test]
fn programs_that_break_rules_are_not_loaded() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.tarsia");
    save(&parse(&with_data(&MATMUL.replace("k + $1", "k + 1 + $1"))).unwrap(), &path).unwrap();
    let error = load(&path, &Limits::default()).unwrap_err().to_string();
    assert!(error.contains("the highest index into axis 1 of `x`"), "{error}");
    save(&parse(&STEPS.replace("twopipe", "nowhere")).unwrap(), &path).unwrap();
    assert!(matches!(load(&path, &Limits::default()), Err(ArtifactError::Machine(_))));
    assert!(matches!(load(&folder.path().join("none"), &Limits::default()), Err(ArtifactError::Io { .. })));
}

#[test]
fn truncated_files_are_errors() {
    let file = bytes(&parse(STEPS).unwrap());
    for end in 0..file.len() {
        assert!(read(file.slice(..end), &Limits::default()).is_err(), "{end}");
    }
}

#[test]
fn other_files_are_recognised() {
    let limits = Limits::default();
    assert!(matches!(read(Bytes::from_static(b"\x08\x07\x12\x04"), &limits), Err(ArtifactError::Magic)));
    let mut file = bytes(&parse(STEPS).unwrap()).to_vec();
    assert!(matches!(
        read(Bytes::from(file.clone()), &Limits { header_bytes: 10 }),
        Err(ArtifactError::TooLarge { .. })
    ));
    file[8] = 9;
    assert!(matches!(read(Bytes::from(file), &limits), Err(ArtifactError::Version { found: 9 })));
}

/// The file with its checksum made right again.
fn sealed(mut file: Vec<u8>) -> Bytes {
    let header = u64::from_le_bytes(file[16..24].try_into().unwrap()) as usize;
    if let Some(header) = file.get(PREFIX..PREFIX.saturating_add(header)) {
        let sum = crc32fast::hash(header);
        file[12..16].copy_from_slice(&sum.to_le_bytes());
    }
    Bytes::from(file)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn every_program_round_trips(program in program()) {
        let mut out = Vec::new();
        match write(&program, &mut out) {
            // In the program or in one inside of it.
            Err(ArtifactError::Absent(_)) => {
                let says = format!("{program:?}").contains("Absent");
                prop_assert!(says);
            }
            Err(error) => return Err(TestCaseError::fail(error.to_string())),
            Ok(()) => prop_assert_eq!(read(Bytes::from(out), &Limits::default()).unwrap(), program),
        }
    }

    /// Whatever is in the file, reading and verifying it ends with an error or a program.
    #[test]
    fn flipped_bytes_are_judged(changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..5), seal in any::<bool>()) {
        let mut file = bytes(&parse(STEPS).unwrap()).to_vec();
        for (index, value) in changes {
            let at = index.index(file.len());
            file[at] = value;
        }
        let result = read(if seal { sealed(file) } else { Bytes::from(file) }, &Limits::default());
        match result {
            Ok(program) => {
                let _ = verify::verify(&program, &Machine::builtin("twopipe").unwrap(), Stage::Synchronised).map_err(|f| f.to_string());
            }
            Err(error) => prop_assert!(!error.to_string().is_empty()),
        }
    }
}
