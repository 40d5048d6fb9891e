//! Packing of convolution windows against indexing them one by one.

use super::*;
use crate::cpu::gemm::NR;
use crate::cpu::pack::*;
use proptest::prelude::*;

fn expected(image: &[f32], conv: &Conv2d, block: &OutputBlock, k: std::ops::Range<usize>) -> Vec<f32> {
    let n = block.len[0] * block.len[1];
    let mut panels = vec![0.0; packed_len(n, k.len(), NR).unwrap()];
    let area = conv.window[0] * conv.window[1];
    for (p, row) in k.clone().enumerate() {
        let (c, i, j) = (row / area, row % area / conv.window[1], row % conv.window[1]);
        for at in 0..n {
            let y = (block.start[0] + at / block.len[1]) * conv.step[0] + i * conv.dilation[0];
            let x = (block.start[1] + at % block.len[1]) * conv.step[1] + j * conv.dilation[1];
            let (y, x) = (y as isize - conv.pad[0] as isize, x as isize - conv.pad[1] as isize);
            if (0..conv.image[0] as isize).contains(&y) && (0..conv.image[1] as isize).contains(&x) {
                let source = c * conv.strides[0] + y as usize * conv.strides[1] + x as usize;
                panels[at / NR * NR * k.len() + p * NR + at % NR] = image[source];
            }
        }
    }
    panels
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]
    #[test]
    fn matches_the_definition(
        image in prop::array::uniform2(1usize..24), window in prop::array::uniform2(1usize..4),
        step in prop::array::uniform2(1usize..4), dilation in prop::array::uniform2(1usize..3),
        pad in prop::array::uniform2(0usize..5), channels in 1usize..4,
        start in prop::array::uniform2(0usize..4), len in prop::array::uniform2(0usize..40), seed: u64,
    ) {
        let conv = Conv2d { image, strides: [image[0] * image[1] + 5, image[1]], window, step, dilation, pad };
        let data = Rng(seed).units(channels * conv.strides[0]);
        let rows = channels * window[0] * window[1];
        let k = (seed as usize % rows)..rows;
        let block = OutputBlock { start, len };
        let expected = expected(&data, &conv, &block, k.clone());
        for isa in Isa::available() {
            let mut found = vec![f32::NAN; expected.len()];
            let panels = Panels { data: found.as_mut_ptr(), step: k.len() * NR };
            // SAFETY: the image has `channels` channels and the panels their packed length.
            unsafe { pack_im2col_f32(isa, data.as_ptr(), &conv, block, k.clone(), panels) };
            prop_assert_eq!(&found, &expected, "{}", isa);
        }
    }
}
