//! Packing of views against their definition.

use super::{Isa, Rng};
use crate::cpu::gemm::{MR, NR};
use crate::cpu::moves::SourceAxis;
use crate::cpu::pack::*;
use half::f16;
use proptest::prelude::*;
use tarsia_tensor::DType;

fn index_of(mut at: usize, lens: &[usize]) -> Vec<usize> {
    let mut index = vec![0; lens.len()];
    for (d, &len) in lens.iter().enumerate().rev() {
        (index[d], at) = (at % len, at / len);
    }
    index
}

struct Case {
    sizes: Vec<usize>,
    starts: Vec<isize>,
    steps: Vec<Vec<isize>>,
    outer: Vec<usize>,
    k: Vec<usize>,
}

impl Case {
    fn strides(&self) -> Vec<isize> {
        (0..self.sizes.len()).map(|a| self.sizes[a + 1..].iter().product::<usize>() as isize).collect()
    }

    /// Where the element of lane `o` and step `p` lies, if in range.
    fn offset(&self, o: usize, p: usize) -> Option<usize> {
        let index = [index_of(o, &self.outer), index_of(p, &self.k)].concat();
        let strides = self.strides();
        let mut offset = 0;
        for a in 0..self.sizes.len() {
            let at = self.starts[a] + index.iter().zip(&self.steps[a]).map(|(&i, &s)| i as isize * s).sum::<isize>();
            if at < 0 || at >= self.sizes[a] as isize {
                return None;
            }
            offset += at * strides[a];
        }
        Some(offset as usize)
    }

    fn check<T: bytemuck::Pod, U: bytemuck::Pod + PartialEq + std::fmt::Debug>(
        &self,
        types: (DType, DType),
        form: PanelForm,
        element: impl Fn(u64) -> T,
        convert: impl Fn(T) -> U,
    ) {
        let mut rng = Rng(1);
        let source: Vec<T> = (0..self.sizes.iter().product()).map(|_| element(rng.next())).collect();
        let fill = element(3);
        let strides = self.strides();
        let axes: Vec<SourceAxis> = (0..self.sizes.len())
            .map(|a| SourceAxis {
                len: self.sizes[a],
                stride: strides[a],
                start: self.starts[a],
                steps: &self.steps[a][..self.outer.len() + self.k.len()],
            })
            .collect();
        let (outer, k): (usize, usize) = (self.outer.iter().product(), self.k.iter().product());
        let depth = k.div_ceil(form.group) * form.group;
        let PanelForm { width, group } = form;
        for isa in Isa::available() {
            let mut found = vec![convert(element(5)); packed_len(outer, depth, width).unwrap()];
            let view = PackView {
                data: source.as_ptr().cast(),
                dtype: types.0,
                axes: &axes,
                outer: &self.outer,
                k: &self.k,
                fill: (&raw const fill).cast(),
            };
            let panels = Panels { data: found.as_mut_ptr().cast(), step: depth * width };
            // SAFETY: the source has its axes and the panels their length.
            unsafe { pack_view(isa, form, view, types.1, panels) }.unwrap();
            for (at, &x) in found.iter().enumerate() {
                let (panel, rest) = (at / (depth * width), at % (depth * width));
                let o = panel * width + rest / group % width;
                let p = rest / (group * width) * group + rest % group;
                let expected = if o < outer && p < k {
                    convert(self.offset(o, p).map_or(fill, |offset| source[offset]))
                } else {
                    U::zeroed()
                };
                assert_eq!(x, expected, "{isa} lane {o} step {p} of {:?} {:?}", self.outer, self.k);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn views_are_packed_as_defined(
        sizes in prop::collection::vec(1usize..8, 1..5), outer in prop::collection::vec(0usize..9, 0..4),
        k in prop::collection::vec(0usize..5, 0..4), starts in prop::array::uniform4(-3isize..4),
        steps in prop::array::uniform4(prop::collection::vec(-1isize..3, 8)), narrow: bool,
    ) {
        let case = Case { sizes, starts: starts.to_vec(), steps: steps.to_vec(), outer, k };
        let width = if narrow { MR } else { NR };
        let form = PanelForm { width, group: 1 };
        let unit = |x: u64| (x % 1024) as f32 / 64.0;
        case.check::<f32, f32>((DType::F32, DType::F32), form, unit, |x| x);
        case.check::<f16, f32>((DType::F16, DType::F32), form, |x| f16::from_f32(unit(x)), f16::to_f32);
        case.check::<u16, u16>((DType::BF16, DType::BF16), form, |x| x as u16, |x| x);
        case.check::<u8, u8>((DType::I8, DType::I8), PanelForm { width, group: 4 }, |x| x as u8, |x| x);
    }

    #[test]
    fn plain_matrices_take_the_same_shape(rows in 1usize..40, cols in 1usize..40, split in 1usize..4, turn: bool) {
        // Outer axes [split, rows] joined to one; K either innermost or not.
        let sizes = if turn { vec![cols, split * rows] } else { vec![split * rows, cols] };
        let r = rows as isize;
        let (o, c) = (vec![r, 1, 0], vec![0, 0, 1]);
        let steps = if turn { vec![c, o] } else { vec![o, c] };
        let case = Case { sizes, starts: vec![0, 0], steps, outer: vec![split, rows], k: vec![cols] };
        for width in [MR, NR] {
            let form = PanelForm { width, group: 1 };
            case.check::<f32, f32>((DType::F32, DType::F32), form, |x| (x % 1024) as f32, |x| x);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn windows_of_images(
        channels in 1usize..4, image in prop::array::uniform2(1usize..12), window in prop::array::uniform2(1usize..4),
        outer in prop::array::uniform2(1usize..20), step in prop::array::uniform2(1isize..4),
        dilation in prop::array::uniform2(1isize..3), start in prop::array::uniform2(-4isize..14), flat: bool,
    ) {
        // [n, c, h, w] seen as outer [rows, columns] and K [channels, rows, columns]; flat: [n, c, w].
        let rows = [vec![step[0], 0, 0, dilation[0], 0], vec![0, step[1], 0, 0, dilation[1]]];
        let case = if flat {
            let steps = vec![vec![0; 3], vec![0, 1, 0], vec![step[1], 0, dilation[1]]];
            Case {
                sizes: vec![2, channels, image[1]],
                starts: vec![1, 0, start[1]],
                steps,
                outer: vec![outer[1]],
                k: vec![channels, window[1]],
            }
        } else {
            Case {
                sizes: vec![2, channels, image[0], image[1]],
                starts: vec![1, 0, start[0], start[1]],
                steps: vec![vec![0; 5], vec![0, 0, 1, 0, 0], rows[0].clone(), rows[1].clone()],
                outer: outer.to_vec(),
                k: vec![channels, window[0], window[1]],
            }
        };
        let form = PanelForm { width: NR, group: 1 };
        // The third element is the fill; zero takes the path of convolutions.
        case.check::<f32, f32>((DType::F32, DType::F32), form, |x| if x == 3 { 0.0 } else { (x % 1024) as f32 }, |x| x);
    }
}
