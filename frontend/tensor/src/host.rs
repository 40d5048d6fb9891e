//! Host functions: what yields shapes that only the data determine. The reference evaluation and the runtime call these.
//!
//! | name | operands | ints | reals | results |
//! |---|---|---|---|---|
//! | `nonzero` | x | | | i64 `[rank, n]`, coordinates in row-major order |
//! | `unique` | x | sorted, then the axis (none: flattened) | | values, i64 first places, inverse, counts |
//! | `non_max_suppression` | boxes `[b, n, 4]`, scores `[b, c, n]`, then optional scalars: most per class, IoU limit, least score | boxes are centre and size | | i64 `[k, 3]`: batch, class, box |
//! | `compress` | x, bool `[m]` | the axis (none: flattened) | | kept elements |
//! | `range` | start, limit, delta (scalars of one type) | | | `[n]` |
//! | `reshape` | x, shape | zero is a size (not "keep") | | x under the shape, one -1 filled in |
//! | `broadcast` | x, shape | | | x and the shape broadcast against each other |
//! | `slice` | x, starts, ends, then optional axes, steps | | | slice, negative indices from the end, clamped |
//! | `pad` | x, pads (before…, after…; negative crops), then optional value, axes | mode: 0 constant, 1 reflect, 2 edge, 3 wrap | | padded |
//! | `tile` | x, repeats | | | repeated |
//! | `constant_of_shape` | shape, value (one element) | | | filled |
//! | `top_k` | x, k (one element) | axis, largest | | values, i64 indices |
//! | `one_hot` | indices, depth (one element), values (off, on) | axis of the new axis | | one-hot |
//! | `split` | x, sizes | axis | | the parts |
//! | `resize` | x, scales, sizes, region of interest (empty where absent) | see [`resize`](self) below | | resampled |
//! | `dft` | x `[…, 1 or 2]`, length (or none), axis | inverse, one side | | spectrum |
//! | `stft` | x `[b, n, 1 or 2]`, step, window (or empty), length (or none) | one side | | `[b, frames, bins, 2]` |
//! | `mel_weight_matrix` | mel bins, length of the transform, sample rate, low and high edge in Hz | ONNX number of the result's type | | `[bins, mel bins]` |
//! | `det` | matrices | | | determinants |
//! | `col2im` | columns `[n, c·block, positions]`, image shape, block shape | dilations…, strides…, pads (before…, after…) | | images `[n, c, …]` |
//! | `roi_align` | x `[n, c, h, w]`, regions `[r, 4]`, batch of each | height, width, samples (0: by the region's size), half pixel, largest | scale | `[r, c, height, width]` |
//! | `cast` | x | ONNX number of the type, saturate | | converted, from and to text too |
//! | `bit_cast` | x | ONNX number of the type | | the same bits as another type |
//! | `texts` | u8: each text behind its length (u64) | shape | | texts |
//! | `string_concat`, `string_equal` | two texts that broadcast | | | joined; bool |
//! | `string_split` | texts, delimiter (empty: white space) | most cuts (negative: all) | | parts along a new axis, i64 counts |
//! | `regex_full_match` | texts, pattern | | | bool |
//! | `string_normalize` | texts, stop words | case (0 as it is, 1 lower, 2 upper), stop words are case-sensitive | | texts that are left |
//! | `label_encode` | x, keys, values, default | | | the value of each key |
//! | `tf_idf` | x, pool | weighting (0 TF, 1 IDF, 2 TFIDF), least and most length, most skipped, how many lengths, their starts…, columns… | weights | `[…, columns]` |
//! | `sequence` | any | | | the sequence of them |
//! | `sequence_at` | sequence, then an optional place (negative: from the end) | | | the element |
//! | `sequence_insert` | sequence, element, then an optional place (none: the end) | | | the longer sequence |
//! | `sequence_erase` | sequence, then an optional place (none: the last) | | | the shorter sequence |
//! | `sequence_concat` | sequence | axis (negative: from the end), new axis | | its elements joined |
//! | `sequence_split` | x, then optional sizes (a scalar: of each part; none: 1) | axis, keep the axis | | sequence of the parts |
//! | `map` | keys `[n]`, values `[n]` | | | map |
//! | `map_parts` | map | | | keys, values |
//! | `map_row` | map from integers | columns (negative: one for each value), numbers become texts of 6 decimals | | `[1, columns]` |
//! | `pairwise_coupling` | f32 `[rows, pairs]`: how likely the first of two classes is | classes | | `[rows, classes]` |
//! | `image` | bytes of an encoded image | RGB (0), BGR (1), gray (2) | | u8 `[height, width, channels]`; empty if it does not decode |
//! | `random` | shape, then an optional seed in place of the other | seed (its low 32 bits), uniform (0) or normal | | f64, as NumPy's `RandomState` |
//! | `gather`, `take_along` | x, indices | axis | | slices, or single elements, along the axis |
//! | `scatter_rows` | x `[n, …]`, rows `[m]`, updates `[m, …]` | | | x with those rows replaced |
//! | `scatter_along` | x, indices, updates | axis | | x with single elements along the axis replaced |
//! | `transpose` | x | permutation | | its axes in that order |
//! | `strided` | x, starts, sizes | steps | | so many elements of each axis |
//! | `concat` | any | axis | | joined |
//! | `select` | bool, a, b, which broadcast | | | `condition ? a : b` |
//! | `zip_map` | x `[rows, n]`, keys `[n]` | | | sequence of a map for each row |
//! | `tokenize` | texts, expressions, padding | expressions separate (else the only one is a token), markers, fewest characters | | tokens along a new axis |
//! | `murmur_hash3` | x | unsigned, seed | | a 32-bit hash of each element |
//!
//! Axes are given from the front, `0 <= axis < rank`. `resize` takes the ints mode (0 nearest, 1 linear, 2 cubic), coordinates
//! (0 half_pixel, 1 half_pixel_symmetric, 2 pytorch_half_pixel, 3 align_corners, 4 asymmetric, 5 tf_crop_and_resize), nearest
//! (0 round_prefer_floor, 1 round_prefer_ceil, 2 floor, 3 ceil), exclude_outside, antialias, aspect (0 stretch, 1 not_larger,
//! 2 not_smaller), then the axes that scales, sizes and region are about (none: all), and the reals cubic coefficient and
//! extrapolation value. Results keep the element type of x unless said otherwise.

