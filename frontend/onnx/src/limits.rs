//! What reading a model may take: the user's bounds against files that are hostile or broken.

/// Bounds on what reading a model may take. The defaults admit every model that fits this kind of machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of all tensors that the model declares, mapped or not.
    pub max_bytes: u64,
    /// Which data of tensors must be there.
    pub weights: Weights,
    /// Bytes that the decoded messages may take, without tensor data.
    pub max_structure_bytes: u64,
    /// Nodes of the model after every model-local function has been put in place of its calls.
    pub max_nodes: u64,
}

impl Limits {
    /// Bytes of a file that is read into memory as a whole, because it is compressed or no file at all. No protobuf message is
    /// longer than 2 GiB.
    pub fn max_read_bytes(&self) -> u64 {
        self.max_bytes.saturating_add(self.max_structure_bytes).min(2 << 30)
    }
}

/// Which data of tensors must be there for a model to be read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Weights {
    /// All.
    #[default]
    Data,
    /// Those in files beside the model may be absent: of such tensors only type and shape are known, and they count for nothing
    /// in [`Limits::max_bytes`]. Such a model can be compiled, but not run.
    Shapes,
}

impl Default for Limits {
    /// 16 GiB of tensors, 1 GiB of messages, four million nodes.
    fn default() -> Limits {
        Limits { max_bytes: 16 << 30, weights: Weights::Data, max_structure_bytes: 1 << 30, max_nodes: 4_000_000 }
    }
}
