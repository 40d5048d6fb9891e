//! The op table: every core op is one row with its text name, kind, operand count and attributes.
//!
//! Operands are values, attributes are compile-time data. Point-wise ops broadcast like NumPy; reductions keep the
//! reduced axes with size 1, so that their result broadcasts against their operand. Contractions and convolutions
//! accumulate narrow floats in f32.

use std::sync::Arc;

use tarsia_tensor::{DType, Dim, Tensor};

use crate::{
    ArgReduceFn, Attr, AttrError, BinaryFn, Contraction, Graph, Real, ReduceFn, ScatterFn, Type, UnaryFn,
    attr::AttrValue,
};

/// What family an op belongs to; code after the table matches on kinds and on the few ops it is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// No operands.
    Leaf,
    /// Element by element, with broadcasting.
    Pointwise,
    /// Elements change place, not value.
    Movement,
    /// Along axes: reductions, arg-reductions, cumulative scans.
    Reduce,
    /// Products summed over shared axes.
    Contract,
    /// Sliding windows: convolution and pooling.
    Window,
    /// Reads or writes at computed indices.
    Index,
    /// Sorting and selection.
    Order,
    /// Sub-graphs.
    Control,
    /// Data-dependent shapes and whatever no tile program does; runs on the host.
    Host,
    /// Equal to its expansion into other ops.
    Composite,
}