mod arranged;
mod coupling;
mod image;
mod random;
mod regions;
mod resample;
mod select;
mod sequence;
mod shape;
mod spectrum;
mod strings;
mod tokens;

use thiserror::Error;

use crate::{DType, Shape, Tensor, TensorError, element_count};

/// A host function's row.
pub struct Function {
    /// Name.
    pub name: &'static str,
    /// Fewest and most operands.
    pub operands: (usize, usize),
    /// How many results; `None` if the operands say.
    pub results: Option<usize>,
    /// Why no tile program does it.
    pub why: &'static str,
    run: fn(&Call) -> Result<Vec<Tensor>, HostError>,
}

const SHAPE: &str = "the data decide the result's shape";
const TEXTS: &str = "texts";
const SEQUENCES: &str = "sequences";
const MAPS: &str = "maps";

const fn row(
    name: &'static str,
    operands: (usize, usize),
    results: Option<usize>,
    why: &'static str,
    run: fn(&Call) -> Result<Vec<Tensor>, HostError>,
) -> Function {
    Function { name, operands, results, why, run }
}

/// All host functions.
pub const FUNCTIONS: &[Function] = &[
    row("nonzero", (1, 1), Some(1), SHAPE, select::nonzero),
    row("unique", (1, 1), Some(4), SHAPE, select::unique),
    row("non_max_suppression", (2, 5), Some(1), SHAPE, select::non_max_suppression),
    row("compress", (2, 2), Some(1), SHAPE, select::compress),
    row("top_k", (2, 2), Some(2), SHAPE, select::top_k),
    row("range", (3, 3), Some(1), SHAPE, shape::range),
    row("reshape", (2, 2), Some(1), SHAPE, shape::reshape),
    row("broadcast", (2, 2), Some(1), SHAPE, shape::broadcast),
    row("slice", (3, 5), Some(1), SHAPE, shape::slice),
    row("pad", (2, 4), Some(1), SHAPE, shape::pad),
    row("tile", (2, 2), Some(1), SHAPE, shape::tile),
    row("constant_of_shape", (2, 2), Some(1), SHAPE, shape::constant_of_shape),
    row("one_hot", (3, 3), Some(1), SHAPE, shape::one_hot),
    row("split", (2, 2), None, SHAPE, shape::split),
    row("resize", (4, 4), Some(1), SHAPE, resample::resize),
    row("dft", (3, 3), Some(1), "the length may be run-time data", spectrum::dft),
    row("stft", (4, 4), Some(1), SHAPE, spectrum::stft),
    row("mel_weight_matrix", (5, 5), Some(1), SHAPE, spectrum::mel_weight_matrix),
    row("det", (1, 1), Some(1), "elimination whose pivots the data decide", regions::det),
    row("col2im", (3, 3), Some(1), SHAPE, regions::col2im),
    row("roi_align", (3, 3), Some(1), "the data decide how many samples a region takes", regions::roi_align),
    row("cast", (1, 1), Some(1), "texts, and elements packed below a byte", strings::cast),
    row("bit_cast", (1, 1), Some(1), "bits are read as another type", strings::bit_cast),
    row("texts", (1, 1), Some(1), TEXTS, strings::texts),
    row("string_concat", (2, 2), Some(1), TEXTS, strings::string_concat),
    row("string_equal", (2, 2), Some(1), TEXTS, strings::string_equal),
    row("string_split", (2, 2), Some(2), TEXTS, strings::string_split),
    row("regex_full_match", (2, 2), Some(1), TEXTS, strings::regex_full_match),
    row("string_normalize", (2, 2), Some(1), TEXTS, strings::string_normalize),
    row("label_encode", (4, 4), Some(1), "texts and tables of keys", strings::label_encode),
    row("tf_idf", (2, 2), Some(1), TEXTS, strings::tf_idf),
    row("sequence", (0, usize::MAX), Some(1), SEQUENCES, sequence::sequence),
    row("sequence_at", (1, 2), Some(1), SEQUENCES, sequence::at),
    row("sequence_insert", (2, 3), Some(1), SEQUENCES, sequence::insert),
    row("sequence_erase", (1, 2), Some(1), SEQUENCES, sequence::erase),
    row("sequence_concat", (1, 1), Some(1), SEQUENCES, sequence::joined),
    row("sequence_split", (1, 2), Some(1), SEQUENCES, sequence::parts),
    row("map", (2, 2), Some(1), MAPS, sequence::map),
    row("map_parts", (1, 1), Some(2), MAPS, sequence::map_parts),
    row("map_row", (1, 1), Some(1), MAPS, sequence::map_row),
    row("pairwise_coupling", (1, 1), Some(1), "an iteration until it converges", coupling::pairwise),
    row("image", (1, 1), Some(1), "image decoding", image::decode),
    row("random", (1, 2), Some(1), "a stream of numbers that its order defines", random::drawn),
    row("gather", (2, 2), Some(1), TEXTS, arranged::gather),
    row("take_along", (2, 2), Some(1), TEXTS, arranged::take_along),
    row("scatter_rows", (3, 3), Some(1), TEXTS, arranged::scatter_rows),
    row("scatter_along", (3, 3), Some(1), TEXTS, arranged::scatter_along),
    row("transpose", (1, 1), Some(1), TEXTS, arranged::transpose),
    row("strided", (3, 3), Some(1), TEXTS, arranged::strided),
    row("concat", (1, usize::MAX), Some(1), TEXTS, arranged::joined),
    row("select", (3, 3), Some(1), TEXTS, arranged::select),
    row("zip_map", (2, 2), Some(1), MAPS, sequence::zip_map),
    row("tokenize", (3, 3), Some(1), TEXTS, tokens::tokenize),
    row("murmur_hash3", (1, 1), Some(1), "texts and bytes, whatever their length", tokens::murmur_hash3),
];

