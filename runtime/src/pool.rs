//! A fork-join thread pool with low start cost.
//!
//! [`Pool::run`] hands out the numbers `0..tasks` to the caller and the workers through one atomic counter and returns
//! when all are done. Nothing is allocated per call. Workers spin for a short while after a job and then sleep, so that
//! back-to-back jobs start within a microsecond and an idle process costs nothing. A task defines its own arithmetic:
//! which worker runs it must not matter for its result.
//!
//! A late worker never delays a job: it joins only while the job is open, and the caller closes it when no task is left.

use std::any::Any;
use std::cell::UnsafeCell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering, fence};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// The body of a job: called with the worker's number (the caller is 0) and the task's number.
pub type Task<'a> = dyn Fn(usize, usize) + Sync + 'a;

/// A fixed set of worker threads; the caller of [`Pool::run`] works too.
pub struct Pool {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
    /// Held during a job; a second caller, or a task that forks again, runs its tasks by itself.
    busy: Mutex<()>,
}

impl Pool {
    /// A pool in which `threads` threads work: the caller and `threads - 1` workers (0 counts as 1).
    ///
    /// Threads that the system refuses to start are left out; see [`Pool::threads`]. All others run when this returns: what a thread
    /// allocates at its start is not allocated during a job.
    pub fn new(threads: usize) -> Self {
        let shared = Arc::new(Shared::default());
        let (starting, all_started) = mpsc::channel::<()>();
        let workers = (1..threads.max(1))
            .map_while(|worker| {
                let (shared, starting) = (Arc::clone(&shared), starting.clone());
                let body = move || {
                    drop(starting);
                    shared.serve(worker);
                };
                std::thread::Builder::new().name(format!("tarsia-{worker}")).spawn(body).ok()
            })
            .collect();
        drop(starting);
        // Nothing is ever sent: the channel ends with the last thread that starts.
        let _ = all_started.recv();
        Pool { shared, workers, busy: Mutex::new(()) }
    }

    /// The number of threads that work on a job, the caller included.
    pub fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Runs `task(worker, i)` once for every `i` in `0..tasks` and returns when all have ended.
    ///
    /// `worker` is below [`Pool::threads`] and no two tasks run at the same time with the same one within a call from
    /// outside; a nested or concurrent call runs all its tasks on its own thread as worker 0.
    ///
    /// # Panics
    /// With the payload of a task that panicked, after every running task has ended; tasks not yet started are dropped.
    pub fn run(&self, tasks: usize, task: &Task<'_>) {
        if self.workers.is_empty() || tasks <= 1 {
            return (0..tasks).for_each(|i| task(0, i));
        }
        match self.busy.try_lock() {
            Ok(guard) => self.fork_join(tasks, task, guard),
            Err(std::sync::TryLockError::Poisoned(e)) => self.fork_join(tasks, task, e.into_inner()),
            Err(std::sync::TryLockError::WouldBlock) => (0..tasks).for_each(|i| task(0, i)),
        }
    }

    fn fork_join(&self, tasks: usize, task: &Task<'_>, guard: MutexGuard<'_, ()>) {
        let shared = &*self.shared;
        let grain = (tasks / (self.threads() * 16)).max(1);
        shared.next.0.store(0, Ordering::Relaxed);
        // SAFETY: `busy` is held and the last job is closed with no worker inside, so nobody reads the cell now. The
        // lifetime is erased: workers call the task only between joining and leaving an open job, and this function
        // does not return before the job is closed and all have left.
        unsafe {
            let task = std::mem::transmute::<*const Task<'_>, *const Task<'static>>(task);
            *shared.job.get() = Some(Job { task, tasks, grain });
        }
        shared.open(tasks.div_ceil(grain) - 1);
        shared.work(0, Job { task, tasks, grain });
        shared.close();
        let panic = lock(&shared.panic).take();
        drop(guard);
        if let Some(payload) = panic {
            resume_unwind(payload);
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        drop(lock(&self.shared.sleep));
        self.shared.wake.notify_all();
        for worker in self.workers.drain(..) {
            // A worker catches the panics of its tasks, so joining cannot fail in a way that matters here.
            let _ = worker.join();
        }
    }
}

/// How long a worker watches for the next job before it sleeps.
const SPIN: Duration = Duration::from_micros(40);

/// `Shared::state`: workers inside the job in the low 32 bits, then whether it may still be joined, then its number.
const OPEN: u64 = 1 << 32;
const NEXT_JOB: u64 = 1 << 33;
const INSIDE: u64 = OPEN - 1;

#[derive(Clone, Copy)]
struct Job<'a> {
    task: *const Task<'a>,
    tasks: usize,
    grain: usize,
}

#[repr(align(128))]
#[derive(Default)]
struct Padded<T>(T);

#[derive(Default)]
struct Shared {
    state: Padded<AtomicU64>,
    next: Padded<AtomicUsize>,
    job: UnsafeCell<Option<Job<'static>>>,
    sleeping: AtomicUsize,
    sleep: Mutex<()>,
    wake: Condvar,
    stop: AtomicBool,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

// SAFETY: `job` is written only while no job is open and nobody is inside (see `fork_join`), and read only by workers
// inside an open job; `state` orders the two. The task behind its pointer is `Sync`.
unsafe impl Sync for Shared {}
// SAFETY: as above; nothing in `Shared` is tied to a thread.
unsafe impl Send for Shared {}

impl Shared {
    /// Opens a job in which at most `helpers` workers can find a task.
    fn open(&self, helpers: usize) {
        let last = self.state.0.load(Ordering::Relaxed);
        self.state.0.store((last & !INSIDE & !OPEN).wrapping_add(NEXT_JOB) | OPEN, Ordering::Release);
        // Pairs with the fence in `sleep_until_job`: either we see the sleeper or it sees the job.
        fence(Ordering::SeqCst);
        let sleeping = self.sleeping.load(Ordering::Relaxed);
        if sleeping > 0 {
            drop(lock(&self.sleep));
            if sleeping <= helpers {
                self.wake.notify_all();
            } else {
                (0..helpers).for_each(|_| self.wake.notify_one());
            }
        }
    }

