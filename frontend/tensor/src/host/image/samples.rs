//! From the coefficients of a JPEG image to pixels, in the integers of libjpeg (its accurate transform, its smooth upsampling).

use super::{
    Rgb,
    jpeg::{Block, Component, Frame},
};

/// The pixels of a frame; an Adobe segment may say that its components are RGB.
pub(super) fn assemble(frame: &Frame, adobe: Option<u8>) -> Option<Rgb> {
    let (width, height) = (frame.width, frame.height);
    let planes: Vec<Plane> = frame.components.iter().map(|c| plane(c, frame)).collect::<Option<_>>()?;
    let mut samples = Vec::with_capacity(width * height * 3);
    match planes.as_slice() {
        [gray] => {
            for row in 0..height {
                gray.row(row).iter().take(width).for_each(|&sample| samples.extend([sample; 3]));
            }
        }
        [a, b, c] => {
            for row in 0..height {
                let pixels = a.row(row).iter().zip(b.row(row)).zip(c.row(row)).take(width);
                for ((&a, &b), &c) in pixels {
                    samples.extend(if adobe == Some(0) { [a, b, c] } else { rgb(a, b, c) });
                }
            }
        }
        _ => return None,
    }
    Some(Rgb { width, height, samples })
}

/// ITU-R 601 in 16 fractional bits.
fn rgb(y: u8, cb: u8, cr: u8) -> [u8; 3] {
    const fn fix(x: f64) -> i32 {
        (x * 65536.0 + 0.5) as i32
    }
    const HALF: i32 = 1 << 15;
    let (y, cb, cr) = (i32::from(y), i32::from(cb) - 128, i32::from(cr) - 128);
    let red = y + ((fix(1.402) * cr + HALF) >> 16);
    let green = y + ((-fix(0.34414) * cb + HALF - fix(0.71414) * cr) >> 16);
    let blue = y + ((fix(1.772) * cb + HALF) >> 16);
    [red, green, blue].map(|x| x.clamp(0, 255) as u8)
}

/// Samples of one component.
struct Plane {
    width: usize,
    samples: Vec<u8>,
}

impl Plane {
    fn row(&self, row: usize) -> &[u8] {
        self.samples.get(row * self.width..(row + 1) * self.width).unwrap_or_default()
    }
}

/// A component at the size of the image.
fn plane(component: &Component, frame: &Frame) -> Option<Plane> {
    let quantiser = component.quantiser?;
    let width = (frame.width * component.h).div_ceil(frame.most_h);
    let height = (frame.height * component.v).div_ceil(frame.most_v);
    let mut samples = vec![0u8; width * height];
    for (at, block) in component.blocks.iter().enumerate() {
        let (left, top) = (at % component.stride * 8, at / component.stride * 8);
        if left >= width || top >= height {
            continue;
        }
        let pixels = transformed(block, &quantiser);
        for (y, row) in pixels.chunks_exact(8).enumerate().take(height - top) {
            let count = (width - left).min(8);
            samples[(top + y) * width + left..][..count].copy_from_slice(&row[..count]);
        }
    }
    let plane = Plane { width, samples };
    Some(match (frame.most_h / component.h, frame.most_v / component.v) {
        (1, 1) => plane,
        (2, 1) if width > 2 => doubled_across(&plane, height),
        (2, 2) if width > 2 => doubled(&plane, height),
        (1, 2) => doubled_down(&plane, height),
        (across, down) => repeated(&plane, height, across, down),
    })
}

fn repeated(plane: &Plane, height: usize, across: usize, down: usize) -> Plane {
    let row = |row: usize| plane.row(row / down).iter().flat_map(move |&sample| std::iter::repeat_n(sample, across));
    Plane { width: plane.width * across, samples: (0..height * down).flat_map(row).collect() }
}

/// Triangle filter: centres of new samples lie at 1/4 and 3/4 between old ones.
fn doubled_across(plane: &Plane, height: usize) -> Plane {
    let mut samples = Vec::with_capacity(plane.samples.len() * 2);
    for row in 0..height {
        let row = plane.row(row);
        let last = row.len() - 1;
        for (i, &sample) in row.iter().enumerate() {
            let here = i32::from(sample) * 3;
            let left = i32::from(row[i.saturating_sub(1)]);
            let right = i32::from(row[(i + 1).min(last)]);
            samples.push(if i == 0 { sample } else { ((here + left + 1) >> 2) as u8 });
            samples.push(if i == last { sample } else { ((here + right + 2) >> 2) as u8 });
        }
    }
    Plane { width: plane.width * 2, samples }
}

