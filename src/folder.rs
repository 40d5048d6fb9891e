//! Model folders in ONNX's test layout: a model, `test_data_set_N/{input,output}_K.pb`, and a tolerance.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use tarsia_onnx::{Limits, data};
use tarsia_tensor::Tensor;

use crate::{Error, Precision};

/// A folder with a model and test data.
#[derive(Clone, Debug)]
pub struct Folder {
    /// The model file.
    pub model: PathBuf,
    /// The data sets, in order.
    pub sets: Vec<PathBuf>,
    /// How far outputs may be off.
    pub tolerance: Tolerance,
}

/// `|found - expected| <= atol + rtol·|expected|`.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(default)]
pub struct Tolerance {
    /// Relative part.
    pub rtol: f64,
    /// Absolute part.
    pub atol: f64,
    /// The expected values are a sample of what is random: results have its type and shape, and lie within its bounds.
    pub random: bool,
}

impl Default for Tolerance {
    fn default() -> Tolerance {
        Tolerance { rtol: 1e-3, atol: 1e-4, random: false }
    }
}

impl Tolerance {
    /// What results may be off by in a precision: at least 2e-2 in f16.
    pub fn at(self, precision: Precision) -> Tolerance {
        const HALF: f64 = 2e-2;
        match precision {
            Precision::F32 => self,
            Precision::F16 => Tolerance { rtol: self.rtol.max(HALF), atol: self.atol.max(HALF), ..self },
        }
    }
}

impl Folder {
    /// Looks through a folder.
    ///
    /// # Errors
    /// If it has no model, or several.
    pub fn open(path: &Path) -> Result<Folder, Error> {
        let io = |reason| Error::Io { path: path.to_owned(), reason };
        let mut models = Vec::new();
        let mut sets = Vec::new();
        for entry in std::fs::read_dir(path).map_err(io)? {
            let entry = entry.map_err(io)?.path();
            let name = entry.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if is_model(&name) {
                models.push(entry);
            } else if let Some(number) = name.strip_prefix("test_data_set_") {
                sets.push((number.parse::<u32>().unwrap_or(u32::MAX), entry));
            }
        }
        models.sort();
        sets.sort();
        let model = match models.as_slice() {
            [only] => only.clone(),
            [] => {
                return Err(Error::Usage(format!(
                    "{}: there is no model (.onnx, .onnx.gz, .onnxtxt) in this folder",
                    path.display()
                )));
            }
            many => {
                let named = many.iter().find(|model| model.file_name().is_some_and(|name| name == "model.onnx"));
                named.cloned().ok_or_else(|| Error::Usage(format!("{}: several models", path.display())))?
            }
        };
        let sets = sets.into_iter().map(|(_, path)| path).collect();
        Ok(Folder { model, sets, tolerance: tolerance(path) })
    }
}

/// Whether a file of a folder is a model by its name.
fn is_model(name: &str) -> bool {
    let name = name.strip_suffix(".gz").unwrap_or(name);
    name.ends_with(".onnx") || name.ends_with(".onnxtxt")
}

/// `meta.json` with rtol and atol, or `tolerance.txt` with both.
fn tolerance(path: &Path) -> Tolerance {
    let text = |name: &str| std::fs::read_to_string(path.join(name)).ok();
    if let Some(tolerance) = text("meta.json").and_then(|meta| serde_json::from_str(&meta).ok()) {
        return tolerance;
    }
    let pair = text("tolerance.txt").and_then(|text| {
        let mut numbers = text.split_whitespace().map(|number| number.parse::<f64>().ok());
        Some(Tolerance { rtol: numbers.next()??, atol: numbers.next()??, random: false })
    });
    pair.unwrap_or_default()
}

/// The values `input_0.pb …` or `output_0.pb …` of a data set; a missing number (an optional value) is `None`.
///
/// # Errors
/// If a file does not hold a value.
pub fn read_set(set: &Path, role: &str, count: usize, limits: &Limits) -> Result<Vec<Option<Tensor>>, Error> {
    let read = |k: usize| {
        let path = set.join(format!("{role}_{k}.pb"));
        match path.exists() {
            true => Ok(Some(data::read_value(&path, limits)?.1)),
            false => Ok(None),
        }
    };
    (0..count).map(read).collect()
}