/// Elements that [`call`] may give in one result.
pub const DEFAULT_LIMIT: usize = 1 << 31;

/// Why a host function fails.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum HostError {
    /// No row has this name.
    #[error("there is no host function `{0}`")]
    Unknown(String),
    /// The number of operands or parameters is wrong.
    #[error("`{function}` takes {expected} {what}, but {found} were given")]
    Arity {
        /// Function name.
        function: &'static str,
        /// What is counted.
        what: &'static str,
        /// How many it takes.
        expected: String,
        /// How many were given.
        found: usize,
    },
    /// An operand does not fit.
    #[error("`{function}`: {reason}")]
    Operand {
        /// Function name.
        function: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// The result would be too large.
    #[error("`{function}` would give {shape:?}, more than {limit} elements; raise the limit if that is meant")]
    TooLarge {
        /// Function name.
        function: &'static str,
        /// Shape of the result.
        shape: Vec<usize>,
        /// The limit.
        limit: usize,
    },
    /// Data cannot be made into a tensor.
    #[error("`{function}`: {error}")]
    Tensor {
        /// Function name.
        function: &'static str,
        /// What is wrong.
        error: TensorError,
    },
}

/// The row of a function.
pub fn find(function: &str) -> Option<&'static Function> {
    FUNCTIONS.iter().find(|row| row.name == function)
}

