//! Σₑ [ids = e]·f(e) = f(ids): a sum over all experts of which a factor leaves one is the chosen expert.

use smallvec::SmallVec;
use tarsia_graph::{BinaryFn, GraphError, Op, Origin, ReduceFn, Value};
use tarsia_tensor::Dim;

use super::{
    one,
    one_hot::{Factor, OneHot, factors, one_hot},
    rebase::{Map, Places, rebase, same_axis},
};
use crate::emit::Emitter;

pub(super) fn choose(
    emitter: &mut Emitter,
    op: &Op,
    x: &[Value],
    origin: &Origin,
) -> Result<Option<SmallVec<[Value; 1]>>, GraphError> {
    let Op::Reduce { function: ReduceFn::Sum, axes } = op else { return Ok(None) };
    let (mut axes, mut inner) = (axes.clone(), x[0]);
    let mut result = emitter.ty(x[0]).shape.clone();
    axes.iter().for_each(|&axis| result[axis] = Dim::ONE);
    while let Some((more, under)) = sum_under(emitter, inner, &axes) {
        (axes, inner) = (more, under);
    }
    let rank = emitter.ty(inner).rank();
    let all = factors(emitter, inner);
    if all.len() < 2 {
        return Ok(None);
    }
    for &e in &axes {
        for (i, &factor) in all.iter().enumerate() {
            let Some(hot) = one_hot(emitter, factor, rank, e, origin)? else { continue };
            let others: Vec<Factor> = all.iter().enumerate().filter(|(j, _)| *j != i).map(|(_, f)| *f).collect();
            let shape = emitter.ty(inner).shape.clone();
            if let Some(sum) = chosen(emitter, &hot, &others, e, &axes, &shape, origin)? {
                return Ok(Some(one(emitter.emit(Op::Reshape { shape: result }, &[sum], origin)?)));
            }
        }
    }
    Ok(None)
}

/// Sums of sums are one sum: the summed axes and the value under the next sum, which may stand under a reshape.
fn sum_under(emitter: &Emitter, value: Value, axes: &[usize]) -> Option<(Vec<usize>, Value)> {
    match emitter.producer(value) {
        (Op::Reduce { function: ReduceFn::Sum, axes: more }, under) => {
            Some((axes.iter().chain(more).copied().collect(), under[0]))
        }
        (Op::Reshape { shape }, under) => {
            let from = &emitter.ty(under[0]).shape;
            let moved = axes.iter().filter(|&&axis| !shape[axis].is(1)).map(|&axis| same_axis(shape, from, axis));
            let moved: Vec<usize> = moved.collect::<Option<_>>()?;
            let (Op::Reduce { .. }, _) = emitter.producer(under[0]) else { return None };
            sum_under(emitter, under[0], &moved)
        }
        _ => None,
    }
}

/// The sum with the chosen places read; keeps the order of the axes that are not summed.
fn chosen(
    emitter: &mut Emitter,
    hot: &OneHot,
    others: &[Factor],
    e: usize,
    axes: &[usize],
    shape: &[Dim],
    origin: &Origin,
) -> Result<Option<Value>, GraphError> {
    let places: Places = std::iter::once(Some(e)).chain(hot.rows.iter().map(|&row| Some(row))).collect();
    let rest: Vec<usize> = (0..shape.len()).filter(|axis| !places.contains(&Some(*axis))).collect();
    let Some(mut product) = read(emitter, hot, others, shape.len(), &places, origin)? else { return Ok(None) };
    let new = emitter.ty(hot.ids).rank();
    if let Some(weights) = hot.weights {
        let mut wide = emitter.ty(weights).shape.clone();
        wide.resize(new + rest.len(), Dim::ONE);
        let weights = emitter.emit(Op::Reshape { shape: wide }, &[weights], origin)?;
        // They may have been converted behind the scattering.
        let dtype = emitter.ty(product).dtype;
        let weights = emitter.emit(Op::Cast { dtype, saturate: true }, &[weights], origin)?;
        product = emitter.emit(Op::Binary(BinaryFn::Mul), &[product, weights], origin)?;
    }
    // Every new axis that is summed must be there in full.
    let mut full = emitter.ty(hot.ids).shape.clone();
    full.extend(emitter.ty(product).shape[new..].iter().cloned());
    product = emitter.emit(Op::Broadcast { shape: full }, &[product], origin)?;
    let mut sums: Vec<usize> = (hot.rows.len()..new).collect();
    sums.extend(hot.rows.iter().enumerate().filter(|(_, row)| axes.contains(row)).map(|(i, _)| i));
    sums.extend(rest.iter().enumerate().filter(|(_, axis)| axes.contains(axis)).map(|(i, _)| i + new));
    sums.sort_unstable();
    let mut sum = product;
    if !sums.is_empty() {
        sum = emitter.emit(Op::Reduce { function: ReduceFn::Sum, axes: sums }, &[product], origin)?;
    }
    // Rows come first now; put the axes back in their order.
    let order: Vec<usize> = hot.rows.iter().copied().chain(rest.iter().copied()).collect();
    let mut small: Vec<Dim> = emitter.ty(sum).shape[..hot.rows.len()].to_vec();
    small.extend(emitter.ty(sum).shape[new..].iter().cloned());
    let sum = emitter.emit(Op::Reshape { shape: small }, &[sum], origin)?;
    let mut sorted = order.clone();
    sorted.sort_unstable();
    let perm = sorted.iter().map(|axis| order.iter().position(|o| o == axis).unwrap_or(0)).collect();
    emitter.emit(Op::Transpose { perm }, &[sum], origin).map(Some)
}

