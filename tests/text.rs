//! Textual ONNX against ONNX's own printer and parser: every conformance case's text gives the message that ONNX's parser makes of
//! it, and a model whose constants are those of the binary file.

#[path = "conformance/cases.rs"]
mod cases;

use std::collections::BTreeMap;
use std::path::Path;

use prost::Message;
use tarsia_onnx::{Limits, Model, Source, schema::ModelProto};

#[test]
fn every_text_is_read_as_onnx_reads_it() {
    let cases = match cases::all() {
        Ok(cases) => cases,
        Err(reason) => {
            assert!(std::env::var_os("CI").is_none_or(|v| v != "true"), "{reason}");
            return eprintln!("*** ONNX's conformance cases were NOT read: {reason}");
        }
    };
    let mut faults = Vec::new();
    let texts: Vec<_> = cases.iter().filter(|(_, folder)| folder.join("model.onnxtxt").exists()).collect();
    for (name, folder) in &texts {
        if let Err(fault) = agrees(folder) {
            faults.push(format!("{name}: {fault}"));
        }
    }
    assert!(faults.is_empty(), "{} of {} texts:\n{}", faults.len(), texts.len(), faults.join("\n"));
    assert!(texts.len() * 10 > cases.len() * 9, "only {} of {} cases have a text", texts.len(), cases.len());
}

fn agrees(folder: &Path) -> Result<(), String> {
    let limits = Limits::default();
    let source = Source::open(&folder.join("model.onnxtxt"), &limits).map_err(|e| e.to_string())?;
    let found = source.model(&limits).map_err(|e| e.to_string())?;
    let expected = std::fs::read(folder.join("model.onnxtxt.pb")).expect("the script writes both files");
    let expected = ModelProto::decode(expected.as_slice()).expect("ONNX writes messages");
    // As bytes: a NaN is itself there.
    if found.encode_to_vec() != expected.encode_to_vec() {
        return Err(format!("found\n{found:#?}\nexpected\n{expected:#?}"));
    }
    let binary = Model::open(&folder.join("model.onnx"), limits);
    match (Model::from_source(source, limits), binary) {
        (Ok(text), Ok(binary)) if constants(&text) != constants(&binary) => Err("constants differ".into()),
        (Err(text), Ok(_)) => Err(format!("the binary model is right, but not the text: {text}")),
        _ => Ok(()),
    }
}

/// The initialisers of a model by name: type, shape and elements.
fn constants(model: &Model) -> BTreeMap<String, String> {
    let constants = model.graph().initializers().map(|constant| {
        let data = constant
            .tensor()
            .map(|t| (t.dtype(), t.shape().to_vec(), t.bytes().clone(), t.strings().map(<[_]>::to_vec)));
        (constant.name().to_owned(), format!("{:?}", data.map_err(|e| e.to_string())))
    });
    constants.collect()
}
