//! Host functions about matrices and images: determinants, columns to images, pooled regions of interest.

use super::{Call, HostError};
use crate::{Numbers, Tensor, arrange::strides};

/// Determinants of the matrices of the last two axes, by elimination with the largest pivots.
pub(super) fn det(call: &Call) -> Result<Vec<Tensor>, HostError> {
    let &[ref rest @ .., rows, columns] = call.operands[0].shape() else {
        return Err(call.fault("it takes matrices"));
    };
    if rows != columns {
        return Err(call.fault(format!("a matrix of {rows} × {columns} has no determinant")));
    }
    let mut values = call.floats(0)?;
    let determinants = match rows {
        0 => vec![1.0; rest.iter().product()],
        _ => values.chunks_mut(rows * rows).map(|matrix| determinant(matrix, rows)).collect(),
    };
    call.made(Tensor::from_numbers(call.operands[0].dtype(), rest, &Numbers::Float(determinants)))
}

fn determinant(a: &mut [f64], n: usize) -> f64 {
    let mut product = 1.0;
    for column in 0..n {
        let size = |row: &usize| a[row * n + column].abs();
        let pivot = (column..n).max_by(|p, q| size(p).total_cmp(&size(q))).unwrap_or(column);
        if a[pivot * n + column] == 0.0 {
            return 0.0;
        }
        if pivot != column {
            (0..n).for_each(|i| a.swap(pivot * n + i, column * n + i));
            product = -product;
        }
        product *= a[column * n + column];
        for row in column + 1..n {
            let factor = a[row * n + column] / a[column * n + column];
            (column..n).for_each(|i| a[row * n + i] -= factor * a[column * n + i]);
        }
    }
    product
}

/// One spatial axis of `col2im`.
struct Axis {
    image: usize,
    block: usize,
    dilation: usize,
    low: usize,
    stride: usize,
    /// Positions of the block.
    count: usize,
}

impl Axis {
    fn of(call: &Call, axis: usize, rank: usize, image: i64, block: i64) -> Result<Axis, HostError> {
        let at = |place: usize| {
            let value = call.int(place)?;
            usize::try_from(value).map_err(|_| call.fault(format!("{value} is negative")))
        };
        let (dilation, stride, low) = (at(axis)?, at(rank + axis)?, at(2 * rank + axis)?);
        let high = at(3 * rank + axis)?;
        let wrong = || call.fault(format!("blocks of {block} for an image of {image}, step {stride}"));
        let (image, block) = (usize::try_from(image), usize::try_from(block));
        let (image, block) = (image.map_err(|_| wrong())?, block.map_err(|_| wrong())?);
        let reach = block.checked_sub(1).and_then(|reach| reach.checked_mul(dilation)?.checked_add(1));
        let padded = image.checked_add(low).and_then(|size| size.checked_add(high));
        let room = padded.zip(reach).and_then(|(padded, reach)| padded.checked_sub(reach));
        let count = room.and_then(|room| room.checked_div(stride)).ok_or_else(wrong)? + 1;
        Ok(Axis { image, block, dilation, low, stride, count })
    }

    /// Where element `offset` of the block at `position` is in the image.
    fn place(&self, offset: usize, position: usize) -> Option<usize> {
        (position * self.stride + offset * self.dilation).checked_sub(self.low).filter(|&place| place < self.image)
    }
}

/// Sums of the columns `[n, c·block, positions]` where they overlap in images `[n, c, …]`.
pub(super) fn col2im(call: &Call) -> Result<Vec<Tensor>, HostError> {
    let &[batches, rows, positions] = call.operands[0].shape() else {
        return Err(call.fault("the columns are not [n, c·block, positions]"));
    };
    let (image, block) = (call.integers(1)?, call.integers(2)?);
    let rank = image.len();
    if block.len() != rank || call.ints.len() != 4 * rank {
        return Err(call.fault(format!("blocks of {} axes for images of {rank}", block.len())));
    }
    let axes = (0..rank).map(|axis| Axis::of(call, axis, rank, image[axis], block[axis]));
    let axes = axes.collect::<Result<Vec<Axis>, HostError>>()?;
    let all = |size: fn(&Axis) -> usize| axes.iter().try_fold(1usize, |all, axis| all.checked_mul(size(axis)));
    let (area, count) = (all(|axis| axis.block).filter(|&area| area > 0), all(|axis| axis.count));
    let channels = area.filter(|&area| rows.is_multiple_of(area) && count == Some(positions)).map(|area| rows / area);
    let channels = channels.ok_or_else(|| call.fault(format!("{rows} × {positions} columns do not fit the image")))?;
    let shape: Vec<usize> = [batches, channels].into_iter().chain(axes.iter().map(|axis| axis.image)).collect();
    call.within_limit(&shape)?;
    let columns = call.floats(0)?;
    let steps = strides(&shape);
    let mut result = vec![0.0; shape.iter().product()];
    for (at, value) in columns.into_iter().enumerate() {
        let (row, mut position) = (at / positions, at % positions);
        let mut offset = row % area.unwrap_or(1);
        // Rows of all batches in order are batches and channels in order.
        let mut place = Some(row / area.unwrap_or(1) * axes.iter().map(|axis| axis.image).product::<usize>());
        for (axis, step) in axes.iter().zip(&steps[2..]).rev() {
            let inside = axis.place(offset % axis.block, position % axis.count);
            place = place.zip(inside).map(|(place, inside)| place + inside * step);
            (offset, position) = (offset / axis.block, position / axis.count);
        }
        if let Some(place) = place {
            result[place] += value;
        }
    }
    call.made(Tensor::from_numbers(call.operands[0].dtype(), &shape, &Numbers::Float(result)))
}

