//! Work dealt out to the vector cores beside the matrix unit.

use tarsia_tensor::Dim;
use tarsia_tile::Region;

use crate::{builder::KernelBuilder, emit::Span, load::part_of};

/// Tiles as large as a piece that an epilogue or prologue may have at the same time, double buffering included.
const PIECES: usize = 12;

/// Where a piece is in the block that was dealt out.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    /// The axis along which the block was dealt out.
    pub axis: usize,
    /// First index in the block.
    pub offset: Dim,
    /// First index in the share of one core.
    pub within: Dim,
}

/// Deals a block out to the vector cores that work with the unit, along the first of its axes that may be cut, in pieces of which a dozen
/// fit their memory; see [`deal_pieces`].
pub(crate) fn deal(
    builder: &mut KernelBuilder,
    axes: &[usize],
    granule: usize,
    spans: &[Span],
    cuttable: &dyn Fn(usize) -> bool,
    body: impl FnMut(&mut KernelBuilder, Vec<Span>, Place) -> Result<(), String>,
) -> Result<(), String> {
    let (room, axis) = (room(builder), dealt_axis(axes, granule, spans, cuttable));
    deal_pieces(builder, (axes, axis), granule, room, spans, body)
}

/// Elements of a piece.
pub(crate) fn room(builder: &KernelBuilder) -> usize {
    builder.target.elements(builder.target.bytes_of(&builder.target.vector_space) / 4 / PIECES)
}

/// Deals a block out to the vector cores that work with the unit, along one of its axes; each takes its share piece by piece, pieces
/// beginning at multiples of `granule` and holding `room` elements. `body` gets the spans of a piece and where it is. A piece may be empty.
pub(crate) fn deal_pieces(
    builder: &mut KernelBuilder,
    (axes, axis): (&[usize], usize),
    granule: usize,
    room: usize,
    spans: &[Span],
    mut body: impl FnMut(&mut KernelBuilder, Vec<Span>, Place) -> Result<(), String>,
) -> Result<(), String> {
    let others = axes.iter().enumerate().filter(|(at, _)| *at != axis);
    let row = others.fold(1usize, |n, (_, &g)| n.saturating_mul(spans[g].capacity));
    let rows = spans[axes[axis]].clone();
    let lanes = lanes(builder, rows.capacity);
    let lane = if lanes > 1 { builder.lane() } else { Dim::ZERO };
    let share = rows.capacity.div_ceil(lanes);
    let part = (room / row.max(1) / granule * granule).max(granule).min(share);
    // Equal pieces, if that makes them not much shorter.
    let equal =
        (part.div_ceil(2)..=part).rev().find(|part| share.is_multiple_of(*part) && part.is_multiple_of(granule));
    let part = equal.unwrap_or(part);
    builder.for_each(Dim::from(share), part as i64, |builder, start| {
        let offset = lane.clone() * Dim::from(share) + start.clone();
        let left = rows.size.clone() - offset.clone();
        let whole = share.is_multiple_of(part) && rows.size.as_usize() == Some(share * lanes);
        let size = match whole {
            true => Dim::from(part),
            false => part_of(&Dim::from(share), start.clone(), part).size.minimum(&left).maximum(&Dim::ZERO),
        };
        let mut spans = spans.to_vec();
        spans[axes[axis]] = Span { start: rows.start.clone() + offset.clone(), size, capacity: part };
        body(builder, spans, Place { axis, offset, within: start })
    })
}

/// The first axis that may be cut and is longer than 1.
pub(crate) fn dealt_axis(axes: &[usize], granule: usize, spans: &[Span], cuttable: &dyn Fn(usize) -> bool) -> usize {
    let may = |&group: &usize| cuttable(group);
    let long = axes.iter().position(|group| may(group) && (granule > 1 || spans[*group].capacity > 1));
    long.or_else(|| axes.iter().position(may)).unwrap_or(0)
}

/// The vector cores that share something of this length; a single element is nothing to share.
pub(crate) fn lanes(builder: &KernelBuilder, length: usize) -> usize {
    if length > 1 { builder.target.lanes.max(1) } else { 1 }
}

/// The share of one core of a block with these axes, per axis.
pub(crate) fn share(builder: &KernelBuilder, axes: &[usize], spans: &[Span]) -> Vec<usize> {
    let mut shares: Vec<usize> = axes.iter().map(|&group| spans[group].capacity).collect();
    let axis = dealt_axis(axes, 1, spans, &|_| true);
    shares[axis] = shares[axis].div_ceil(lanes(builder, shares[axis]));
    shares
}

/// The piece of a block that `deal` gave, in the tile that holds the block.
pub(crate) fn piece_of(whole: &Region, axes: &[usize], spans: &[Span], place: Place) -> Region {
    let mut part = whole.clone();
    (part.offset[place.axis], part.size[place.axis]) = (place.offset, spans[axes[place.axis]].size.clone());
    part
}
