//! Which chunk of which item is whose turn.
//!
//! ```text
//! turn            0    1    2    3    4    5    6             one item has the chunks a b c d, the next one e f g h
//! scores          a    b    c    d    e    f    g
//! weights              a    b    c    d    e    f
//! parts                a    b    c    d    e    f
//! update                    a    b    c    d    e
//! ```
//! A core goes through the chunks of all its items as if they were one, so that the pipeline is not emptied between items. Scores wait for
//! keys from device memory, parts for values that come again from the cache. A turn has as many passes as it takes for all columns of the
//! parts, and in each a share of the scores is made. Where keys come too slowly for all cores at once, some cores make parts one or more
//! passes later than others: some ask for keys while others ask for values.

use tarsia_tensor::Dim;

use super::{Attention, Pipeline, Plan, Work};
use crate::{
    builder::KernelBuilder,
    emit::Span,
    load::part_of,
    persist::Share,
    ring::{COPIES, copy_of},
};

/// How many turns after its scores a chunk is added up.
const LAST: usize = 2;

/// What a core has, if it has several items of as many chunks as is known.
pub(super) struct Several {
    share: Share,
    chunks: usize,
    /// By how many passes this core's parts are late.
    late: Dim,
}

impl Several {
    /// `staggered` tells whether some cores are to be late; they are only if items have chunks enough.
    pub fn of(builder: &mut KernelBuilder, chunks: &Dim, (staggered, passes): (bool, usize)) -> Option<Several> {
        let chunks = chunks.as_usize()?;
        let share = builder.deal_items()?;
        let late = match staggered && chunks > LAST {
            true => share.core.modulo(&Dim::from(passes + 1)),
            false => Dim::ZERO,
        };
        Some(Several { share, chunks, late })
    }
}

/// The turns of one core.
pub(super) struct Schedule<'w, 'a> {
    pub attention: &'w Attention<'a>,
    pub plan: &'w Plan,
    pub pipeline: &'w Pipeline,
    pub several: Option<Several>,
    pub keys: Dim,
    /// Chunks of an item; an item without keys has an empty one.
    pub chunks: Dim,
}

/// The work of the steps in one turn.
pub(super) struct Turn<'w, 'a> {
    pub scores: Work<'w, 'a>,
    pub weights: Work<'w, 'a>,
    pub parts: Work<'w, 'a>,
    pub update: Work<'w, 'a>,
}

impl<'w, 'a> Schedule<'w, 'a> {
    /// The work on the first chunk of the first item.
    pub fn first(&self) -> Work<'w, 'a> {
        self.work(Dim::ZERO, Dim::ZERO, Dim::ZERO)
    }

    /// All turns.
    pub fn turns(
        &self,
        builder: &mut KernelBuilder,
        body: &dyn Fn(&mut KernelBuilder, &Turn<'w, 'a>) -> Result<(), String>,
    ) -> Result<(), String> {
        let more = Dim::from(LAST);
        match &self.several {
            None => builder.for_each(self.chunks.clone() + more, 1, |builder, turn| {
                let work = |before: Dim| self.work(before.clone(), Dim::ZERO, before);
                self.passes(builder, &turn, &self.chunks, &|after| work(turn.clone() - after.clone()), body)
            }),
            Some(Several { share, chunks: 1, .. }) => {
                builder.for_each(share.count.clone() + more, 1, |builder, turn| {
                    let work = |before: Dim| self.work(before.clone(), before, Dim::ZERO);
                    self.passes(builder, &turn, &share.count, &|after| work(turn.clone() - after.clone()), body)
                })
            }
            Some(Several { share, chunks, .. }) => {
                builder.for_each(share.count.clone() + Dim::ONE, 1, |builder, item| {
                    let left = (share.count.clone() - item.clone()) * self.chunks.clone() + more.clone();
                    builder.for_each(self.chunks.minimum(&left), 1, |builder, chunk| {
                        let turn = item.clone() * self.chunks.clone() + chunk.clone();
                        let count = share.count.clone() * self.chunks.clone();
                        self.passes(builder, &turn, &count, &|after| self.behind(&item, &chunk, after, *chunks), body)
                    })
                })
            }
        }
    }

