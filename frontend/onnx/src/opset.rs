//! Operator sets: which version of each domain the nodes of a graph bind to.

use std::collections::BTreeMap;

use crate::schema::OperatorSetIdProto;

/// The oldest version of ONNX's own operator set that is read.
pub const OLDEST_OPSET: i64 = 1;
/// The newest version of ONNX's own operator set that is read.
pub const NEWEST_OPSET: i64 = 28;

/// The operator sets that a model or a function imports.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Opsets(BTreeMap<String, i64>);

impl Opsets {
    /// The sets imported. Where a domain occurs more than once, the highest version counts, as the specification says.
    pub fn new(imports: &[OperatorSetIdProto]) -> Opsets {
        let mut versions = BTreeMap::new();
        for import in imports {
            let version = versions.entry(canonical(&import.domain).to_string()).or_insert(import.version);
            *version = import.version.max(*version);
        }
        Opsets(versions)
    }

    /// The version of a domain.
    pub fn version(&self, domain: &str) -> Option<i64> {
        self.0.get(canonical(domain)).copied()
    }

    /// All domains with their versions, by name; ONNX's own domain is the empty string.
    pub fn iter(&self) -> impl Iterator<Item = (&str, i64)> {
        self.0.iter().map(|(domain, &version)| (domain.as_str(), version))
    }
}

/// The domain as it is compared: `ai.onnx` is another spelling of the empty one.
pub fn canonical(domain: &str) -> &str {
    if domain == "ai.onnx" { "" } else { domain }
}

/// The domain as it is shown.
pub fn shown(domain: &str) -> &str {
    if domain.is_empty() { "ai.onnx" } else { domain }
}
