//! Loops: how many of their turns have to be walked.
//!
//! The state after a turn (who comes after what, which signals are open) decides what the next turn can do wrong. Where it comes again
//! after a whole period of all copies and events, the turns in between have shown everything; the walk goes on before the next change
//! of a condition, or before the end.

use super::{
    code::{Node, NodeKind, Target, every},
    expr::{Expr, gcd, lcm},
    extent::Extent,
    walk::{Clock, Walk},
};

/// Turns of a loop that are looked at for a change of a condition.
const LOOKED_AT: i64 = 1024;

/// Periods of more turns than this are not looked for: such loops are walked whole, as far as the budget goes.
const LONGEST: i64 = 1 << 12;

/// What is special about a loop.
pub(super) struct Turns {
    /// Whether lanes may turn differently often.
    pub each: bool,
    /// After so many turns all copies and events come again.
    pub period: i64,
    /// Conditions and ends inside that change with the loop's variable.
    pub conditions: Vec<Expr>,
    /// Tiles of which turns write different parts.
    pub piecewise: Vec<usize>,
}

pub(super) fn turns(body: &[Node], var: usize, step: i64, each: bool) -> Turns {
    let mut turns = Turns { each, period: 1, conditions: Vec::new(), piecewise: Vec::new() };
    // The variable, and those of loops inside whose ends move with it.
    let mut moving = vec![var];
    let moves = |expr: &Expr, moving: &[usize]| moving.iter().any(|&variable| expr.uses(variable));
    every(body, &mut |node| match &node.kind {
        NodeKind::For { var: inner, end, .. } => {
            turns.repeat(end, var, step);
            if moves(end, &moving) {
                moving.push(*inner);
                turns.conditions.push(end.clone());
            }
        }
        NodeKind::If { condition, .. } => {
            turns.repeat(condition, var, step);
            if moves(condition, &moving) {
                turns.conditions.push(condition.clone());
            }
        }
        NodeKind::Event { event, .. } => turns.repeat(event, var, step),
        NodeKind::Work { accesses, .. } => {
            for access in accesses {
                let Target::Tile { tile, slot, axes } = &access.target else { continue };
                turns.repeat(slot, var, step);
                if access.write && axes.iter().any(|(offset, size)| moves(offset, &moving) || moves(size, &moving)) {
                    turns.piecewise.push(*tile);
                }
            }
        }
        NodeKind::Barrier | NodeKind::Nothing => {}
    });
    turns.piecewise.sort_unstable();
    turns.piecewise.dedup();
    turns
}

impl Turns {
    fn repeat(&mut self, expr: &Expr, var: usize, step: i64) {
        expr.periods(var, &mut |moved| {
            let turns = moved / gcd(moved, step).max(1);
            if (2..=LONGEST).contains(&turns) {
                self.period = lcm(self.period, turns);
            }
        });
    }
}

impl<'c> Walk<'c> {
    pub fn turns(&mut self, var: usize, end: Option<i64>, step: i64, body: &'c [Node], turns: &Turns, lanes: &[usize]) {
        let end = end.unwrap_or(0).max(0);
        let count = end.checked_add(step - 1).unwrap_or(end) / step;
        let (mut turn, mut states) = (0, Vec::new());
        while turn < count && self.left > 0 {
            self.values[var] = turn.saturating_mul(step);
            self.block(body, lanes);
            turn += 1;
            if count <= 2 * turns.period + 2 {
                continue;
            }
            states.push(self.state());
            let before = states.len().checked_sub(1 + turns.period as usize);
            let again = before.is_some_and(|before| states[before] == states[states.len() - 1]);
            if again && let Some(next) = self.next(var, step, turn, count, turns) {
                turn = next;
                states.clear();
                turns.piecewise.iter().for_each(|&tile| self.assume(tile));
            }
        }
        self.values[var] = 0;
    }

    /// Where a loop is walked on whose state has come again: a whole number of periods later, before anything changes or ends.
    fn next(&mut self, var: usize, step: i64, turn: i64, count: i64, turns: &Turns) -> Option<i64> {
        let mut holds = |turn: i64| {
            self.values[var] = turn.saturating_mul(step);
            let values = &self.values;
            turns.conditions.iter().map(|one| one.eval(values).is_some_and(|value| value > 0)).collect::<Vec<bool>>()
        };
        let last = count - turns.period - 1;
        let seen = if turns.conditions.is_empty() { turn } else { last.min(turn.saturating_add(LOOKED_AT)) };
        let change = (turn..seen).find(|&turn| holds(turn) != holds(turn - turns.period));
        // Who has looked at too much walks every turn.
        self.looks = self.looks.checked_sub((change.unwrap_or(seen) - turn).max(0) as usize)?;
        let target = change.map_or(last, |change| change - turns.period);
        let periods = (target - turn) / turns.period;
        (periods > 0).then(|| turn + periods * turns.period)
    }

    /// What of the state decides about the future, as a number: who comes after which access, which signals and waits are open.
    fn state(&self) -> u64 {
        use std::hash::{Hash, Hasher};
        let touches = || self.touched.iter().flatten();
        let seen = |clock: &Clock| -> Vec<bool> { touches().map(|touch| clock[touch.queue] >= touch.time).collect() };
        let mut parts: Vec<u64> = Vec::new();
        let mut part = |value: &dyn Fn(&mut rustc_hash::FxHasher)| {
            let mut hasher = rustc_hash::FxHasher::default();
            value(&mut hasher);
            parts.push(hasher.finish());
        };
        for touch in touches() {
            let place = match &touch.extent {
                Extent::Tile { tile, slot, .. } => (*tile, *slot),
                Extent::View { param, .. } => (u32::MAX - param, None),
            };
            let known: Vec<bool> = self.clocks.iter().map(|clock| clock[touch.queue] >= touch.time).collect();
            part(&|hasher| (place, touch.write, touch.queue, touch.at, &known).hash(hasher));
        }
        for (flag, (clock, at)) in &self.signals {
            let known = seen(clock);
            part(&|hasher| (flag, at, &known).hash(hasher));
        }
        for (flag, time) in &self.waits {
            let known: Vec<bool> = self.clocks.iter().map(|clock| clock[flag.1] >= *time).collect();
            part(&|hasher| (flag, &known).hash(hasher));
        }
        parts.sort_unstable();
        parts.dedup();
        let mut hasher = rustc_hash::FxHasher::default();
        parts.hash(&mut hasher);
        hasher.finish()
    }
}
