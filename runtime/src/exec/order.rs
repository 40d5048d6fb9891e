//! Sorting along the last axis. NaN is larger than every number; equal elements keep their order.

use std::cmp::Ordering;

use tarsia_tensor::DType;

use super::nest::{Array, Nest, Plane};
use super::vector::{get, put};
use super::wide::{PIECE, Wide, Width, with_wide};
use crate::cpu::order::{self as kernels, Ordered};

/// `values`, `indices`: the elements of `src` along the last axis in order and where they were; as many as the
/// destinations have. `room` is working memory that keeps its capacity.
///
/// # Errors
/// Sizes that do not fit.
///
/// # Safety
/// The arrays lie inside of their memory.
pub unsafe fn sort(
    descending: bool,
    values: &Array,
    indices: &Array,
    src: &Array,
    room: &mut Vec<(u64, i64)>,
) -> Result<(), String> {
    let Some(axis) = src.rank.checked_sub(1) else { return Err("a scalar has no order".to_owned()) };
    let wanted = values.size[axis];
    let fits = values.rank == src.rank && indices.rank == src.rank;
    if !fits || indices.size[axis] != wanted || wanted > src.size[axis] {
        let (to, from) = (values.shape(), src.shape());
        return Err(format!("{:?} in order, with indices {:?}, from {from:?}", to, indices.shape()));
    }
    let nest = Nest::without(axis, [values, indices, src]).map_err(|axis| format!("sizes differ on axis {axis}"))?;
    let side_by_side = |array: &Array| array.stride[axis] == 1 || array.size[axis] <= 1;
    let plain = values.dtype == src.dtype
        && indices.dtype == DType::I64
        && [values, indices, src].into_iter().all(side_by_side);
    with_wide!(Width::of(src.dtype), W => {
        nest.planes(|plane| {
            // SAFETY: the caller's contract.
            if plain && plane.size[0] == 1 && unsafe { sort_rows(descending, values, indices, src, &plane) } {
                return;
            }
            for r in 0..plane.size[0] {
                for c in 0..plane.size[1] as isize {
                    let at: [isize; 3] = std::array::from_fn(|i| plane.row_at(r)[i] + c * plane.col[i]);
                    // SAFETY: the caller's contract.
                    unsafe {
                        fill_room::<W>(src, at[2], axis, room);
                        order_room::<W>(descending, wanted, room);
                        for (i, &(bits, place)) in room[..wanted].iter().enumerate() {
                            put(values, at[0] + i as isize * values.stride[axis], 1, &[from_bits::<W>(bits)]);
                            put(indices, at[1] + i as isize * indices.stride[axis], 1, &[place]);
                        }
                    }
                }
            }
        });
    });
    Ok(())
}

/// On the kernels, if they take this type.
unsafe fn sort_rows(descending: bool, values: &Array, indices: &Array, src: &Array, plane: &Plane<3>) -> bool {
    let axis = src.rank - 1;
    let (k, n) = (values.size[axis], src.size[axis]);
    let [Ok(values_row), Ok(indices_row), Ok(src_row)] = plane.col.map(usize::try_from) else { return false };
    if src.dtype.bits() < 8 {
        return false;
    }
    let rows = Ordered {
        rows: plane.size[1],
        n,
        src: src.address(plane.at[2]),
        src_row,
        values: values.address(plane.at[0]),
        values_row,
        indices: indices.address(plane.at[1]).cast(),
        indices_row,
    };
    // SAFETY: the caller's contract.
    unsafe { kernels::top_k_rows(src.dtype, descending, k, rows) }.is_ok()
}

unsafe fn fill_room<W: Wide>(src: &Array, at: isize, axis: usize, room: &mut Vec<(u64, i64)>) {
    let mut piece = [W::default(); PIECE];
    room.clear();
    for first in (0..src.size[axis]).step_by(PIECE) {
        let n = PIECE.min(src.size[axis] - first);
        // SAFETY: the caller's contract.
        unsafe { get(src, at + first as isize * src.stride[axis], src.stride[axis], &mut piece[..n]) };
        room.extend(piece[..n].iter().enumerate().map(|(i, &x)| (to_bits(x), (first + i) as i64)));
    }
}

/// Brings the first `wanted` into order. Places break ties, so that an unstable sort is stable.
fn order_room<W: Wide>(descending: bool, wanted: usize, room: &mut [(u64, i64)]) {
    let compare = |a: &(u64, i64), b: &(u64, i64)| {
        order(descending, from_bits::<W>(a.0), from_bits::<W>(b.0)).then(a.1.cmp(&b.1))
    };
    if wanted == 0 {
        return;
    }
    if wanted < room.len() {
        room.select_nth_unstable_by(wanted - 1, compare);
    }
    room[..wanted].sort_unstable_by(compare);
}

fn order<W: Wide>(descending: bool, a: W, b: W) -> Ordering {
    let order = a.partial_cmp(&b).unwrap_or_else(|| a.is_nan().cmp(&b.is_nan()));
    if descending { order.reverse() } else { order }
}

/// A widened element as 64 bits: f32 through f64, integers as they are.
fn to_bits<W: Wide>(x: W) -> u64 {
    if W::DTYPE.is_float() { x.to_f64().to_bits() } else { x.to_u64() }
}

fn from_bits<W: Wide>(bits: u64) -> W {
    if W::DTYPE.is_float() { W::from_f64(f64::from_bits(bits)) } else { W::from_u64(bits) }
}