/// The product of the other factors at the chosen places.
fn read(
    emitter: &mut Emitter,
    hot: &OneHot,
    others: &[Factor],
    rank: usize,
    places: &Places,
    origin: &Origin,
) -> Result<Option<Value>, GraphError> {
    let mut map = Chosen { ids: hot.ids, sizes: emitter.ty(hot.ids).shape.clone(), rows: hot.rows.len(), origin };
    let mut product: Option<Value> = None;
    let mut conditions = Vec::new();
    for factor in others {
        let mut value = factor.value();
        let mut shape = emitter.ty(value).shape.clone();
        if shape.len() < rank {
            shape.splice(0..0, vec![Dim::ONE; rank - shape.len()]);
            value = emitter.emit(Op::Reshape { shape: shape.clone() }, &[value], origin)?;
        }
        let inner: Places = places.iter().map(|p| p.filter(|&axis| !shape[axis].is(1))).collect();
        let Some(read) = at(emitter, &mut map, value, &inner, places, origin)? else { return Ok(None) };
        match factor {
            Factor::Where(_) => conditions.push(read),
            Factor::Times(_) => {
                product = Some(match product {
                    None => read,
                    Some(product) => emitter.emit(Op::Binary(BinaryFn::Mul), &[product, read], origin)?,
                });
            }
        }
    }
    let Some(mut product) = product else { return Ok(None) };
    for condition in conditions {
        let zero = emitter.repeated(emitter.ty(product).dtype, 0.0, &[], origin)?;
        product = emitter.emit(Op::Select {}, &[condition, product, zero], origin)?;
    }
    Ok(Some(product))
}

/// A value rebased whose tracked axes of size 1 are dropped first.
fn at(
    emitter: &mut Emitter,
    map: &mut Chosen,
    value: Value,
    inner: &Places,
    places: &Places,
    origin: &Origin,
) -> Result<Option<Value>, GraphError> {
    let shape = emitter.ty(value).shape.clone();
    let dropped = |axis: usize| places.contains(&Some(axis)) && !inner.contains(&Some(axis));
    let kept: Vec<usize> = (0..shape.len()).filter(|&axis| !dropped(axis)).collect();
    let small = kept.iter().map(|&axis| shape[axis].clone()).collect();
    let small = emitter.emit(Op::Reshape { shape: small }, &[value], origin)?;
    let inner: Places = inner.iter().map(|p| p.and_then(|axis| kept.iter().position(|&k| k == axis))).collect();
    rebase(emitter, map, small, &inner, origin)
}

/// Place `ids` instead of e; rows stay, fresh axes come after them.
struct Chosen<'a> {
    ids: Value,
    sizes: Vec<Dim>,
    rows: usize,
    origin: &'a Origin,
}

