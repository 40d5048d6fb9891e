//! Times of steps.

/// How long one step of a run took.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepTime {
    /// The program (a branch or a loop body has its own).
    pub program: String,
    /// Position in its steps.
    pub step: usize,
    /// Kernel name, host function, or kind of control flow.
    pub name: String,
    /// The model's nodes that it computes.
    pub origin: Vec<String>,
    /// When it began, in nanoseconds since the session was made.
    pub start_nanoseconds: u64,
    /// Wall-clock nanoseconds, nested programs included.
    pub nanoseconds: u64,
    /// Work items of a launch; 0 for other steps.
    pub items: usize,
}