/// The results of a host function; see the table of this module.
///
/// # Errors
/// If there is no such function, its operands or parameters do not fit, or a result is larger than [`DEFAULT_LIMIT`].
pub fn call(function: &str, ints: &[i64], reals: &[f64], operands: &[Tensor]) -> Result<Vec<Tensor>, HostError> {
    call_within(function, ints, reals, operands, DEFAULT_LIMIT)
}

/// As [`call`], with results of at most `limit` elements.
///
/// # Errors
/// As [`call`].
pub fn call_within(
    function: &str,
    ints: &[i64],
    reals: &[f64],
    operands: &[Tensor],
    limit: usize,
) -> Result<Vec<Tensor>, HostError> {
    let row = find(function).ok_or_else(|| HostError::Unknown(function.to_owned()))?;
    let (low, high) = row.operands;
    if !(low..=high).contains(&operands.len()) {
        let expected = if low == high { low.to_string() } else { format!("{low} to {high}") };
        return Err(HostError::Arity { function: row.name, what: "operands", expected, found: operands.len() });
    }
    let call = Call { function: row.name, ints, reals, operands, limit };
    operands.iter().try_for_each(|tensor| tensor.present()).map_err(|error| call.tensor_error(error))?;
    (row.run)(&call)
}

/// A call with as many operands as the function's row says.
struct Call<'a> {
    function: &'static str,
    ints: &'a [i64],
    reals: &'a [f64],
    operands: &'a [Tensor],
    limit: usize,
}