impl Chosen<'_> {
    /// The value with axes in this order, then axes of size 1 inserted after the rows.
    fn rows_first(&self, emitter: &mut Emitter, value: Value, places: &Places) -> Result<Value, GraphError> {
        let shape = emitter.ty(value).shape.clone();
        let rows: Vec<usize> = places[1..].iter().flatten().copied().collect();
        let rest: Vec<usize> = (0..shape.len()).filter(|axis| !rows.contains(axis)).collect();
        let perm: Vec<usize> = rows.iter().chain(&rest).copied().collect();
        let moved = emitter.emit(Op::Transpose { perm }, &[value], self.origin)?;
        let mut target: Vec<Dim> = places[1..].iter().map(|p| p.map_or(Dim::ONE, |axis| shape[axis].clone())).collect();
        target.resize(self.sizes.len(), Dim::ONE);
        target.extend(rest.iter().map(|&axis| shape[axis].clone()));
        emitter.emit(Op::Reshape { shape: target }, &[moved], self.origin)
    }
}

impl Map for Chosen<'_> {
    fn sizes(&self) -> Vec<Dim> {
        self.sizes.clone()
    }

    fn leaf(&mut self, emitter: &mut Emitter, value: Value, places: &Places) -> Result<Option<Value>, GraphError> {
        if places[0].is_none() {
            return self.rows_first(emitter, value, places).map(Some);
        }
        // A count along e is the index itself.
        if places[1..].iter().all(Option::is_none) && crate::known::is_count(&emitter.graph, value) {
            let (dtype, rank) = (emitter.ty(value).dtype, emitter.ty(value).rank());
            let mut shape = self.sizes.clone();
            shape.resize(self.sizes.len() + rank - 1, Dim::ONE);
            let ids = emitter.emit(Op::Cast { dtype, saturate: true }, &[self.ids], self.origin)?;
            return emitter.emit(Op::Reshape { shape }, &[ids], self.origin).map(Some);
        }
        Ok(None)
    }

    fn fallback(&mut self, emitter: &mut Emitter, value: Value, places: &Places) -> Result<Option<Value>, GraphError> {
        let Some(e) = places[0] else { return Ok(None) };
        let shape = emitter.ty(value).shape.clone();
        let rows: Vec<usize> = places[1..].iter().flatten().copied().collect();
        let rest: Vec<usize> = (0..shape.len()).filter(|axis| *axis != e && !rows.contains(axis)).collect();
        if rows.is_empty() {
            // Whole rows of a small value, a bias for instance; matrices are only ever chosen by a contraction.
            if rest.len() > 1 && rest.iter().filter(|&&axis| !shape[axis].is(1)).count() > 1 {
                return Ok(None);
            }
            let perm: Vec<usize> = std::iter::once(e).chain(rest).collect();
            let moved = emitter.emit(Op::Transpose { perm }, &[value], self.origin)?;
            return emitter.emit(Op::Gather { axis: 0 }, &[moved, self.ids], self.origin).map(Some);
        }
        if rows.len() < self.rows {
            return Ok(None);
        }
        // Along e for each row: the indices have one place for every fresh axis, or one.
        let perm: Vec<usize> = rows.iter().copied().chain([e]).chain(rest.iter().copied()).collect();
        let moved = emitter.emit(Op::Transpose { perm }, &[value], self.origin)?;
        let mut narrow = self.sizes[..self.rows].to_vec();
        narrow.push(Dim::product(&self.sizes[self.rows..]));
        let mut wide = narrow.clone();
        narrow.resize(self.rows + 1 + rest.len(), Dim::ONE);
        wide.extend(rest.iter().map(|&axis| shape[axis].clone()));
        let ids = emitter.emit(Op::Reshape { shape: narrow }, &[self.ids], self.origin)?;
        let ids = emitter.emit(Op::Broadcast { shape: wide }, &[ids], self.origin)?;
        let taken = emitter.emit(Op::TakeAlong { axis: self.rows }, &[moved, ids], self.origin)?;
        let mut target = self.sizes.clone();
        target.extend(rest.iter().map(|&axis| shape[axis].clone()));
        emitter.emit(Op::Reshape { shape: target }, &[taken], self.origin).map(Some)
    }

    fn choice(&self) -> Option<Value> {
        Some(self.ids)
    }
}