/// The four elements around a position and their factors; nothing for a position outside.
fn corners(y: f64, x: f64, height: usize, width: usize) -> [(usize, f64); 4] {
    if height == 0 || width == 0 || !(-1.0..=height as f64).contains(&y) || !(-1.0..=width as f64).contains(&x) {
        return [(0, 0.0); 4];
    }
    let along = |at: f64, size: usize| {
        let at = at.max(0.0);
        let low = (at as usize).min(size - 1);
        if low == size - 1 { (low, low, 0.0) } else { (low, low + 1, at - low as f64) }
    };
    let ((y0, y1, v), (x0, x1, u)) = (along(y, height), along(x, width));
    [
        (y0 * width + x0, (1.0 - v) * (1.0 - u)),
        (y0 * width + x1, (1.0 - v) * u),
        (y1 * width + x0, v * (1.0 - u)),
        (y1 * width + x1, v * u),
    ]
}

/// Regions of `[n, c, h, w]` pooled to one size (He et al., Mask R-CNN, 2017).
pub(super) fn roi_align(call: &Call) -> Result<Vec<Tensor>, HostError> {
    let (&[batches, channels, height, width], &[count, 4]) = (call.operands[0].shape(), call.operands[1].shape())
    else {
        return Err(call.fault("it takes [n, c, h, w] and [r, 4]"));
    };
    let (x, regions, batch_of) = (call.floats(0)?, call.floats(1)?, call.integers(2)?);
    let size = |at: usize| {
        let value = call.int(at)?;
        usize::try_from(value).map_err(|_| call.fault(format!("a size of {value}")))
    };
    let (rows, columns, samples) = (size(0)?, size(1)?, size(2)?);
    let (half_pixel, largest) = (call.flag(3), call.flag(4));
    let scale = call.reals.first().copied().unwrap_or(1.0);
    let shape = [count, channels, rows, columns];
    call.within_limit(&shape)?;
    if batch_of.len() != count {
        return Err(call.fault(format!("{} batch indices for {count} regions", batch_of.len())));
    }
    let mut result = Vec::with_capacity(shape.iter().product());
    for (region, &batch) in regions.chunks(4).zip(&batch_of) {
        let batch = usize::try_from(batch).ok().filter(|&batch| batch < batches);
        let batch = batch.ok_or_else(|| call.fault("a batch index out of range"))?;
        let edge = |at: usize| region[at] * scale - if half_pixel { 0.5 } else { 0.0 };
        // Without the half-pixel shift a region is never smaller than an element.
        let least = if half_pixel { f64::NEG_INFINITY } else { 1.0 };
        let bin = [(edge(3) - edge(1)).max(least) / rows as f64, (edge(2) - edge(0)).max(least) / columns as f64];
        let grid = bin.map(|bin| if samples > 0 { samples } else { bin.ceil().max(0.0) as usize });
        call.within_limit(&[rows, columns, grid[0], grid[1]])?;
        let at = |axis: usize, cell: usize, i: usize| {
            edge(1 - axis) + (cell as f64 + (i as f64 + 0.5) / grid[axis] as f64) * bin[axis]
        };
        for channel in 0..channels {
            let plane = &x[(batch * channels + channel) * height * width..][..height * width];
            for (row, column) in (0..rows).flat_map(|row| (0..columns).map(move |column| (row, column))) {
                let points = (0..grid[0]).flat_map(|i| (0..grid[1]).map(move |j| (i, j)));
                let parts = points.map(|(i, j)| {
                    corners(at(0, row, i), at(1, column, j), height, width)
                        .map(|(place, factor)| plane.get(place).copied().unwrap_or(0.0) * factor)
                });
                result.push(if largest {
                    parts.flatten().reduce(f64::max).unwrap_or(0.0)
                } else {
                    parts.flatten().sum::<f64>() / (grid[0] * grid[1]).max(1) as f64
                });
            }
        }
    }
    call.made(Tensor::from_numbers(call.operands[0].dtype(), &shape, &Numbers::Float(result)))
}
