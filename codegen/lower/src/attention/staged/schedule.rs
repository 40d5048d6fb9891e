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
//! parts, and in each a share of the scores is made. Where keys come too slowly for all cores at once, every core makes parts some blocks of
//! keys later than another: some ask for keys while others ask for values.

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
/// Cores are late by at most so many different numbers of blocks: demand is even enough then, and there are few kinds of core.
const KINDS: usize = 12;

/// What a core has, if it has several items of as many chunks as is known.
pub(super) struct Several {
    share: Share,
    chunks: usize,
    order: Order,
}

impl Several {
    /// Some cores are late if the plan asks for that and items have chunks enough.
    pub fn of(builder: &mut KernelBuilder, chunks: &Dim, plan: &Plan) -> Option<Several> {
        let chunks = chunks.as_usize()?;
        let share = builder.deal_items()?;
        let order = Order::of(plan, (plan.staggered && chunks > LAST).then_some(&share.core));
        Some(Several { share, chunks, order })
    }
}

/// Where in a turn parts are made between scores.
#[derive(Clone)]
struct Order {
    /// How often scores are made: before the parts of each pass, and after the last ones if some are left.
    rounds: usize,
    /// Blocks of keys whose scores are made before the first parts.
    first: Dim,
    /// By how many passes parts are late: the last ones of the chunk before come first.
    late: Dim,
}

impl Order {
    /// Of a core that is not to be in step with the others, or of any. Where parts are made in several passes, cores are late by different
    /// numbers of blocks of keys; where there is one pass, every other core by all of it.
    fn of(plan: &Plan, core: Option<&Dim>) -> Order {
        let (passes, [per, all]) = (plan.passes(), plan.blocks_of_keys());
        let whole = |late: Dim| Order { rounds: passes, first: Dim::from(per), late };
        let blocks = match (core, passes) {
            (None, _) => return whole(Dim::ZERO),
            (Some(core), 1) => return whole(core.modulo(&Dim::from(2usize))),
            (Some(core), _) => {
                let kinds = Dim::from(all.min(KINDS));
                (core.modulo(&kinds) * Dim::from(all)).floor_div(&kinds)
            }
        };
        // A chunk may have fewer blocks than its passes have room for; what is late by all passes begins that much later in its turn.
        let over = passes * per - all;
        let (per, whole) = (Dim::from(per), blocks.floor_div(&Dim::from(per)));
        let first = blocks.modulo(&per) + whole.floor_div(&Dim::from(passes - 1)) * Dim::from(over);
        Order { rounds: passes + 1, first, late: whole + Dim::ONE }
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
        let (passes, [per, all]) = (Dim::from(self.plan.passes()), self.plan.blocks_of_keys().map(Dim::from));
        let order = self.several.as_ref().map(|several| several.order.clone());
        let Order { rounds, first, late } = order.unwrap_or_else(|| Order::of(self.plan, None));
        builder.for_each(Dim::from(rounds), 1, |builder, round| {
            let left = |after: &Dim| count.clone() + after.clone() - turn.clone();
            let begun = |after: &Dim| turn.clone() + Dim::ONE - after.clone();
            let ends = [Dim::ONE - round.clone(), round.clone() + Dim::from(2usize) - Dim::from(rounds)];
            let [begins, last] = ends.clone();
            let bound =
                |round: Dim| (first.clone() + (round - Dim::ONE) * per.clone()).maximum(&Dim::ZERO).minimum(&all);
            let blocks = [bound(round.clone()), bound(round.clone() + Dim::ONE)];
            let behind = Dim::ONE + (late.clone() - round.clone() + passes.clone() - Dim::ONE).floor_div(&passes);
            let pass = (round.clone() - late.clone() + passes.clone() * Dim::from(2usize)).modulo(&passes);
            let has_parts = passes.clone() - round.clone();
            let [now, next, behind, end] = [Dim::ZERO, Dim::ONE, behind, Dim::from(LAST)];
            let scores = Work { is_due: left(&now), blocks, ends, ..work(&now) };
            // The copy that the scores before have not used, which is free already, comes first.
            let sums = scores.block_number(&scores.blocks[1]) * Dim::from(scores.blocks_of_rows().len());
            let is_due = begun(&behind).minimum(&left(&behind)).minimum(&has_parts);
            let step = Turn {
                scores,
                weights: Work { is_due: begun(&next).minimum(&left(&next)).minimum(&begins), ..work(&next) },
                parts: Work { is_due, pass, sums, ..work(&behind) },
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
            blocks: [Dim::ZERO, Dim::ZERO],
            ends: [Dim::ONE, Dim::ONE],
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
