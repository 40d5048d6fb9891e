//! Kernels with tiles of a size that a user asks for.

use std::cell::RefCell;

use tarsia_graph::{Graph, NodeId, Op, Value};
use tarsia_tile::Kernel;

use super::{Lowering, error};
use crate::{
    LowerError,
    asked::{largest, size_text},
    builder::Source,
    target::Target,
};

impl Lowering<'_> {
    /// A kernel with tiles of a size that is asked for.
    pub(super) fn with_tile(
        &self,
        (id, name): (NodeId, &str),
        body: &Graph,
        operands: &[Value],
        (sides, by_name): (&[usize], bool),
    ) -> Result<(Kernel, Vec<Source>), LowerError> {
        let granule = RefCell::new(None);
        let attempt = |sides: &[usize]| {
            let targets: Vec<Target> = self.targets.iter().map(|target| target.with_tile(sides)).collect();
            let tensor = |source: &Source| self.tensor(body, operands, source);
            self.fitted(&targets, (id, &tensor), |target| {
                let builder = self.build(id, body, operands, target)?;
                granule.replace(builder.granule.clone());
                Ok(builder)
            })
        };
        let built = attempt(sides);
        let Some(granule) = granule.take() else {
            return match built {
                Ok(_) if by_name => Err(self.refused(id, name, "its tiles are not chosen by size".to_owned())),
                Ok(built) => Ok(built),
                Err(error) => Err(self.refused(id, name, error.reason)),
            };
        };
        built.map_err(|error| {
            let most = largest(sides, &granule, |sides| attempt(sides).is_ok());
            let most = most.map_or("no smaller one does".to_owned(), |most| {
                format!("the largest within it that does is {}", size_text(&most))
            });
            let size = size_text(sides);
            self.refused(id, name, format!("a tile of {size} does not fit: {}; {most}", error.reason))
        })
    }

    /// An error of what is asked for.
    pub(super) fn refused(&self, id: NodeId, kernel: &str, reason: String) -> LowerError {
        LowerError { op: kernel.to_owned(), asked: true, ..error(self.graph, id, reason) }
    }

    /// What a parameter of a kernel is bound to, in words.
    pub(super) fn tensor(&self, body: &Graph, operands: &[Value], source: &Source) -> String {
        let leaf = match source {
            Source::Result(_) => return "the result".to_owned(),
            Source::Zeros => return "zeros".to_owned(),
            Source::Leaf(value) => *value,
            Source::Packed(packing) => packing.leaf,
        };
        let value = match &body[leaf.node].op {
            Op::Input { index, .. } => operands.get(*index).copied(),
            _ => None,
        };
        let (graph, node) = value.map_or((body, leaf.node), |value| (self.graph, value.node));
        let names: Vec<&str> = graph[node].origin.names().collect();
        match &graph[node].op {
            Op::Input { index, .. } => {
                format!("the input `{}`", graph.inputs().get(*index).map_or("", |(name, _)| name))
            }
            Op::Constant { .. } if names.is_empty() => "a constant".to_owned(),
            Op::Constant { .. } => format!("the constant {}", names.join(", ")),
            _ => format!("the result of {}", names.join(", ")),
        }
    }
}