macro_rules! ops {
    ($($(#[$doc:meta])* $variant:ident = $text:literal, $kind:ident, $arity:expr, { $($(#[$fdoc:meta])* $field:ident: $ty:ty),* };)*) => {
        /// A core op with its attributes.
        #[derive(Clone, Debug, PartialEq)]
        pub enum Op {
            /// Point-wise function of one operand.
            Unary(UnaryFn),
            /// Point-wise function of two operands.
            Binary(BinaryFn),
            $($(#[$doc])* $variant { $($(#[$fdoc])* $field: $ty),* },)*
        }

        impl Op {
            /// The names of all ops but the point-wise functions, in table order.
            pub const NAMES: &[&str] = &[$($text),*];

            /// The name in text forms.
            pub fn name(&self) -> &'static str {
                match self {
                    Op::Unary(function) => function.name(),
                    Op::Binary(function) => function.name(),
                    $(Op::$variant { .. } => $text,)*
                }
            }

            /// The family.
            pub fn kind(&self) -> Kind {
                match self {
                    Op::Unary(_) | Op::Binary(_) => Kind::Pointwise,
                    $(Op::$variant { .. } => Kind::$kind,)*
                }
            }

            /// How many operands the op takes, lowest and highest.
            pub fn arity(&self) -> (usize, usize) {
                match self {
                    Op::Unary(_) => (1, 1),
                    Op::Binary(_) => (2, 2),
                    $(Op::$variant { .. } => $arity,)*
                }
            }

            /// The attributes by name, in table order.
            pub fn attrs(&self) -> Vec<(&'static str, Attr)> {
                match self {
                    Op::Unary(_) | Op::Binary(_) => Vec::new(),
                    $(Op::$variant { $($field),* } => vec![$((stringify!($field), $field.to_attr())),*],)*
                }
            }

            /// The op with this name and these attributes.
            ///
            /// # Errors
            /// If there is no such op, or an attribute is missing or of another kind.
            #[allow(unused_variables)]
            pub fn from_attrs(name: &str, attrs: &dyn Fn(&str) -> Option<Attr>) -> Result<Op, AttrError> {
                if let Ok(function) = name.parse() {
                    return Ok(Op::Unary(function));
                }
                if let Ok(function) = name.parse() {
                    return Ok(Op::Binary(function));
                }
                match name {
                    $($text => Ok(Op::$variant { $($field: {
                        let attr = attrs(stringify!($field)).ok_or(AttrError::Missing { op: $text, name: stringify!($field) })?;
                        AttrValue::from_attr(&attr).ok_or(AttrError::Kind { op: $text, name: stringify!($field) })?
                    }),* }),)*
                    _ => Err(AttrError::UnknownOp(name.to_owned())),
                }
            }
        }
    };
}

const MANY: usize = usize::MAX;

ops! {
    // Leaves.
    /// The graph's input number `index`.
    Input = "input", Leaf, (0, 0), { /// Position among the inputs.
        index: usize, /// Its declared type (exactly one).
        types: Vec<Type> };
    /// Constant data.
    Constant = "constant", Leaf, (0, 0), { /// The data.
        value: Tensor };
    /// Counts 0, 1, 2 … along `axis` of `shape`, constant along the other axes.
    Iota = "iota", Leaf, (0, 0), { /// Element type.
        dtype: DType, /// Result shape.
        shape: Vec<Dim>, /// The counting axis.
        axis: usize };
    /// The value of a size expression, an i64 scalar.
    Size = "size", Leaf, (0, 0), { /// The expression.
        dim: Dim };

    // Point-wise (besides the unary and binary functions).
    /// `condition ? a : b`, element by element.
    Select = "select", Pointwise, (3, 3), {};
    /// Converts the element type; `saturate` clamps narrow floats instead of giving infinities.
    Cast = "cast", Pointwise, (1, 1), { /// Target type.
        dtype: DType, /// Clamp on overflow (8-bit floats).
        saturate: bool };

    // Movement.
    /// The same elements in row-major order under another shape.
    Reshape = "reshape", Movement, (1, 1), { /// Result shape.
        shape: Vec<Dim> };
    /// Result axis `i` is operand axis `perm[i]`.
    Transpose = "transpose", Movement, (1, 1), { /// Permutation.
        perm: Vec<usize> };
    /// Repeats axes of size 1 (and new leading axes) to `shape`.
    Broadcast = "broadcast", Movement, (1, 1), { /// Result shape.
        shape: Vec<Dim> };
    /// Element `i` of axis `a` is the operand's `starts[a] + i·steps[a]`, for `i < sizes[a]`; all axes are given.
    Slice = "slice", Movement, (1, 1), { /// First index per axis.
        starts: Vec<Dim>, /// Result size per axis.
        sizes: Vec<Dim>, /// Step per axis, not 0, may be negative.
        steps: Vec<i64> };
    /// Surrounds the operand with the second operand's value (a scalar): `low` and `high` elements per axis, `interior` between
    /// neighbours.
    Pad = "pad", Movement, (2, 2), { /// Elements before, per axis, not negative.
        low: Vec<Dim>, /// Elements after, per axis, not negative.
        high: Vec<Dim>, /// Elements between neighbours, per axis.
        interior: Vec<usize> };
    /// Joins operands along an axis.
    Concat = "concat", Movement, (1, MANY), { /// The axis.
        axis: usize };

    // Reductions keep reduced axes with size 1.
    /// Reduces `axes` to size 1.
    Reduce = "reduce", Reduce, (1, 1), { /// Which reduction.
        function: ReduceFn, /// Sorted axes.
        axes: Vec<usize> };
    /// Index (i64) of the extreme element along `axis`, which becomes 1; the first, or the last, among equals.
    ArgReduce = "arg_reduce", Reduce, (1, 1), { /// Smallest or largest.
        function: ArgReduceFn, /// The axis.
        axis: usize, /// Take the last among equals.
        last: bool };
    /// Cumulative reduction along `axis`.
    Scan = "scan", Reduce, (1, 1), { /// Which reduction.
        function: ReduceFn, /// The axis.
        axis: usize, /// Leave the element itself out.
        exclusive: bool, /// From the end.
        reverse: bool };

    // Contraction and windows.
    /// Two-operand Einstein summation.
    Contract = "contract", Contract, (2, 2), { /// The pairing of axes.
        spec: Contraction, /// Result element type.
        dtype: DType };
    /// Convolution of `[n, c, spatial…]` with `[o, c/groups, window…]`, zero padding.
    Conv = "conv", Window, (2, 2), { /// Step per spatial axis.
        strides: Vec<usize>, /// Zeros before, per spatial axis.
        low: Vec<usize>, /// Zeros after, per spatial axis.
        high: Vec<usize>, /// Distance of window elements, per spatial axis.
        dilations: Vec<usize>, /// Channel groups.
        groups: usize, /// Result element type.
        dtype: DType };
    /// Reduces windows that slide over all axes; padding counts as the identity (and is not counted by `mean`).
    WindowReduce = "window_reduce", Window, (1, 1), { /// Which reduction.
        function: ReduceFn, /// Window size per axis.
        window: Vec<usize>, /// Step per axis.
        strides: Vec<usize>, /// Padding before, per axis.
        low: Vec<usize>, /// Padding after, per axis.
        high: Vec<usize>, /// Distance of window elements, per axis.
        dilations: Vec<usize> };

    // Computed indices; they are in range (importers normalise negative ones); out of range is a run-time error.
    /// `result[i…, j…, k…] = operand[i…, indices[j…], k…]`: whole slices along `axis`.
    Gather = "gather", Index, (2, 2), { /// The indexed axis.
        axis: usize };
    /// `result[…, j, …] = operand[…, indices[…, j, …], …]`: indices have the operand's rank.
    TakeAlong = "take_along", Index, (2, 2), { /// The indexed axis.
        axis: usize };
    /// `operand` (first) with rows along axis 0 updated: `indices` is `[m]`, `updates` is `[m, …]`.
    ScatterRows = "scatter_rows", Index, (3, 3), { /// How an update meets what is there.
        function: ScatterFn };
    /// `result[…, indices[…, j, …], …] ∘= updates[…, j, …]`: indices and updates have the operand's rank.
    ScatterAlong = "scatter_along", Index, (3, 3), { /// How an update meets what is there.
        function: ScatterFn, /// The indexed axis.
        axis: usize };

    // Order.
    /// Values and indices (i64) sorted along `axis`, stable.
    Sort = "sort", Order, (1, 1), { /// The axis.
        axis: usize, /// Largest first.
        descending: bool };
    /// Values and indices (i64) of the `k` extreme elements along `axis`, in order; the lower index first among equals.
    TopK = "top_k", Order, (1, 1), { /// The axis.
        axis: usize, /// How many.
        k: Dim, /// Largest or smallest.
        largest: bool };

    /// Random numbers, the same for the same seed: uniform in [0, 1) or standard normal.
    Random = "random", Leaf, (0, 0), { /// Element type.
        dtype: DType, /// Result shape.
        shape: Vec<Dim>, /// `uniform` or `normal`.
        distribution: String, /// Seed.
        seed: i64 };

    // Control: operands are passed as the sub-graph's inputs, values of the surrounding graph too.
    /// `then_branch` or `else_branch` by the first operand (bool scalar), the other operands being the inputs of both.
    If = "if", Control, (1, MANY), { /// Taken when true.
        then_branch: Arc<Graph>, /// Taken when false.
        else_branch: Arc<Graph>, /// Result types.
        types: Vec<Type> };
    /// ONNX's Loop. Operands: trip count (i64 scalar), condition (bool scalar), `carried` initial values, captured values.
    /// The body takes (iteration, condition, carried…, captured…) and gives (condition, carried…, scanned…); results are
    /// the carried values, then the scanned ones stacked along a new axis 0.
    Loop = "loop", Control, (2, MANY), { /// The body.
        body: Arc<Graph>, /// How many carried values.
        carried: usize, /// Result types.
        types: Vec<Type> };
    /// ONNX's Scan. Operands: `states` initial values, scanned inputs, captured values. The body takes (states…, slices…,
    /// captured…) and gives (states…, slices…).
    ScanLoop = "scan_loop", Control, (1, MANY), { /// The body.
        body: Arc<Graph>, /// How many states.
        states: usize, /// Scanned axis of each scanned input.
        input_axes: Vec<usize>, /// Per scanned input: from the end.
        input_reverse: Vec<bool>, /// Stacked axis of each scanned output.
        output_axes: Vec<usize>, /// Per scanned output: from the end.
        output_reverse: Vec<bool>, /// Result types.
        types: Vec<Type> };

    /// What is computed together: `body`'s inputs are the operands, its outputs the results. See `kernel` for the bodies
    /// that are kernels.
    Kernel = "kernel", Control, (0, MANY), { /// What the kernel computes.
        body: Arc<Graph> };

    /// A host function by name, for data-dependent shapes; sizes that only the data know are fresh symbols in `types`.
    Host = "host", Host, (0, MANY), { /// Name in the table of host functions.
        function: String, /// Its integer parameters.
        ints: Vec<i64>, /// Its float parameters.
        reals: Vec<Real>, /// Result types.
        types: Vec<Type> };

    // Composites: equal to `composite::expand`.
    /// exp(x - max) / Σ exp(x - max) along `axis`.
    Softmax = "softmax", Composite, (1, 1), { /// The axis.
        axis: usize };
    /// x·Φ(x); `tanh` is the approximation by tanh.
    Gelu = "gelu", Composite, (1, 1), { /// Use the tanh approximation.
        tanh: bool };
    /// x·sigmoid(x).
    Silu = "silu", Composite, (1, 1), {};
    /// (x - mean)/√(var + ε)·scale + bias over `axis` and all axes after it; operands x, scale, bias.
    LayerNorm = "layer_norm", Composite, (3, 3), { /// First normalised axis.
        axis: usize, /// ε.
        epsilon: Real };
    /// x/√(mean(x²) + ε)·scale over `axis` and all axes after it; operands x, scale.
    RmsNorm = "rms_norm", Composite, (2, 2), { /// First normalised axis.
        axis: usize, /// ε.
        epsilon: Real };
    /// Rotary embedding of the last axis of x; operands x, cos, sin (broadcastable to x's first half). `interleaved` pairs neighbours, otherwise halves.
    Rotary = "rotary", Composite, (3, 3), { /// Pairs are neighbours.
        interleaved: bool };
    /// softmax(scale·q·kᵀ + mask)·v with q `[b, h, s, d]`, k `[b, g, t, d]`, v `[b, g, t, e]`, g dividing h, and an optional
    /// additive mask broadcastable to `[b, h, s, t]`.
    Attention = "attention", Composite, (3, 4), { /// Factor of the scores.
        scale: Real };
    /// Contraction in which each row chooses its weight: operands x, weights `[e, …]`, ids. `spec` is the contraction of x with
    /// `gather(weights, ids)`, whose leading axes are those of ids; the gathered weights are never materialised.
    Routed = "routed", Composite, (3, 3), { /// x with the gathered weights.
        spec: Contraction, /// Result element type.
        dtype: DType };
}

impl Op {
    /// Whether equal operands give equal results and nothing else happens, so that equal nodes may be merged.
    pub fn is_pure(&self) -> bool {
        !matches!(self, Op::Input { .. } | Op::Random { .. })
    }

    /// The sub-graphs.
    pub fn subgraphs(&self) -> Vec<&Arc<Graph>> {
        match self {
            Op::If { then_branch, else_branch, .. } => vec![then_branch, else_branch],
            Op::Loop { body, .. } | Op::ScanLoop { body, .. } | Op::Kernel { body } => vec![body],
            _ => Vec::new(),
        }
    }
}
