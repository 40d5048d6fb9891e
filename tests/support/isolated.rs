//! Runs each case in a worker process, so that a case that panics, overflows its stack, aborts for
//! want of memory or never ends is one failed test and not the end of the test run.
//!
//! ```text
//! test thread ── folder ──► worker (this same executable, TARSIA_TEST_WORKER=1)
//!             ◄─ verdict ──    one at a time; killed and replaced after the time limit
//! ```

use std::io::{BufRead, BufReader, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Marks the environment of a worker.
const WORKER: &str = "TARSIA_TEST_WORKER";
/// Opens a verdict, so that whatever else a case prints is not taken for one.
const VERDICT: &str = "@verdict ";

/// Where a worker's last panic was, for its verdict: the hook knows the place, the unwinding does not.
static PANIC: Mutex<String> = Mutex::new(String::new());

/// Serves cases until standard input ends if this process is a worker; returns at once if it is not.
///
/// `run` is given what [`Workers::run`] was given. Call this first in `main`.
pub fn serve_if_worker(run: fn(&str) -> Result<(), String>) {
    if std::env::var_os(WORKER).is_none() {
        return;
    }
    std::panic::set_hook(Box::new(|info| {
        *PANIC.lock().unwrap_or_else(PoisonError::into_inner) = info.to_string().replace('\n', " ");
    }));
    for case in std::io::stdin().lines().map_while(Result::ok) {
        let verdict = catch_unwind(AssertUnwindSafe(|| run(&case))).unwrap_or_else(|_| Err(last_panic()));
        let line = serde_json::to_string(&verdict.err()).expect("a string is JSON");
        println!("{VERDICT}{line}");
    }
    std::process::exit(0);
}

/// Where the last panic of this worker was and what it said.
#[allow(dead_code, reason = "not every harness catches panics itself")]
pub fn last_panic() -> String {
    PANIC.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

/// Worker processes, as many as there are test threads.
pub struct Workers {
    idle: Mutex<Vec<Worker>>,
    time_limit: Duration,
    memory_limit_kib: u64,
}

impl Workers {
    /// Workers whose cases may take `time_limit` each, with an address space of `memory_limit_bytes`.
    pub fn new(time_limit: Duration, memory_limit_bytes: u64) -> Workers {
        Workers { idle: Mutex::default(), time_limit, memory_limit_kib: memory_limit_bytes / 1024 }
    }

    /// Runs one case in a worker. The error says how it failed: by its own verdict, by dying, or by the time limit.
    pub fn run(&self, case: &str) -> Result<(), String> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut worker = match idle {
            Some(worker) => worker,
            None => Worker::start(self.memory_limit_kib).map_err(|e| format!("cannot start a worker: {e}"))?,
        };
        let failure = worker.run(case, self.time_limit)?;
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(worker);
        failure.map_or(Ok(()), Err)
    }
}

struct Worker {
    process: Child,
    cases: ChildStdin,
    verdicts: Receiver<Option<String>>,
}

impl Worker {
    fn start(memory_limit_kib: u64) -> std::io::Result<Worker> {
        let mut process = Command::new("sh")
            .arg("-c")
            .arg(format!("ulimit -v {memory_limit_kib}; exec \"$0\""))
            .arg(std::env::current_exe()?)
            .env(WORKER, "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let cases = process.stdin.take().expect("piped above");
        let output = BufReader::new(process.stdout.take().expect("piped above"));
        let (send, verdicts) = channel();
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                let verdict = line.strip_prefix(VERDICT).and_then(|json| serde_json::from_str(json).ok());
                if verdict.is_some_and(|verdict| send.send(verdict).is_err()) {
                    break;
                }
            }
        });
        Ok(Worker { process, cases, verdicts })
    }

    /// The case's own verdict, or the error that this worker came to its end.
    fn run(&mut self, case: &str, time_limit: Duration) -> Result<Option<String>, String> {
        // A worker that is dead already shows below, as a closed channel.
        let _ = writeln!(self.cases, "{case}");
        self.verdicts.recv_timeout(time_limit).map_err(|e| match e {
            RecvTimeoutError::Timeout => format!("still running after {} s", time_limit.as_secs()),
            RecvTimeoutError::Disconnected => match self.process.wait() {
                Ok(status) => format!("the process died: {status}"),
                Err(e) => format!("the process died: {e}"),
            },
        })
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // It may have ended by itself: then there is nothing to kill.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
