//! What the names of a function stand for while it is read: index expressions, numbers, and arrays in memory.

use tarsia_tensor::{Atom, DType, Dim};

/// Factors of the largest expression, and alternatives of the largest choice: real kernels have a dozen.
const HEAVIEST: usize = 256;
const MOST: usize = 16;

/// How many factors an expression has.
fn weight(dim: &Dim) -> usize {
    let Dim::Poly(poly) = dim else { return 1 };
    let factor = |factor: &Atom| match factor {
        Atom::Symbol(_) => 1,
        Atom::FloorDiv(a, b) | Atom::Mod(a, b) | Atom::Min(a, b) | Atom::Max(a, b) => 1 + weight(a) + weight(b),
    };
    poly.terms.iter().map(|term| 1 + term.factors.iter().map(factor).sum::<usize>()).sum()
}

/// A value.
#[derive(Debug, Clone)]
pub(super) enum Value {
    /// An integer, an index or a truth value.
    Number(Dim),
    /// A float.
    Real(f64),
    /// An array.
    Array(Array),
    /// The first where the condition (0 or 1) is 1, else the second.
    Choice(Dim, Box<[Value; 2]>),
    /// Something that timing does not depend on: the base address of flags, say.
    Opaque,
    /// What could not be read; it has been complained of.
    Unread,
}

/// Where an array's memory is.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Root {
    /// The parameter of this index.
    Param(usize),
    /// A scratch memory from a byte address on, and how many bytes belong to the array.
    Local { space: &'static str, address: i64, bytes: i64 },
}

/// An array in memory: offset, sizes and strides in elements.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Array {
    pub root: Root,
    pub dtype: DType,
    pub offset: Dim,
    pub sizes: Vec<Dim>,
    pub strides: Vec<Dim>,
}

impl Value {
    /// The value as an index expression.
    pub fn number(&self) -> Option<Dim> {
        match self {
            Value::Number(dim) => Some(dim.clone()),
            Value::Choice(condition, sides) => {
                let (a, b) = (sides[0].number()?, sides[1].number()?);
                Some(b.clone() + condition.clone() * (a - b))
            }
            _ => None,
        }
    }

    /// How many alternatives there are.
    pub fn alternatives(&self) -> usize {
        match self {
            Value::Choice(_, sides) => sides.iter().map(Value::alternatives).sum(),
            _ => 1,
        }
    }

    /// Whether all expressions in it are of a size that is still handled quickly.
    pub fn is_small(&self) -> bool {
        match self {
            Value::Number(dim) => weight(dim) <= HEAVIEST,
            Value::Array(array) => {
                let dims = array.sizes.iter().chain(&array.strides).chain([&array.offset]);
                dims.into_iter().all(|dim| weight(dim) <= HEAVIEST)
            }
            Value::Choice(_, sides) => self.alternatives() <= MOST && sides.iter().all(Value::is_small),
            Value::Real(_) | Value::Opaque | Value::Unread => true,
        }
    }

    /// What `change` makes of every alternative.
    pub fn map(&self, change: &mut impl FnMut(&Value) -> Option<Value>) -> Option<Value> {
        match self {
            Value::Choice(condition, sides) => {
                let sides = [sides[0].map(change)?, sides[1].map(change)?];
                Some(Value::Choice(condition.clone(), Box::new(sides)))
            }
            leaf => change(leaf),
        }
    }

    /// The value where a condition is known to be 1 (`taken` 0) or 0 (`taken` 1).
    pub fn assume(&self, condition: &Dim, taken: usize) -> Value {
        match self {
            Value::Choice(known, sides) if known == condition => sides[taken].assume(condition, taken),
            Value::Choice(known, sides) => {
                let sides = [sides[0].assume(condition, taken), sides[1].assume(condition, taken)];
                Value::Choice(known.clone(), Box::new(sides))
            }
            leaf => leaf.clone(),
        }
    }
}

impl Array {
    /// A dense array at the start of its memory.
    pub fn dense(root: Root, dtype: DType, sizes: Vec<Dim>) -> Array {
        let strides = dense_strides(&sizes);
        Array { root, dtype, offset: Dim::ZERO, sizes, strides }
    }

