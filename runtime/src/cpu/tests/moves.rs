//! Strided copies, transpositions and clipped windows against index arithmetic.

use super::{Isa, Rng};
use crate::cpu::moves::*;
use proptest::prelude::*;

fn indices(lens: &[usize]) -> Vec<Vec<usize>> {
    lens.iter().fold(vec![vec![]], |all, &len| {
        all.iter().flat_map(|i| (0..len).map(move |x| [i.as_slice(), &[x]].concat())).collect()
    })
}

/// Strides of a dense array whose axes lie in memory in the order of `perm`.
fn dense(lens: &[usize], perm: &[usize]) -> Vec<isize> {
    let mut strides = vec![0; lens.len()];
    let mut size = 1;
    for &axis in perm.iter().rev() {
        strides[axis] = size;
        size *= lens[axis] as isize;
    }
    strides
}

fn check_copy<T: bytemuck::Pod + PartialEq + std::fmt::Debug>(lens: &[usize], perm: &[usize], flip: usize, seed: u64) {
    let mut rng = Rng(seed);
    let size: usize = lens.iter().product();
    let words: Vec<u64> = (0..size + 1).map(|_| rng.next()).collect();
    let source: Vec<T> = bytemuck::cast_slice::<u64, T>(&words)[..size].to_vec();
    let order: Vec<usize> = (0..lens.len()).collect();
    let (mut from, to) = (dense(lens, perm), dense(lens, &order));
    let mut start = 0;
    if let Some(stride) = from.get_mut(flip).filter(|_| size > 0) {
        start = *stride * (lens[flip] as isize - 1);
        *stride = -*stride;
    }
    let axes: Vec<Axis> = (0..lens.len()).map(|i| Axis { len: lens[i], src: from[i], dst: to[i] }).collect();
    for isa in Isa::available() {
        let mut out = vec![T::zeroed(); size];
        // SAFETY: all offsets are inside the two arrays.
        unsafe {
            let src = source.as_ptr().wrapping_offset(start).cast::<u8>();
            copy(isa, size_of::<T>(), &axes, src, out.as_mut_ptr().cast()).unwrap();
        }
        for index in indices(lens) {
            let at = |strides: &[isize]| index.iter().zip(strides).map(|(&i, &s)| i as isize * s).sum::<isize>();
            assert_eq!(out[at(&to) as usize], source[(start + at(&from)) as usize], "{isa} {axes:?} at {index:?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn copies_permute_and_reverse(
        lens in prop::collection::vec(prop::sample::select(&[0usize, 1, 2, 3, 5, 17, 18, 40][..]), 0..5),
        width in 0usize..4, flip in 0usize..8, seed: u64,
    ) {
        prop_assume!(lens.iter().product::<usize>() < 100_000);
        let mut perm: Vec<usize> = (0..lens.len()).collect();
        let mut rng = Rng(seed);
        for i in (1..perm.len()).rev() {
            perm.swap(i, rng.below(i + 1));
        }
        match width {
            0 => check_copy::<u8>(&lens, &perm, flip, seed),
            1 => check_copy::<u16>(&lens, &perm, flip, seed),
            2 => check_copy::<u32>(&lens, &perm, flip, seed),
            _ => check_copy::<u64>(&lens, &perm, flip, seed),
        }
    }

    #[test]
    fn windows_fill_what_is_out_of_range(
        lens in prop::collection::vec(0usize..7, 0..5), sizes in prop::collection::vec(1usize..6, 1..4),
        starts in prop::array::uniform3(-6isize..7), steps in prop::array::uniform3(prop::array::uniform5(-2isize..3)), seed: u64,
    ) {
        let order: Vec<usize> = (0..lens.len()).collect();
        let to = dense(&lens, &order);
        let source_order: Vec<usize> = (0..sizes.len()).collect();
        let from = dense(&sizes, &source_order);
        let size: usize = lens.iter().product();
        let mut rng = Rng(seed);
        let source: Vec<u32> = (0..sizes.iter().product()).map(|_| rng.next() as u32 | 1).collect();
        let axes: Vec<SourceAxis> = (0..sizes.len())
            .map(|a| SourceAxis { len: sizes[a], stride: from[a], start: starts[a], steps: &steps[a][..lens.len()] })
            .collect();
        for isa in Isa::available() {
            let mut out = vec![7u32; size];
            let fill = 0u32;
            // SAFETY: indices are checked against the source's axes.
            unsafe {
                let fill = (&raw const fill).cast();
                let (src, dst) = (source.as_ptr().cast(), out.as_mut_ptr().cast());
                copy_filled(isa, 4, &lens, &to, &axes, src, dst, fill).unwrap();
            }
            for index in indices(&lens) {
                let at: isize = index.iter().zip(&to).map(|(&i, &s)| i as isize * s).sum();
                let mut offset = Some(0);
                for (a, axis) in axes.iter().enumerate() {
                    let i = starts[a] + index.iter().zip(&steps[a]).map(|(&i, &s)| i as isize * s).sum::<isize>();
                    offset = offset.filter(|_| (0..axis.len as isize).contains(&i)).map(|o| o + i * from[a]);
                }
                prop_assert_eq!(out[at as usize], offset.map_or(0, |o| source[o as usize]), "{} {:?}", isa, index);
            }
        }
    }
}

#[test]
fn repeats_and_rejects() {
    for isa in Isa::available() {
        let source = [3u16, 4, 5];
        let mut out = [0u16; 12];
        let axes = [Axis { len: 4, src: 0, dst: 3 }, Axis { len: 3, src: 1, dst: 1 }];
        // SAFETY: inside both arrays.
        unsafe { copy(isa, 2, &axes, source.as_ptr().cast(), out.as_mut_ptr().cast()) }.unwrap();
        assert_eq!(out, [3, 4, 5, 3, 4, 5, 3, 4, 5, 3, 4, 5]);
        let many = [Axis { len: 2, src: 1, dst: 1 }; 9];
        // SAFETY: refused before anything is touched.
        let refused = unsafe { copy(isa, 2, &many, source.as_ptr().cast(), out.as_mut_ptr().cast()) };
        assert_eq!(refused, Err(MoveError::Rank(9)));
        // SAFETY: as above.
        let refused = unsafe { copy(isa, 3, &axes, source.as_ptr().cast(), out.as_mut_ptr().cast()) };
        assert_eq!(refused, Err(MoveError::Width(3)));
    }
}