    /// The passes of a turn; `count` is the number of all chunks, `work` the work on the chunk of so many turns before.
    fn passes(
        &self,
        builder: &mut KernelBuilder,
        turn: &Dim,
        count: &Dim,
        work: &dyn Fn(&Dim) -> Work<'w, 'a>,
        body: &dyn Fn(&mut KernelBuilder, &Turn<'w, 'a>) -> Result<(), String>,
    ) -> Result<(), String> {
        let passes = self.plan.passes();
        let late = self.several.as_ref().map_or(Dim::ZERO, |several| several.late.clone());
        builder.for_each(Dim::from(passes), 1, |builder, pass| {
            let left = |after: &Dim| count.clone() + after.clone() - turn.clone();
            let begun = |after: &Dim| turn.clone() + Dim::ONE - after.clone();
            let first = Dim::ONE - pass.clone();
            let last = pass.clone() + Dim::from(2usize) - Dim::from(passes);
            let behind = Dim::ONE + (late.clone() - pass.clone() + Dim::from(passes - 1)).floor_div(&Dim::from(passes));
            let place = (pass.clone() - late.clone() + Dim::from(2 * passes)).modulo(&Dim::from(passes));
            let [now, next, behind, end] = [Dim::ZERO, Dim::ONE, behind, Dim::from(LAST)];
            // The copy that the scores before have not used, which is free already, comes first.
            let scores = Work { is_due: left(&now), pass: pass.clone(), ..work(&now) };
            let sums = scores.blocks_of_keys()[1].clone() * Dim::from(scores.blocks().len());
            let step = Turn {
                scores,
                weights: Work { is_due: begun(&next).minimum(&left(&next)).minimum(&first), ..work(&next) },
                parts: Work { is_due: begun(&behind).minimum(&left(&behind)), pass: place, sums, ..work(&behind) },
                update: Work { is_due: begun(&end).minimum(&last), ..work(&end) },
            };
            body(builder, &step)
        })
    }

    /// The work on the chunk `after` turns before this chunk of this item: later steps are still at the item before.
    fn behind(&self, item: &Dim, chunk: &Dim, after: &Dim, chunks: usize) -> Work<'w, 'a> {
        let ahead = chunk.clone() - after.clone() + self.chunks.clone();
        let number = item.clone() * self.chunks.clone() + chunk.clone() - after.clone();
        let place = item.clone() + ahead.floor_div(&self.chunks) - Dim::ONE;
        let work = self.work(number, place, ahead.modulo(&self.chunks));
        if after.is(0) || chunks <= LAST {
            return work;
        }
        // The same without remainders, for which conditions would only repeat with whole items.
        let is = |after: Dim| {
            let distance = chunk.clone() - after;
            Dim::ONE - distance.maximum(&(Dim::ZERO - distance.clone()))
        };
        Work { is_first: is(after.clone()), is_last: is(after.clone() - Dim::ONE), ..work }
    }

    /// The work on a chunk of an item; it is the one of this number of all that the core has.
    fn work(&self, number: Dim, item: Dim, chunk: Dim) -> Work<'w, 'a> {
        let place = |dim: &Dim| match &self.several {
            Some(several) => dim.substitute(&|axis| several.share.place(axis, &item)),
            None => dim.clone(),
        };
        let placed = |span: &Span| Span { start: place(&span.start), size: place(&span.size), ..*span };
        let spans: Vec<Span> = self.plan.spans.iter().map(placed).collect();
        let kept = Dim::from(COPIES);
        Work {
            attention: self.attention,
            plan: self.plan,
            pipeline: self.pipeline,
            size: crate::load::extent(&self.plan.rows, &spans).0,
            spans,
            chunk: part_of(&self.keys, chunk.clone() * Dim::from(self.plan.chunk), self.plan.chunk),
            any: self.keys.clone(),
            is_due: Dim::ONE,
            pass: Dim::ZERO,
            sums: Dim::ZERO,
            number: number.clone(),
            is_first: Dim::ONE - chunk.clone(),
            is_last: chunk + Dim::from(2usize) - self.chunks.clone(),
            item: copy_of(&item),
            copy: copy_of(&number),
            kept: number.modulo(&kept),
            before: (number + kept.clone() - Dim::ONE).modulo(&kept),
        }
    }
}
