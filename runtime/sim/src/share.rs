//! Transfers that share memories: each has a rate of its own that its path allows, and each memory a rate that all its users share.
//!
//! A memory that is asked for more than it gives is shared max-min fairly: nobody gets more than the level at which all is given
//! away, who wants less gets what it wants. Rates change only when a transfer begins or ends.

use smallvec::SmallVec;

/// Shared memories: device memory and the cache in front of it.
pub(crate) const SHARED: usize = 2;
pub(crate) const MEMORY: usize = 0;
pub(crate) const CACHE: usize = 1;

/// A transfer.
#[derive(Clone, Debug)]
pub(crate) struct Demand {
    /// Cycles that it takes alone.
    pub alone: f64,
    /// Bytes that it needs of each shared memory.
    pub bytes: [f64; SHARED],
    /// How many equal transfers of equal cores it stands for.
    pub weight: f64,
    /// What several may read at one moment only one after the other.
    pub address: Option<Address>,
}

/// A place that is read, and by how many at this moment, where that is known beforehand.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Address {
    pub place: (u32, i64),
    /// Requests that the transfer becomes.
    pub requests: f64,
    pub readers: f64,
}

#[derive(Clone, Debug)]
struct Job {
    demand: Demand,
    /// What is left of it, of 1.
    left: f64,
    /// Part of it done per cycle.
    rate: f64,
    owner: usize,
}

/// The transfers under way.
pub(crate) struct Share {
    jobs: Vec<Job>,
    now: f64,
    /// Bytes per cycle of each shared memory.
    capacity: [f64; SHARED],
    /// Cycles between two requests for one address.
    same_address: f64,
    /// When the next transfer ends at the present rates.
    next: f64,
    /// Byte-cycles given, for each memory.
    stale: bool,
}

impl Share {
    /// No transfers.
    pub fn new(capacity: [f64; SHARED], same_address: f64) -> Share {
        Share { jobs: Vec::new(), now: 0.0, capacity, same_address, next: f64::INFINITY, stale: false }
    }

    /// When the next transfer ends.
    pub fn next(&mut self) -> f64 {
        if self.stale {
            self.settle();
        }
        self.next
    }

    /// Begins a transfer for an owner.
    pub fn begin(&mut self, now: f64, demand: Demand, owner: usize) {
        self.advance(now);
        self.jobs.push(Job { demand, left: 1.0, rate: 0.0, owner });
        self.stale = true;
    }