    /// Bytes of an element.
    pub fn element_bytes(&self) -> i64 {
        (self.dtype.bits() as i64 / 8).max(1)
    }

    /// The same elements with as few axes as possible: axes of size 1 dropped, neighbours that follow each other merged.
    pub fn merged(&self) -> Array {
        let mut axes: Vec<(Dim, Dim)> = Vec::new();
        for (size, stride) in self.sizes.iter().zip(&self.strides) {
            if size.is(1) {
                continue;
            }
            match axes.last_mut() {
                Some((outer, pitch)) if *pitch == size.clone() * stride.clone() => {
                    *outer = outer.clone() * size.clone();
                    *pitch = stride.clone();
                }
                _ => axes.push((size.clone(), stride.clone())),
            }
        }
        if axes.is_empty() {
            axes.push((Dim::ONE, Dim::ONE));
        }
        let (sizes, strides) = axes.into_iter().unzip();
        Array { sizes, strides, ..self.clone() }
    }

    /// Whether the elements follow each other.
    pub fn is_dense(&self) -> bool {
        let merged = self.merged();
        merged.sizes.len() == 1 && merged.strides[0].is(1)
    }

    /// Columns `from..from + count` of the last of two axes.
    pub fn columns(&self, from: i64, count: i64) -> Array {
        let mut part = self.clone();
        if let (Some(size), Some(stride)) = (part.sizes.last_mut(), part.strides.last()) {
            part.offset = part.offset + Dim::Const(from) * stride.clone();
            *size = Dim::Const(count);
        }
        part
    }

    /// The array as a matrix: one axis becomes a row.
    pub fn matrix(&self) -> Option<Array> {
        match self.sizes.len() {
            2 => Some(self.clone()),
            1 => {
                let mut row = self.clone();
                row.strides.insert(0, row.sizes[0].clone() * row.strides[0].clone());
                row.sizes.insert(0, Dim::ONE);
                Some(row)
            }
            _ => {
                let merged = self.merged();
                if merged.sizes.len() <= 2 && merged.sizes.len() < self.sizes.len() { merged.matrix() } else { None }
            }
        }
    }
}

/// Strides of a dense array.
pub(super) fn dense_strides(sizes: &[Dim]) -> Vec<Dim> {
    let mut strides = vec![Dim::ONE; sizes.len()];
    for axis in (1..sizes.len()).rev() {
        strides[axis - 1] = strides[axis].clone() * sizes[axis].clone();
    }
    strides
}

/// 1 where `a < b`, else 0.
pub(super) fn less(a: &Dim, b: &Dim) -> Dim {
    (b.clone() - a.clone()).minimum(&Dim::ONE).maximum(&Dim::ZERO)
}

/// 1 where the two are equal, else 0.
pub(super) fn equal(a: &Dim, b: &Dim) -> Dim {
    Dim::ONE - less(a, b) - less(b, a)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_merge_where_they_follow_each_other() {
        let n = Dim::symbol("n");
        let array = Array::dense(Root::Param(0), DType::F32, vec![n.clone(), Dim::Const(1024), Dim::ONE]);
        assert!(array.is_dense());
        assert_eq!(array.merged().sizes, [n * Dim::Const(1024)]);
        assert!(!array.merged().matrix().unwrap().columns(0, 3).merged().sizes.is_empty());
        let part = Array { sizes: vec![Dim::Const(2), Dim::Const(3)], strides: vec![Dim::Const(4), Dim::ONE], ..array };
        assert!(!part.is_dense());
    }

    #[test]
    fn comparisons_are_numbers() {
        let (x, y) = (Dim::symbol("x"), Dim::symbol("y"));
        for (a, b) in [(3, 3), (2, 5), (9, 1)] {
            let bind = |s: &tarsia_tensor::Symbol| Some(if s.name() == "x" { a } else { b });
            assert_eq!(less(&x, &y).eval(&bind).unwrap(), i64::from(a < b));
            assert_eq!(equal(&x, &y).eval(&bind).unwrap(), i64::from(a == b));
        }
    }
}
