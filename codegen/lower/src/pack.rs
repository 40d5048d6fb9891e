//! Constant data in the form that kernels read.
//!
//! Packing reads a constant once, in the order in which it lies in its file, and lets go of the file's pages behind it, so that a
//! model's weights are in memory once. Large constants are packed by all cores; what comes out does not depend on their number.

use std::{collections::BTreeMap, thread};

use bytemuck::{Pod, Zeroable};
use bytes::Bytes;
use half::{bf16, f16};
use tarsia_tensor::{Absent, Content, DType, Overflow, Tensor, mapped};
use tarsia_tile::{Fractal, Layout, Order, Param};

use crate::{builder::Packing, nest::stored_dtype};

/// Packed constants of a whole program and its sub-programs, so that none is packed twice.
#[derive(Default)]
pub(crate) struct Pool {
    /// By everything but the data: what has been packed so, and the result.
    packed: BTreeMap<String, Vec<(Content, Content)>>,
}

impl Pool {
    /// The packing of `tensor` for a parameter. Constants that are equal in content are packed once.
    pub fn pack(&mut self, tensor: &Tensor, packing: &Packing, param: &Param) -> Result<Content, String> {
        let Packing { base, rows, columns, whole, .. } = packing;
        let source = tensor.content();
        let key = format!("{} {} {rows:?} {whole} {columns:?} {base} {:?}", tensor.dtype(), source.len(), param.layout);
        let known = self.packed.entry(key).or_default();
        if let Some((_, packed)) = known.iter().find(|(other, _)| same(other, &source)) {
            return Ok(packed.clone());
        }
        let packed = match &source {
            Content::Bytes(bytes) => {
                let packed = pack(tensor, packing, param)?;
                mapped::release(bytes);
                packed.into()
            }
            Content::Absent(absent) => {
                let origin = format!("{} packed from {base} as {rows:?} × {columns:?}", absent.origin).into();
                Content::Absent(Absent { origin, bytes: packed_bytes(packing, param)? })
            }
        };
        known.push((source, packed.clone()));
        Ok(packed)
    }
}

/// Whether two constants have the same content; those that differ mostly do so near the start.
fn same(a: &Content, b: &Content) -> bool {
    a.place() == b.place() || a == b
}

/// How many bytes a packed constant takes.
fn packed_bytes(packing: &Packing, param: &Param) -> Result<usize, String> {
    let elements = packing.size().and_then(|size| param.layout.elements(&size));
    elements.and_then(|elements| param.dtype.bytes_of(elements)).ok_or_else(|| "a packed constant is too large".into())
}

/// The bytes of a constant as device memory holds them.
pub(crate) fn stored_bytes(tensor: &Tensor) -> Content {
    let (dtype, stored) = (tensor.dtype(), stored_dtype(tensor.dtype()));
    match tensor.content() {
        content if stored == dtype => content,
        Content::Bytes(bytes) => match tensor.numbers() {
            Ok(numbers) => numbers.encode(stored, Overflow::Special).into(),
            Err(_) => bytes.into(),
        },
        Content::Absent(Absent { origin, bytes }) => {
            let bytes = stored.bytes_of(tensor.count()).unwrap_or(bytes);
            Content::Absent(Absent { origin: format!("{origin} as {stored}").into(), bytes })
        }
    }
}

fn pack(tensor: &Tensor, packing: &Packing, param: &Param) -> Result<Bytes, String> {
    let Layout::Fractal(fractal) = param.layout else { return Err("a packed constant is a fractal".into()) };
    if stored_dtype(tensor.dtype()) == tensor.dtype() && tensor.dtype() == param.dtype {
        return copied(tensor.bytes(), param.dtype, packing, fractal);
    }
    match (tensor.dtype(), param.dtype) {
        (DType::F16, DType::F32) => {
            pack_from(tensor.bytes(), |bits| f16::from_le_bytes(bits).to_f32(), packing, fractal)
        }
        (DType::BF16, DType::F32) => {
            pack_from(tensor.bytes(), |bits| bf16::from_le_bytes(bits).to_f32(), packing, fractal)
        }
        (_, to) => {
            let numbers = tensor.numbers().map_err(|e| e.to_string())?;
            copied(&numbers.encode(to, Overflow::Special), to, packing, fractal)
        }
    }
}

