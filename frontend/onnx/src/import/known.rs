//! Small tensors whose elements are known at import, as expressions over the symbols: what shape arithmetic computes.

use tarsia_tensor::{Class, DType, Dim, Numbers, Overflow, Tensor};

/// Tensors with more elements are not evaluated at import.
const MOST_ELEMENTS: usize = 1024;
/// Floats with larger numerators or denominators are not: arithmetic on them would round.
const EXACT: i64 = 1 << 24;

/// A quotient of a symbolic integer and a positive integer: what shape arithmetic in floats needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Element {
    pub numerator: Dim,
    pub denominator: i64,
}

impl Element {
    /// `numerator / denominator` for a positive denominator, in lowest terms as far as the numerator is known.
    pub fn ratio(numerator: Dim, denominator: i64) -> Element {
        match numerator.exact_div(&Dim::Const(denominator)) {
            Some(whole) => Element::from(whole),
            None => {
                let divisor = numerator.as_const().map_or(1, |n| gcd(n.unsigned_abs(), denominator.unsigned_abs()));
                let divisor = i64::try_from(divisor).unwrap_or(1).max(1);
                let numerator = numerator.exact_div(&Dim::Const(divisor)).unwrap_or(numerator);
                Element { numerator, denominator: denominator / divisor }
            }
        }
    }

    /// The integer, if it is one.
    pub fn dim(&self) -> Option<&Dim> {
        (self.denominator == 1).then_some(&self.numerator)
    }

    /// The integer, if it is one without symbols.
    pub fn as_const(&self) -> Option<i64> {
        self.dim()?.as_const()
    }

    fn of_float(value: f64) -> Option<Element> {
        let mut denominator = 1i64;
        while denominator < EXACT && (value * denominator as f64).fract() != 0.0 {
            denominator *= 2;
        }
        let numerator = value * denominator as f64;
        // Negative zero has no integer that it equals in division.
        let exact =
            numerator.fract() == 0.0 && numerator.abs() < EXACT as f64 && !(value == 0.0 && value.is_sign_negative());
        exact.then(|| Element::ratio(Dim::Const(numerator as i64), denominator))
    }
}

impl From<Dim> for Element {
    fn from(numerator: Dim) -> Element {
        Element { numerator, denominator: 1 }
    }
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// A small tensor of known elements, row-major. Integer and bool tensors have integers without denominators.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Known {
    pub dtype: DType,
    pub shape: Vec<usize>,
    pub elements: Vec<Element>,
}

impl Known {
    /// A tensor of these elements, if they are few enough and fill the shape.
    pub fn new(dtype: DType, shape: Vec<usize>, elements: Vec<Element>) -> Option<Known> {
        let count = tarsia_tensor::element_count(&shape)?;
        (count <= MOST_ELEMENTS && count == elements.len()).then_some(Known { dtype, shape, elements })
    }

    /// An i64 vector.
    pub fn vector(dims: impl IntoIterator<Item = Dim>) -> Known {
        let elements: Vec<Element> = dims.into_iter().map(Element::from).collect();
        Known { dtype: DType::I64, shape: vec![elements.len()], elements }
    }

    /// An i64 scalar.
    pub fn scalar(dim: Dim) -> Known {
        Known { dtype: DType::I64, shape: Vec::new(), elements: vec![dim.into()] }
    }

    /// The elements of a small constant of integers, truth values or short floats.
    pub fn of_tensor(tensor: &Tensor) -> Option<Known> {
        if tensor.count() > MOST_ELEMENTS {
            return None;
        }
        let elements: Option<Vec<Element>> = match tensor.numbers().ok()? {
            Numbers::Int(values) => Some(values.into_iter().map(|v| Dim::Const(v).into()).collect()),
            Numbers::Uint(values) => {
                values.into_iter().map(|v| Some(Dim::Const(i64::try_from(v).ok()?).into())).collect()
            }
            Numbers::Float(_) if !matches!(tensor.dtype(), DType::F32 | DType::F64) => None,
            Numbers::Float(values) => values.into_iter().map(Element::of_float).collect(),
        };
        Known::new(tensor.dtype(), tensor.shape().to_vec(), elements?)
    }

    /// The tensor, if no element has symbols.
    pub fn to_tensor(&self) -> Option<Tensor> {
        let value = |element: &Element| Some((element.numerator.as_const()?, element.denominator));
        let values: Vec<(i64, i64)> = self.elements.iter().map(value).collect::<Option<_>>()?;
        let numbers = match self.dtype.class() {
            Class::Float => Numbers::Float(values.iter().map(|&(n, d)| n as f64 / d as f64).collect()),
            _ => Numbers::Int(values.iter().map(|&(n, _)| n).collect()).cast(DType::I64, self.dtype, Overflow::Special),
        };
        Tensor::from_numbers(self.dtype, &self.shape, &numbers).ok()
    }

    /// The elements as integers, if all are.
    pub fn dims(&self) -> Option<Vec<Dim>> {
        self.elements.iter().map(|element| element.dim().cloned()).collect()
    }

    /// The elements as integers without symbols, if all are.
    pub fn ints(&self) -> Option<Vec<i64>> {
        self.elements.iter().map(Element::as_const).collect()
    }

    /// The only element as an integer.
    pub fn only(&self) -> Option<&Dim> {
        match self.elements.as_slice() {
            [element] => element.dim(),
            _ => None,
        }
    }

    /// A tensor of another shape whose element at an index is this tensor's at `source(index)`; `None` if one is not there.
    pub fn rearranged(&self, shape: Vec<usize>, source: impl Fn(&[usize]) -> Option<usize>) -> Option<Known> {
        let count = tarsia_tensor::element_count(&shape).filter(|&count| count <= MOST_ELEMENTS)?;
        let elements: Option<Vec<Element>> =
            (0..count).map(|at| self.elements.get(source(&unravel(at, &shape))?).cloned()).collect();
        Known::new(self.dtype, shape, elements?)
    }

    /// The same elements under another shape.
    pub fn reshaped(&self, shape: Vec<usize>) -> Option<Known> {
        Known::new(self.dtype, shape, self.elements.clone())
    }
}

/// The index of the element at a row-major position.
pub(crate) fn unravel(mut at: usize, shape: &[usize]) -> Vec<usize> {
    let mut index = vec![0; shape.len()];
    for (axis, &size) in shape.iter().enumerate().rev() {
        let size = size.max(1);
        index[axis] = at % size;
        at /= size;
    }
    index
}

/// The row-major position of an index; axes of size 1 repeat, and missing leading axes of the shape are ignored.
pub(crate) fn ravel(index: &[usize], shape: &[usize]) -> Option<usize> {
    let skip = index.len().checked_sub(shape.len())?;
    index.get(skip..)?.iter().zip(shape).try_fold(0usize, |at, (&i, &size)| {
        let i = if size == 1 { 0 } else { i };
        (i < size).then_some(at * size + i)
    })
}
