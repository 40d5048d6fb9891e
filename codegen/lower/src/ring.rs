//! Tiles that one pipe fills and another empties, two copies in turn, with the signals that order them.
//!
//! What `overlap` finds by itself is written and read in one turn of one loop. A ring is for what a pipeline passes on from turn to turn,
//! or from one core to another: the generator of a kernel says when a copy is taken, filled, read and given back.

use tarsia_tensor::Dim;
use tarsia_tile::Opcode;

use crate::builder::KernelBuilder;

/// Copies of a ring's tiles.
pub(crate) const COPIES: usize = 2;

/// The copy that a turn uses.
pub(crate) fn copy_of(turn: &Dim) -> Dim {
    turn.modulo(&Dim::from(COPIES))
}

/// The signals of one ring.
#[derive(Clone, Debug)]
pub(crate) struct Ring {
    writer: String,
    reader: String,
    /// The event of the first copy.
    event: usize,
}

impl Ring {
    /// A ring between two pipes; `event` is the first of its events, which no other ring of these pipes has.
    pub fn new(builder: &mut KernelBuilder, writer: &str, reader: &str, event: usize) -> Ring {
        for copy in 0..COPIES {
            builder.signals.push((reader.to_owned(), writer.to_owned(), event + copy));
        }
        Ring { writer: writer.to_owned(), reader: reader.to_owned(), event }
    }

    /// A ring between the pipe that moves from `vectors` to `between` and the one from there to `stage`; `None` if they have no events
    /// to spare.
    pub fn through(builder: &mut KernelBuilder, vectors: &str, between: &str, stage: &str) -> Option<Ring> {
        let machine = &builder.target.machine;
        let pipe = |from: &str, to: &str| machine.path(from, to, &[]).map(|path| path.pipe.clone());
        let (writer, reader) = (pipe(vectors, between)?, pipe(between, stage)?);
        let ids = machine.event_ids(&writer, &reader).min(machine.event_ids(&reader, &writer));
        let same = |(from, to, _): &&(String, String, usize)| *from == reader && *to == writer;
        let event = builder.signals.iter().filter(same).map(|(.., event)| event + 1).max().unwrap_or(1);
        (event + COPIES < ids).then(|| Ring::new(builder, &writer, &reader, event))
    }

    /// The writer waits until a copy is free.
    pub fn take(&self, builder: &mut KernelBuilder, copy: &Dim) {
        self.emit(builder, copy, false, false);
    }

    /// The writer has filled a copy; the reader waits for that.
    pub fn pass(&self, builder: &mut KernelBuilder, copy: &Dim) {
        self.filled(builder, copy);
        self.wait(builder, copy);
    }

    /// The writer has filled a copy.
    pub fn filled(&self, builder: &mut KernelBuilder, copy: &Dim) {
        self.emit(builder, copy, true, true);
    }

    /// The reader waits until a copy is filled.
    pub fn wait(&self, builder: &mut KernelBuilder, copy: &Dim) {
        self.emit(builder, copy, true, false);
    }

    /// The reader gives a copy back.
    pub fn free(&self, builder: &mut KernelBuilder, copy: &Dim) {
        self.emit(builder, copy, false, true);
    }

    fn emit(&self, builder: &mut KernelBuilder, copy: &Dim, forward: bool, set: bool) {
        let (from, to) = match forward {
            true => (self.writer.clone(), self.reader.clone()),
            false => (self.reader.clone(), self.writer.clone()),
        };
        let event = Dim::from(self.event) + copy.clone();
        let op = if set { Opcode::SetEvent { from, to, event } } else { Opcode::WaitEvent { from, to, event } };
        builder.instr(op, Vec::new(), Vec::new());
    }
}