/// Packs elements as they are.
fn copied(bytes: &[u8], dtype: DType, packing: &Packing, fractal: Fractal) -> Result<Bytes, String> {
    match dtype.bits() {
        8 => pack_from(bytes, u8::from_le_bytes, packing, fractal),
        16 => pack_from(bytes, u16::from_le_bytes, packing, fractal),
        32 => pack_from(bytes, u32::from_le_bytes, packing, fractal),
        64 => pack_from(bytes, u64::from_le_bytes, packing, fractal),
        _ => Err(format!("elements of {dtype} are not packed")),
    }
}

/// A matrix of `N`-byte elements at given distances in `data`, to be packed.
struct Source<'a, const N: usize, F> {
    data: &'a [[u8; N]],
    decode: F,
    rows: Vec<usize>,
    columns: Vec<usize>,
    fractal: Fractal,
    /// Whether neighbouring lanes are neighbours in the data.
    dense: bool,
}

fn pack_from<const N: usize, T: Pod + Send, F: Fn([u8; N]) -> T + Sync>(
    bytes: &[u8],
    decode: F,
    packing: &Packing,
    fractal: Fractal,
) -> Result<Bytes, String> {
    let (data, _) = bytes.as_chunks::<N>();
    let (mut rows, columns) = (offsets(packing.base, &packing.rows)?, offsets(0, &packing.columns)?);
    let extended;
    let data = match packing.rows.last() {
        Some(&(inner, _)) if inner > 0 && !inner.is_multiple_of(packing.whole) => {
            // Rows of zeros are read from behind the data.
            let (zeros, behind) = (data.len(), inner.next_multiple_of(packing.whole) - inner);
            let with_zeros = |part: &[usize]| part.iter().copied().chain(std::iter::repeat_n(zeros, behind)).collect();
            rows = rows.chunks(inner).flat_map(|part| -> Vec<usize> { with_zeros(part) }).collect();
            let most = columns.iter().copied().max().unwrap_or(0);
            extended = [data, &vec![[0u8; N]; most + 1]].concat();
            &extended[..]
        }
        _ => data,
    };
    let highest = |offsets: &[usize]| offsets.iter().copied().max().unwrap_or(0);
    let end = highest(&rows).checked_add(highest(&columns)).ok_or("a packed constant is too large")?;
    let size = [rows.len(), columns.len()];
    if !size.contains(&0) && end >= data.len() {
        return Err("a packed constant reaches beyond its data".into());
    }
    let elements = Layout::Fractal(fractal).elements(&size);
    let length =
        elements.and_then(|elements| elements.checked_mul(size_of::<T>())).ok_or("a packed constant is too large")?;
    let mut packed = Lines(bytemuck::allocation::zeroed_vec(length.div_ceil(LINE)));
    let lanes = if fractal.inner == Order::Z { &columns } else { &rows };
    let dense = lanes.windows(2).all(|pair| pair[1] == pair[0] + 1);
    let source = Source { data, decode, rows, columns, fractal, dense };
    source.fill::<T>(bytemuck::cast_slice_mut(&mut bytemuck::cast_slice_mut::<Line, u8>(&mut packed.0)[..length]));
    Ok(Bytes::from_owner(packed).slice(0..length))
}

/// Bytes of a cache line.
const LINE: usize = 64;

/// A cache line, which is also the widest vector: packed data start at one, so that no vector is in two.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C, align(64))]
struct Line([u8; LINE]);

struct Lines(Vec<Line>);

impl AsRef<[u8]> for Lines {
    fn as_ref(&self) -> &[u8] {
        bytemuck::cast_slice(&self.0)
    }
}

/// The position of every index of nested axes from `base` on, in row-major order.
fn offsets(base: i64, axes: &[(usize, i64)]) -> Result<Vec<usize>, String> {
    let all = axes.iter().fold(vec![base], |outer, &(size, stride)| {
        outer.iter().flat_map(|at| (0..size as i64).map(move |i| at + i * stride)).collect()
    });
    let position = |at: i64| usize::try_from(at).map_err(|_| "a packed constant starts before its data".to_owned());
    all.into_iter().map(position).collect()
}

/// Elements that are worth a thread.
const SHARE: usize = 1 << 18;
/// Bytes of a row that are read at a time where rows are copied.
const STRETCH: usize = 2048;