    /// What is left of every transfer, of 1, by owner.
    pub fn left(&mut self, now: f64) -> impl Iterator<Item = (usize, f64)> + '_ {
        self.advance(now);
        self.jobs.iter().map(|job| (job.owner, job.left))
    }

    /// The owners whose transfers have ended by now.
    pub fn finished(&mut self, now: f64) -> SmallVec<[usize; 4]> {
        self.advance(now);
        let mut owners = SmallVec::new();
        let slack = |job: &Job| job.left <= 1e-9 || job.left <= job.rate * 1e-6;
        let mut at = 0;
        while at < self.jobs.len() {
            if slack(&self.jobs[at]) {
                // The order of what is left decides nothing but the order of equals.
                owners.push(self.jobs.remove(at).owner);
                self.stale = true;
            } else {
                at += 1;
            }
        }
        owners
    }

    fn advance(&mut self, now: f64) {
        if self.stale {
            self.settle();
        }
        let passed = now - self.now;
        if passed > 0.0 {
            self.jobs.iter_mut().for_each(|job| job.left -= job.rate * passed);
        }
        self.now = now;
    }

    /// Finds the rates of all transfers, and when the first ends.
    fn settle(&mut self) {
        self.stale = false;
        self.own_rates();
        let mut open: SmallVec<[bool; 64]> = self.jobs.iter().map(|_| true).collect();
        let mut capacity = self.capacity;
        // In each round the memory with the lowest level gives all it has: at most one round per memory.
        for _ in 0..SHARED {
            let levels = [MEMORY, CACHE].map(|memory| self.level(memory, capacity[memory], &open));
            let tightest = if levels[MEMORY].1 <= levels[CACHE].1 { MEMORY } else { CACHE };
            let (level, _) = levels[tightest];
            if level.is_infinite() {
                break;
            }
            for (job, open) in self.jobs.iter_mut().zip(open.iter_mut()) {
                let wants = job.demand.bytes[tightest];
                if !*open || wants <= 0.0 {
                    continue;
                }
                *open = false;
                job.rate = job.rate.min(level / wants);
                for (memory, capacity) in capacity.iter_mut().enumerate() {
                    *capacity = (*capacity - job.demand.weight * job.rate * job.demand.bytes[memory]).max(0.0);
                }
            }
        }
        let ends = self.jobs.iter().map(|job| self.now + job.left.max(0.0) / job.rate);
        self.next = ends.fold(f64::INFINITY, f64::min);
    }

    /// The rates that the transfers' own paths and addresses allow.
    fn own_rates(&mut self) {
        for at in 0..self.jobs.len() {
            let demand = &self.jobs[at].demand;
            let mut alone = demand.alone;
            if let (Some(address), true) = (demand.address, self.same_address > 0.0) {
                let here = |job: &Job| job.demand.address.is_some_and(|other| other.place == address.place);
                let meet: f64 = self.jobs.iter().filter(|job| here(job)).count() as f64;
                let readers = meet.max(address.readers);
                if readers > 1.0 {
                    alone = alone.max(address.requests * readers * self.same_address);
                }
            }
            self.jobs[at].rate = 1.0 / alone.max(1e-6);
        }
    }

    /// The level up to which a memory's users get what they want, and by what factor it is asked for too much (below 1: not at all).
    fn level(&self, memory: usize, capacity: f64, open: &[bool]) -> (f64, f64) {
        let users = || {
            self.jobs
                .iter()
                .zip(open)
                .filter(move |(job, open)| **open && job.demand.bytes[memory] > 0.0)
                .map(move |(job, _)| (job.rate * job.demand.bytes[memory], job.demand.weight))
        };
        let asked: f64 = users().map(|(wants, weight)| wants * weight).sum();
        if asked <= capacity {
            return (f64::INFINITY, f64::INFINITY);
        }
        let mut sorted: SmallVec<[(f64, f64); 64]> = users().collect();
        sorted.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
        let mut weight: f64 = sorted.iter().map(|(_, weight)| weight).sum();
        let mut left = capacity;
        for (wants, own) in sorted {
            let level = left / weight;
            if wants >= level {
                return (level, capacity / asked);
            }
            left -= wants * own;
            weight -= own;
        }
        (f64::INFINITY, f64::INFINITY)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn demand(alone: f64, memory: f64, cache: f64) -> Demand {
        Demand { alone, bytes: [memory, cache], weight: 1.0, address: None }
    }

    #[test]
    fn one_transfer_goes_at_the_rate_of_its_path() {
        let mut share = Share::new([32.0, f64::INFINITY], 0.0);
        share.begin(10.0, demand(100.0, 1600.0, 0.0), 7);
        assert_eq!(share.next(), 110.0);
        assert_eq!(share.finished(110.0).as_slice(), [7]);
        assert!(share.next().is_infinite());
    }

    #[test]
    fn two_share_and_the_second_speeds_up_when_the_first_is_done() {
        // Each could take 24 bytes a cycle, together they get 32.
        let mut share = Share::new([32.0, f64::INFINITY], 0.0);
        share.begin(0.0, demand(50.0, 1200.0, 0.0), 0);
        share.begin(0.0, demand(100.0, 2400.0, 0.0), 1);
        assert_eq!(share.next(), 75.0);
        assert_eq!(share.finished(75.0).as_slice(), [0]);
        // 1200 of 2400 bytes are left, at 24 a cycle.
        assert_eq!(share.next(), 125.0);
    }

    #[test]
    fn who_wants_less_gets_what_it_wants() {
        let mut share = Share::new([32.0, f64::INFINITY], 0.0);
        share.begin(0.0, demand(100.0, 400.0, 0.0), 0);
        share.begin(0.0, demand(100.0, 6400.0, 0.0), 1);
        assert_eq!(share.next(), 100.0);
        assert_eq!(share.finished(100.0).as_slice(), [0]);
        // 28 of 64 bytes a cycle: 2800 are done, and the rest goes at 32.
        assert!((share.next() - (100.0 + 3600.0 / 32.0)).abs() < 1e-9);
    }

    #[test]
    fn one_of_weight_two_is_like_two() {
        let mut share = Share::new([32.0, f64::INFINITY], 0.0);
        share.begin(0.0, Demand { weight: 2.0, ..demand(100.0, 2400.0, 0.0) }, 0);
        assert_eq!(share.next(), 150.0);
    }

    #[test]
    fn readers_of_one_address_wait_for_each_other() {
        let address = Some(Address { place: (0, 0), requests: 1000.0, readers: 0.0 });
        let mut share = Share::new([f64::INFINITY; 2], 0.01);
        share.begin(0.0, Demand { address, ..demand(10.0, 0.0, 0.0) }, 0);
        assert_eq!(share.next(), 10.0);
        share.begin(0.0, Demand { address, ..demand(10.0, 0.0, 0.0) }, 1);
        assert_eq!(share.next(), 20.0);
    }
}