impl Call<'_> {
    fn fault(&self, reason: impl Into<String>) -> HostError {
        HostError::Operand { function: self.function, reason: reason.into() }
    }

    fn made(&self, tensor: Result<Tensor, TensorError>) -> Result<Vec<Tensor>, HostError> {
        tensor.map(|tensor| vec![tensor]).map_err(|error| self.tensor_error(error))
    }

    fn tensor_error(&self, error: TensorError) -> HostError {
        HostError::Tensor { function: self.function, error }
    }

    fn int(&self, at: usize) -> Result<i64, HostError> {
        self.ints.get(at).copied().ok_or_else(|| HostError::Arity {
            function: self.function,
            what: "integer parameters",
            expected: format!("at least {}", at + 1),
            found: self.ints.len(),
        })
    }

    fn flag(&self, at: usize) -> bool {
        self.ints.get(at).is_some_and(|&value| value != 0)
    }

    /// The integer parameter `at` as an axis below `rank`.
    fn axis(&self, at: usize, rank: usize) -> Result<usize, HostError> {
        let axis = self.int(at)?;
        let inside = usize::try_from(axis).ok().filter(|&axis| axis < rank);
        inside.ok_or_else(|| self.fault(format!("axis {axis} is not in 0..{rank}")))
    }

    /// An operand's elements as integers.
    fn integers(&self, operand: usize) -> Result<Vec<i64>, HostError> {
        self.operands[operand].numbers().map(|numbers| numbers.to_i64()).map_err(|error| self.tensor_error(error))
    }

    /// An optional operand's elements as integers.
    fn optional_integers(&self, operand: usize) -> Result<Option<Vec<i64>>, HostError> {
        if operand < self.operands.len() { self.integers(operand).map(Some) } else { Ok(None) }
    }

    /// An operand's elements as floats.
    fn floats(&self, operand: usize) -> Result<Vec<f64>, HostError> {
        self.operands[operand].numbers().map(|numbers| numbers.to_f64()).map_err(|error| self.tensor_error(error))
    }

    /// An operand's only element.
    fn only<T: Copy>(&self, values: &[T], name: &str) -> Result<T, HostError> {
        match values {
            [value] => Ok(*value),
            _ => Err(self.fault(format!("{name} has {} elements instead of 1", values.len()))),
        }
    }

    /// Sizes, none of them negative, within the limit.
    fn sizes(&self, sizes: &[i64]) -> Result<Shape, HostError> {
        let shape: Option<Shape> = sizes.iter().map(|&size| usize::try_from(size).ok()).collect();
        let shape = shape.ok_or_else(|| self.fault(format!("the shape {sizes:?} has a negative size")))?;
        self.within_limit(&shape)?;
        Ok(shape)
    }

    /// A size of 0 does not make the others bounded: axes are walked one by one.
    fn within_limit(&self, shape: &[usize]) -> Result<(), HostError> {
        match element_count(&shape.iter().map(|&size| size.max(1)).collect::<Vec<_>>()) {
            Some(count) if count <= self.limit => Ok(()),
            _ => Err(HostError::TooLarge { function: self.function, shape: shape.to_vec(), limit: self.limit }),
        }
    }

    /// A list of axes, negative ones from the end, none twice.
    fn axes(&self, axes: &[i64], rank: usize) -> Result<Vec<usize>, HostError> {
        let mut seen = vec![false; rank];
        let check = |&axis: &i64| {
            let found = if axis < 0 { axis.checked_add(rank as i64) } else { Some(axis) };
            let found = found.and_then(|axis| usize::try_from(axis).ok()).filter(|&axis| axis < rank);
            let found = found.ok_or_else(|| self.fault(format!("axis {axis} is not an axis of {rank}")))?;
            if std::mem::replace(&mut seen[found], true) {
                return Err(self.fault(format!("axis {axis} is given twice")));
            }
            Ok(found)
        };
        axes.iter().map(check).collect()
    }

    fn integer_tensor(&self, shape: &[usize], values: Vec<i64>) -> Result<Tensor, HostError> {
        Tensor::from_numbers(DType::I64, shape, &crate::Numbers::Int(values)).map_err(|error| self.tensor_error(error))
    }
}

#[cfg(test)]
mod tests;