fn doubled_down(plane: &Plane, height: usize) -> Plane {
    let mut samples = Vec::with_capacity(plane.samples.len() * 2);
    for (near, far, bias) in row_pairs(height) {
        let pairs = plane.row(near).iter().zip(plane.row(far));
        samples.extend(pairs.map(|(&near, &far)| ((i32::from(near) * 3 + i32::from(far) + bias) >> 2) as u8));
    }
    Plane { width: plane.width, samples }
}

/// The nearer and the farther row of each new row, and 1 or 2 for the upper and lower one of a pair.
fn row_pairs(height: usize) -> impl Iterator<Item = (usize, usize, i32)> {
    let last = height.saturating_sub(1);
    (0..height).flat_map(move |row| [(row, row.saturating_sub(1), 1), (row, (row + 1).min(last), 2)])
}

fn doubled(plane: &Plane, height: usize) -> Plane {
    let mut samples = Vec::with_capacity(plane.samples.len() * 4);
    for (near, far, _) in row_pairs(height) {
        let pairs = plane.row(near).iter().zip(plane.row(far));
        let sums: Vec<i32> = pairs.map(|(&near, &far)| i32::from(near) * 3 + i32::from(far)).collect();
        let last = sums.len() - 1;
        for (i, &sum) in sums.iter().enumerate() {
            let left = if i == 0 { sum } else { sums[i - 1] };
            let right = if i == last { sum } else { sums[i + 1] };
            samples.push(((sum * 3 + left + 8) >> 4) as u8);
            samples.push(((sum * 3 + right + 7) >> 4) as u8);
        }
    }
    Plane { width: plane.width * 2, samples }
}

/// The inverse cosine transform of Loeffler, Ligtenberg and Moschytz (ICASSP 1989) with 13 fractional bits, columns first.
fn transformed(block: &Block, quantiser: &[u16; 64]) -> [u8; 64] {
    let mut between = [0i32; 64];
    for column in 0..8 {
        let input = std::array::from_fn(|row| {
            let at = row * 8 + column;
            i32::from(block[at]).wrapping_mul(i32::from(quantiser[at]))
        });
        for (row, value) in line(input, 11).into_iter().enumerate() {
            between[row * 8 + column] = value;
        }
    }
    let mut pixels = [0u8; 64];
    for row in 0..8 {
        let input = std::array::from_fn(|column| between[row * 8 + column]);
        for (column, value) in line(input, 18).into_iter().enumerate() {
            pixels[row * 8 + column] = (value.wrapping_add(128)).clamp(0, 255) as u8;
        }
    }
    pixels
}

/// One row or column, shifted right with rounding.
fn line(x: [i32; 8], shift: u32) -> [i32; 8] {
    let x = x.map(i64::from);
    let z1 = (x[2] + x[6]) * 4433;
    let (even2, even3) = (z1 - x[6] * 15137, z1 + x[2] * 6270);
    let (even0, even1) = ((x[0] + x[4]) << 13, (x[0] - x[4]) << 13);
    let even = [even0 + even3, even1 + even2, even1 - even2, even0 - even3];
    let z5 = (x[7] + x[3] + x[5] + x[1]) * 9633;
    let (z1, z2) = ((x[7] + x[1]) * -7373, (x[5] + x[3]) * -20995);
    let (z3, z4) = ((x[7] + x[3]) * -16069 + z5, (x[5] + x[1]) * -3196 + z5);
    let odd = [x[1] * 12299 + z1 + z4, x[3] * 25172 + z2 + z3, x[5] * 16819 + z2 + z4, x[7] * 2446 + z1 + z3];
    std::array::from_fn(|i| {
        let sum = if i < 4 { even[i] + odd[i] } else { even[7 - i] - odd[7 - i] };
        ((sum + (1 << (shift - 1))) >> shift) as i32
    })
}
