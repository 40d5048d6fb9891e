//! What reading a model may take: the user's bounds against files that are hostile or broken.

/// Bounds on what reading a model may take. The defaults admit every model that fits this kind of machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of all tensors that the model declares, mapped or not.
    pub max_bytes: u64,
    /// Bytes that the decoded messages may take, without tensor data.
    pub max_structure_bytes: u64,
    /// Nodes of the model after every model-local function has been put in place of its calls.
    pub max_nodes: u64,
}

impl Default for Limits {
    /// 16 GiB of tensors, 1 GiB of messages, four million nodes.
    fn default() -> Limits {
        Limits { max_bytes: 16 << 30, max_structure_bytes: 1 << 30, max_nodes: 4_000_000 }
    }
}