    /// Lets nobody join any more and waits until all workers have left.
    fn close(&self) {
        self.state.0.fetch_and(!OPEN, Ordering::AcqRel);
        let mut spins = 0u32;
        while self.state.0.load(Ordering::Acquire) & INSIDE != 0 {
            spins += 1;
            if spins < 2000 { std::hint::spin_loop() } else { std::thread::yield_now() }
        }
    }

    /// Takes tasks until none is left. After a panic the rest is dropped.
    fn work(&self, worker: usize, job: Job<'_>) {
        // SAFETY: the caller is inside the job (or is its owner), so the task is alive.
        let task = unsafe { &*job.task };
        let run = AssertUnwindSafe(|| {
            loop {
                let start = self.next.0.fetch_add(job.grain, Ordering::Relaxed);
                if start >= job.tasks {
                    break;
                }
                (start..job.tasks.min(start + job.grain)).for_each(|i| task(worker, i));
            }
        });
        if let Err(payload) = catch_unwind(run) {
            self.next.0.store(job.tasks, Ordering::Relaxed);
            lock(&self.panic).get_or_insert(payload);
        }
    }

    /// The life of a worker.
    fn serve(&self, worker: usize) {
        let mut seen = 0;
        while let Some(state) = self.await_job(seen) {
            let joined = self.state.0.compare_exchange(state, state + 1, Ordering::AcqRel, Ordering::Relaxed);
            if joined.is_err() {
                continue;
            }
            seen = state & !INSIDE;
            // SAFETY: we are counted inside an open job, so the cell is not written before we leave.
            if let Some(job) = unsafe { *self.job.get() } {
                self.work(worker, job);
            }
            self.state.0.fetch_sub(1, Ordering::Release);
        }
    }

    /// The state of an open job other than `seen`; `None` when the pool is dropped.
    fn await_job(&self, seen: u64) -> Option<u64> {
        let mut started = Instant::now();
        loop {
            for _ in 0..64 {
                if let Some(state) = self.open_job(seen) {
                    return Some(state);
                }
                std::hint::spin_loop();
            }
            if self.stop.load(Ordering::Acquire) {
                return None;
            }
            if started.elapsed() > SPIN {
                self.sleep_until_job(seen);
                started = Instant::now();
            }
        }
    }

    fn sleep_until_job(&self, seen: u64) {
        let mut guard = lock(&self.sleep);
        self.sleeping.fetch_add(1, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        while self.open_job(seen).is_none() && !self.stop.load(Ordering::Acquire) {
            guard = self.wake.wait(guard).unwrap_or_else(PoisonError::into_inner);
        }
        self.sleeping.fetch_sub(1, Ordering::Relaxed);
    }

    fn open_job(&self, seen: u64) -> Option<u64> {
        let state = self.state.0.load(Ordering::Acquire);
        (state & OPEN != 0 && state & !INSIDE != seen).then_some(state)
    }
}

/// The guard of a mutex whose data stays valid when a holder panics.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_task_runs_once() {
        for threads in [0, 1, 2, 3, 7] {
            let pool = Pool::new(threads);
            for tasks in [0, 1, 2, 3, 100, 1000] {
                let counts: Vec<AtomicUsize> = (0..tasks).map(|_| AtomicUsize::new(0)).collect();
                pool.run(tasks, &|worker, i| {
                    assert!(worker < pool.threads());
                    counts[i].fetch_add(1, Ordering::Relaxed);
                });
                assert!(counts.iter().all(|c| c.load(Ordering::Relaxed) == 1), "{threads} threads, {tasks} tasks");
            }
        }
    }

    #[test]
    fn many_short_jobs_and_pauses() {
        let pool = Pool::new(3);
        let sum = AtomicUsize::new(0);
        for round in 0..2000 {
            pool.run(5, &|_, i| {
                sum.fetch_add(i, Ordering::Relaxed);
            });
            if round % 500 == 0 {
                std::thread::sleep(SPIN * 4);
            }
        }
        assert_eq!(sum.into_inner(), 2000 * 10);
    }

    #[test]
    fn a_panic_reaches_the_caller_and_the_pool_lives_on() {
        let pool = Pool::new(2);
        let caught = catch_unwind(AssertUnwindSafe(|| pool.run(64, &|_, i| assert_ne!(i, 13, "task {i}"))));
        let payload = caught.expect_err("the panic must propagate");
        assert!(payload.downcast_ref::<String>().is_some_and(|s| s.contains("task 13")));
        let count = AtomicUsize::new(0);
        pool.run(64, &|_, _| {
            count.fetch_add(1, Ordering::Relaxed);
        });
        assert_eq!(count.into_inner(), 64);
    }

    #[test]
    fn nested_and_concurrent_calls_finish() {
        let pool = Pool::new(2);
        let count = AtomicUsize::new(0);
        let job = || {
            pool.run(8, &|_, _| {
                pool.run(8, &|_, _| {
                    count.fetch_add(1, Ordering::Relaxed);
                })
            })
        };
        std::thread::scope(|s| {
            s.spawn(job);
            s.spawn(job);
        });
        assert_eq!(count.into_inner(), 128);
    }
}
