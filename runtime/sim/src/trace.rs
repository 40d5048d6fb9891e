//! The timeline as a trace that Perfetto and `chrome://tracing` show: a process per core, a thread per pipe.

use std::io::{self, Write};

use serde::Serialize;

/// What every pipe of every simulated core did.
#[derive(Clone, Debug, Default)]
pub struct Timeline {
    /// Cores: what they are called.
    pub cores: Vec<String>,
    /// Pipes: their core and name.
    pub pipes: Vec<(u32, String)>,
    /// Instructions: name, and the model's nodes.
    pub instructions: Vec<(String, Vec<String>)>,
    /// What ran when.
    pub spans: Vec<Span>,
    /// How many were not kept.
    pub left_out: u64,
}

/// An instruction that ran.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Span {
    /// Index of its pipe.
    pub pipe: u32,
    /// Index of its instruction.
    pub instruction: u32,
    /// First cycle.
    pub start: f64,
    /// How many.
    pub cycles: f64,
}

impl Timeline {
    /// The number of a core of this name.
    pub(crate) fn core(&mut self, name: &str) -> u32 {
        let known = self.cores.iter().position(|core| core == name);
        known.unwrap_or_else(|| {
            self.cores.push(name.to_owned());
            self.cores.len() - 1
        }) as u32
    }

    /// The number of a pipe of a core.
    pub(crate) fn pipe(&mut self, core: u32, name: &str) -> u32 {
        let known = self.pipes.iter().position(|(of, pipe)| *of == core && pipe == name);
        known.unwrap_or_else(|| {
            self.pipes.push((core, name.to_owned()));
            self.pipes.len() - 1
        }) as u32
    }

    /// Writes it in the trace event format; times are microseconds.
    ///
    /// # Errors
    /// If `out` does not take it.
    pub fn write(&self, out: &mut dyn Write, microseconds_per_cycle: f64) -> io::Result<()> {
        write!(out, "{{\"displayTimeUnit\":\"ns\",\"traceEvents\":[")?;
        let mut separator = "\n";
        let mut event = |out: &mut dyn Write, event: &dyn erased::Json| -> io::Result<()> {
            write!(out, "{separator}")?;
            separator = ",\n";
            event.write(out)
        };
        for (pid, name) in self.cores.iter().enumerate() {
            event(out, &Name { name: "process_name", ph: "M", pid: pid as u32, tid: None, args: NameOf { name } })?;
        }
        for (tid, (pid, name)) in self.pipes.iter().enumerate() {
            let (pid, tid) = (*pid, Some(tid as u32));
            event(out, &Name { name: "thread_name", ph: "M", pid, tid, args: NameOf { name } })?;
        }
        for span in &self.spans {
            let (name, nodes) = &self.instructions[span.instruction as usize];
            let (ts, dur) = (span.start * microseconds_per_cycle, span.cycles * microseconds_per_cycle);
            let pid = self.pipes[span.pipe as usize].0;
            event(out, &Complete { name, ph: "X", ts, dur, pid, tid: span.pipe, args: NodesOf { nodes } })?;
        }
        write!(out, "\n],\"otherData\":{{\"instructions_left_out\":{}}}}}", self.left_out)
    }
}

#[derive(Serialize)]
struct Name<'a> {
    name: &'a str,
    ph: &'a str,
    pid: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    tid: Option<u32>,
    args: NameOf<'a>,
}

#[derive(Serialize)]
struct NameOf<'a> {
    name: &'a str,
}

#[derive(Serialize)]
struct Complete<'a> {
    name: &'a str,
    ph: &'a str,
    ts: f64,
    dur: f64,
    pid: u32,
    tid: u32,
    args: NodesOf<'a>,
}

#[derive(Serialize)]
struct NodesOf<'a> {
    nodes: &'a [String],
}

mod erased {
    use super::{Serialize, Write, io};

    /// Anything that can be written as JSON.
    pub trait Json {
        fn write(&self, out: &mut dyn Write) -> io::Result<()>;
    }

    impl<T: Serialize> Json for T {
        fn write(&self, out: &mut dyn Write) -> io::Result<()> {
            serde_json::to_writer(out, self).map_err(io::Error::other)
        }
    }
}