impl<const N: usize, F> Source<'_, N, F> {
    /// Whether the outer order of blocks goes along columns: a panel is all blocks of one row or column of blocks.
    fn panels_are_columns(&self) -> bool {
        self.fractal.outer == Order::N
    }

    /// All panels, in parallel.
    fn fill<T: Pod + Send>(&self, packed: &mut [T])
    where
        F: Fn([u8; N]) -> T + Sync,
    {
        let [r, c] = self.fractal.block;
        let (down, across) = (self.rows.len().div_ceil(r), self.columns.len().div_ceil(c));
        let (panels, blocks) = if self.panels_are_columns() { (across, down) } else { (down, across) };
        let panel = blocks * r * c;
        if panel == 0 || panels == 0 {
            return;
        }
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let threads = cores.min(packed.len() / SHARE).clamp(1, panels);
        let share = panels.div_ceil(threads);
        if threads == 1 {
            return self.fill_panels(0, panel, packed);
        }
        thread::scope(|scope| {
            for (i, part) in packed.chunks_mut(share * panel).enumerate() {
                scope.spawn(move || self.fill_panels(i * share, panel, part));
            }
        });
    }

    /// The panels from `first` on. Where lanes are neighbours in the source, a stretch of each row is cut into several panels, so
    /// that reading goes along rows.
    fn fill_panels<T: Pod>(&self, first: usize, panel: usize, packed: &mut [T])
    where
        F: Fn([u8; N]) -> T,
    {
        let [r, c] = self.fractal.block;
        let width = if self.panels_are_columns() { c } else { r };
        let together = if self.dense { (STRETCH / (width * N)).max(1) } else { 1 };
        for (i, group) in packed.chunks_mut(together * panel).enumerate() {
            for block in 0..panel / (r * c) {
                for (j, panel) in group.chunks_mut(panel).enumerate() {
                    let at = first + i * together + j;
                    let [row, column] =
                        if self.panels_are_columns() { [block * r, at * c] } else { [at * r, block * c] };
                    self.fill_block(row, column, &mut panel[block * r * c..][..r * c]);
                }
            }
        }
    }

    /// The block whose first element is at `row`, `column`.
    fn fill_block<T: Pod>(&self, row: usize, column: usize, block: &mut [T])
    where
        F: Fn([u8; N]) -> T,
    {
        let part = |offsets: &'_ [usize], first: usize, size: usize| first..offsets.len().min(first + size);
        let [r, c] = self.fractal.block;
        let rows = &self.rows[part(&self.rows, row, r)];
        let columns = &self.columns[part(&self.columns, column, c)];
        let (runs, lanes, width) = match self.fractal.inner {
            Order::Z => (rows, columns, c),
            Order::N => (columns, rows, r),
        };
        for (run, to) in runs.iter().zip(block.chunks_exact_mut(width)) {
            self.fill_run(*run, lanes, to);
        }
    }

    /// One run of lanes.
    fn fill_run<T: Pod>(&self, at: usize, lanes: &[usize], to: &mut [T])
    where
        F: Fn([u8; N]) -> T,
    {
        match lanes.first() {
            Some(first) if self.dense => {
                let from = &self.data[at + first..][..lanes.len()];
                to.iter_mut().zip(from).for_each(|(to, from)| *to = (self.decode)(*from));
            }
            _ => to.iter_mut().zip(lanes).for_each(|(to, lane)| *to = (self.decode)(self.data[at + lane])),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEFT: Fractal = Fractal { outer: Order::Z, inner: Order::N, block: [12, 1] };
    const RIGHT: Fractal = Fractal { outer: Order::N, inner: Order::Z, block: [1, 32] };
    const CUBE: Fractal = Fractal { outer: Order::N, inner: Order::Z, block: [16, 16] };

    fn packing(base: i64, rows: &[(usize, i64)], columns: &[(usize, i64)]) -> Packing {
        let leaf = tarsia_graph::Value { node: tarsia_graph::NodeId::new(0), output: 0 };
        Packing { leaf, base, rows: rows.to_vec(), columns: columns.to_vec(), whole: 1 }
    }

    fn param(fractal: Fractal) -> Param {
        param_of(DType::F32, fractal)
    }

    fn param_of(dtype: DType, fractal: Fractal) -> Param {
        Param {
            name: "w".into(),
            dtype,
            shape: Vec::new(),
            layout: Layout::Fractal(fractal),
            access: tarsia_tile::Access::Read,
        }
    }

    fn ramp(count: usize) -> Tensor {
        let values: Vec<f32> = (0..count).map(|i| i as f32 + 1.0).collect();
        Tensor::from_slice(&[count], &values).expect("as many as there are")
    }

    /// Every element is where the layout says, and the padding is zero.
    fn check(packing: &Packing, fractal: Fractal, count: usize) {
        let bytes = pack(&ramp(count), packing, &param(fractal)).expect("inside its data");
        let packed: &[f32] = bytemuck::cast_slice(&bytes);
        assert_eq!(bytes.as_ptr() as usize % 64, 0);
        let rows = offsets(packing.base, &packing.rows).expect("inside");
        let columns = offsets(0, &packing.columns).expect("inside");
        let mut expected = vec![0f32; packed.len()];
        for (i, row) in rows.iter().enumerate() {
            for (j, column) in columns.iter().enumerate() {
                expected[fractal.position(rows.len(), columns.len(), i, j)] = (row + column + 1) as f32;
            }
        }
        assert_eq!(packed, expected, "{packing:?} as {fractal:?}");
    }

    #[test]
    fn every_element_is_at_its_position() {
        for fractal in [LEFT, RIGHT, CUBE] {
            for (m, n) in [(1, 1), (12, 32), (13, 33), (50, 7), (3, 100), (700, 900)] {
                check(&packing(0, &[(m, n as i64)], &[(n, 1)]), fractal, m * n);
                check(&packing(0, &[(m, 1)], &[(n, m as i64)]), fractal, m * n);
                check(&packing(3, &[(2, 5), (m, 7)], &[(n, 1)]), fractal, 3 + 5 + 7 * m + n);
                check(&packing(0, &[(m, 3)], &[(2, 1), (n, 2)]), fractal, 3 * m + 1 + 2 * n);
            }
        }
    }

    #[test]
    fn constants_of_equal_content_are_packed_once() {
        let mut pool = Pool::default();
        let way = packing(0, &[(20, 30)], &[(30, 1)]);
        let [a, b] = [ramp(600), ramp(600)].map(|tensor| pool.pack(&tensor, &way, &param(RIGHT)).expect("packs"));
        assert_eq!(a.place(), b.place());
        let other = pool.pack(&ramp(600), &way, &param(LEFT)).expect("packs");
        assert_ne!(a.place(), other.place());
    }

    #[test]
    fn narrow_floats_widen() {
        let values: Vec<f16> = (0..40).map(|i| f16::from_f32(i as f32 / 4.0)).collect();
        let tensor = Tensor::new(DType::F16, &[40], bytemuck::cast_slice(&values).to_vec().into()).expect("40");
        let bytes = pack(&tensor, &packing(0, &[(1, 40)], &[(40, 1)]), &param(RIGHT)).expect("packs");
        assert_eq!(bytemuck::cast_slice::<u8, f32>(&bytes)[..3], [0.0, 0.25, 0.5]);
    }

    #[test]
    fn elements_keep_their_type_where_it_is_asked_for() {
        let values: Vec<f16> = (0..17 * 3).map(|i| f16::from_f32(i as f32 / 8.0)).collect();
        let tensor = Tensor::new(DType::F16, &[51], bytemuck::cast_slice(&values).to_vec().into()).expect("51");
        let bytes = pack(&tensor, &packing(0, &[(17, 3)], &[(3, 1)]), &param_of(DType::F16, CUBE)).expect("packs");
        let packed: &[f16] = bytemuck::cast_slice(&bytes);
        for (row, column) in [(0, 0), (5, 1), (16, 2)] {
            assert_eq!(packed[CUBE.position(17, 3, row, column)], values[row * 3 + column]);
        }
        assert_eq!(packed.len(), 32 * 16);
        let ints: Vec<i8> = (0..6).collect();
        let tensor = Tensor::from_slice(&[6], &ints).expect("6");
        let bytes = pack(&tensor, &packing(0, &[(2, 3)], &[(3, 1)]), &param_of(DType::I8, RIGHT)).expect("packs");
        assert_eq!((bytes[0], bytes[2], bytes[3], bytes[32]), (0, 2, 0, 3));
    }

    #[test]
    fn data_outside_is_refused() {
        for bad in [packing(-1, &[(2, 1)], &[(2, 2)]), packing(0, &[(2, 10)], &[(4, 1)])] {
            assert!(pack(&ramp(13), &bad, &param(RIGHT)).is_err());
        }
    }
}
