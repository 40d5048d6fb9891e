//! Views of arrays: `memref.subview` and the like.

use tarsia_tensor::Dim;

use super::{
    super::{
        types::Memref,
        value::{Array, dense_strides},
    },
    Op, Reader, Result, Value,
};
use crate::import::text::Cursor;

impl<'m> Reader<'m> {
    pub(super) fn memory(&mut self, op: &Op<'m>) -> Result<Value> {
        let mut text = op.text;
        let before = text;
        if op.name == "memref.alloc" || op.name == "memref.alloca" {
            return Err(before.fault("memory without an address: the kernel is not scheduled yet"));
        }
        let value = self.value(&mut text)?;
        let change: Box<dyn Fn(&Array) -> Result<Array>> = match op.name {
            "memref.cast" | "memref.memory_space_cast" => Box::new(|array| Ok(array.clone())),
            "memref.subview" => {
                let [offsets, sizes, steps] = [(); 3].map(|()| self.indices(&mut text, '['));
                let (offsets, sizes, steps) = (offsets?, sizes?, steps?);
                let rank = result_type(&mut text, "to")?.sizes.len();
                Box::new(move |array| subview(array, &offsets, &sizes, &steps, rank, before))
            }
            "memref.reinterpret_cast" => {
                let found = self.reinterpreted(&mut text)?;
                Box::new(move |array| {
                    let (offset, sizes, strides) = found.clone();
                    Ok(Array { offset, sizes, strides, ..array.clone() })
                })
            }
            "memref.view" => {
                let shift = self.indices(&mut text, '[')?;
                let given = self.indices(&mut text, '[')?;
                let ty = result_type(&mut text, "to")?;
                Box::new(move |array| view(array, &shift, &given, &ty, before))
            }
            "memref.collapse_shape" => {
                let groups = groups(&mut text)?;
                Box::new(move |array| collapse(array, &groups, before))
            }
            "memref.expand_shape" => {
                let groups = groups(&mut text)?;
                text.expect("output_shape")?;
                let sizes = self.indices(&mut text, '[')?;
                Box::new(move |array| expand(array, &groups, &sizes, before))
            }
            name => return Err(before.fault(format!("`{name}` cannot be read"))),
        };
        let mut fault = None;
        let mut of_array = |value: &Value| match value {
            Value::Array(array) => change(array).map_err(|found| fault = Some(found)).ok().map(Value::Array),
            _ => None,
        };
        let changed = value.map(&mut of_array);
        changed.ok_or_else(|| fault.unwrap_or_else(|| before.fault("this is no array that is known")))
    }

    /// `to offset: [o], sizes: [s…], strides: [t…]`.
    fn reinterpreted(&self, text: &mut Cursor<'m>) -> Result<(Dim, Vec<Dim>, Vec<Dim>)> {
        text.expect("to")?;
        text.expect("offset:")?;
        let offset = self.indices(text, '[')?.into_iter().next().unwrap_or(Dim::ZERO);
        text.expect(",")?;
        text.expect("sizes:")?;
        let sizes = self.indices(text, '[')?;
        text.expect(",")?;
        text.expect("strides:")?;
        let strides = self.indices(text, '[')?;
        if strides.len() != sizes.len() {
            return Err(text.fault("sizes and strides differ in number"));
        }
        Ok((offset, sizes, strides))
    }
}

/// The type behind `: source to`.
fn result_type(text: &mut Cursor<'_>, word: &str) -> Result<Memref> {
    text.expect(":")?;
    Memref::read(text)?;
    text.expect(word)?;
    Memref::read(text)
}

/// `[[0, 1], [2]]`: how many axes each group has; they must be all, in order.
fn groups(text: &mut Cursor<'_>) -> Result<Vec<usize>> {
    let before = *text;
    let (mut sizes, mut next) = (Vec::new(), 0);
    for mut group in text.bracketed('[')?.parts() {
        let parts = group.bracketed('[')?.parts();
        for mut part in parts.iter().copied() {
            if part.integer()? != next {
                return Err(before.fault("the groups of axes are not in order"));
            }
            next += 1;
        }
        sizes.push(parts.len());
    }
    Ok(sizes)
}

fn subview(array: &Array, offsets: &[Dim], sizes: &[Dim], steps: &[Dim], rank: usize, at: Cursor<'_>) -> Result<Array> {
    let axes = array.sizes.len();
    if [offsets.len(), sizes.len(), steps.len()] != [axes; 3] {
        return Err(at.fault(format!("the array has {axes} axes")));
    }
    let mut part = array.clone();
    for (offset, stride) in offsets.iter().zip(&array.strides) {
        part.offset = part.offset + offset.clone() * stride.clone();
    }
    part.strides = array.strides.iter().zip(steps).map(|(stride, step)| stride.clone() * step.clone()).collect();
    part.sizes = sizes.to_vec();
    while part.sizes.len() > rank {
        let Some(unit) = part.sizes.iter().position(|size| size.is(1)) else {
            return Err(at.fault("the result has fewer axes than the part"));
        };
        part.sizes.remove(unit);
        part.strides.remove(unit);
    }
    Ok(part)
}

fn view(array: &Array, shift: &[Dim], given: &[Dim], ty: &Memref, at: Cursor<'_>) -> Result<Array> {
    let bytes = (ty.dtype.bits() as i64 / 8).max(1);
    let shift = shift.iter().cloned().sum::<Dim>().exact_div(&Dim::Const(bytes));
    let mut given = given.iter();
    let sizes = ty.sizes.iter().map(|size| size.map(Dim::Const).or_else(|| given.next().cloned()));
    let (Some(offset), Some(sizes)) = (shift, sizes.collect::<Option<Vec<_>>>()) else {
        return Err(at.fault("the view has another number of sizes, or does not begin at an element"));
    };
    let mut dense = Array::dense(array.root.clone(), ty.dtype, sizes);
    dense.offset = offset;
    Ok(dense)
}

fn collapse(array: &Array, groups: &[usize], at: Cursor<'_>) -> Result<Array> {
    if groups.iter().sum::<usize>() != array.sizes.len() {
        return Err(at.fault(format!("the array has {} axes", array.sizes.len())));
    }
    let mut collapsed = Array { sizes: Vec::new(), strides: Vec::new(), ..array.clone() };
    let mut start = 0;
    for &count in groups {
        let axes = start..start + count;
        let group =
            Array { sizes: array.sizes[axes.clone()].to_vec(), strides: array.strides[axes].to_vec(), ..array.clone() };
        let merged = group.merged();
        if merged.sizes.len() > 1 {
            return Err(at.fault("axes are merged that do not follow each other in memory"));
        }
        collapsed.sizes.extend(merged.sizes);
        collapsed.strides.extend(merged.strides);
        start += count;
    }
    Ok(collapsed)
}

fn expand(array: &Array, groups: &[usize], sizes: &[Dim], at: Cursor<'_>) -> Result<Array> {
    if groups.len() != array.sizes.len() || groups.iter().sum::<usize>() != sizes.len() {
        return Err(at.fault(format!("the array has {} axes", array.sizes.len())));
    }
    let mut expanded = Array { sizes: sizes.to_vec(), strides: Vec::new(), ..array.clone() };
    let mut start = 0;
    for (&count, stride) in groups.iter().zip(&array.strides) {
        let inner = dense_strides(&sizes[start..start + count]);
        expanded.strides.extend(inner.into_iter().map(|step| step * stride.clone()));
        start += count;
    }
    Ok(expanded)
}
