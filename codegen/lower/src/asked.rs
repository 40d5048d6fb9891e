//! Tiles of a size that a user asks for: of which kernels, and what is said where they do not fit.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    str::FromStr,
};

use tarsia_graph::{KernelKind, Origin};
use tarsia_tile::{Instr, Kernel, Opcode, Operand, ParamId, Stmt, TileId};

use crate::LowerError;

/// What lowering chooses for a user, or a user for it.
#[derive(Clone, Debug, Default)]
pub struct Choices {
    /// The sizes by symbol that tiles are chosen for; the program is right for all sizes.
    pub sizes: BTreeMap<String, i64>,
    /// Tiles of some kernels.
    pub tiles: Vec<TileSize>,
}

/// The size of the tiles of one kernel (`contract12`), or of all kernels of a kind (`contract`): `KERNEL=128x256x64`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TileSize {
    /// The kernel's name, or a kind.
    pub kernel: String,
    /// What the numbers are depends on the kind: rows, columns and, if given, depth of a block of a product; rows and keys of attention;
    /// elements of a tile elsewhere.
    pub sides: Vec<usize>,
}

impl FromStr for TileSize {
    type Err = String;

    fn from_str(text: &str) -> Result<TileSize, String> {
        let (kernel, size) = text.split_once('=').ok_or("expected KERNEL=SIZE, as contract12=128x256x64")?;
        let side = |side: &str| side.parse::<u32>().ok().filter(|&side| side > 0).map(|side| side as usize);
        let sides = size.split('x').map(side).collect::<Option<Vec<usize>>>();
        let sides = sides.ok_or_else(|| format!("`{size}` is no size: expected one as 128x256x64"))?;
        Ok(TileSize { kernel: kernel.to_owned(), sides })
    }
}

impl fmt::Display for TileSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.kernel, size_text(&self.sides))
    }
}

/// `128x256x64`.
pub(crate) fn size_text(sides: &[usize]) -> String {
    sides.iter().map(usize::to_string).collect::<Vec<_>>().join("x")
}

/// The sides that a kernel's tile has, and how many of them must be given; none where tiles are not chosen by size.
fn sides(kind: KernelKind) -> (&'static [&'static str], usize) {
    match kind {
        KernelKind::Contract | KernelKind::Conv => (&["ROWS", "COLUMNS", "DEPTH"], 2),
        KernelKind::Attention => (&["ROWS", "KEYS"], 2),
        KernelKind::Map | KernelKind::Rows | KernelKind::Window | KernelKind::Index => (&["ELEMENTS"], 1),
        KernelKind::Routed | KernelKind::Order => (&[], 0),
    }
}

/// `ROWSxCOLUMNS[xDEPTH]`.
fn form(kind: KernelKind) -> String {
    let (names, least) = sides(kind);
    let mut text = names[..least].join("x");
    names[least..].iter().for_each(|name| text += &format!("[x{name}]"));
    text
}

/// The tiles that are asked for while a program is lowered, and which kernels there were.
#[derive(Debug, Default)]
pub(crate) struct Asked {
    tiles: Vec<TileSize>,
    /// All kernels, and whether their tiles are chosen by size.
    kernels: Vec<(String, bool)>,
    forms: BTreeMap<&'static str, String>,
}

impl Asked {
    pub fn new(tiles: &[TileSize]) -> Asked {
        Asked { tiles: tiles.to_vec(), ..Asked::default() }
    }

    /// The size asked for this kernel, and whether by its name; else by its kind.
    ///
    /// # Errors
    /// If such a kernel has no tile of that form.
    pub fn of(&mut self, kernel: &str, kind: KernelKind) -> Result<Option<(Vec<usize>, bool)>, String> {
        let sized = sides(kind).1 > 0;
        if !self.kernels.iter().any(|(known, _)| known == kernel) {
            self.kernels.push((kernel.to_owned(), sized));
        }
        if sized {
            self.forms.entry(kind.name()).or_insert_with(|| form(kind));
        }
        let named = |name: &str| self.tiles.iter().rev().find(|tile| tile.kernel == name);
        let Some(tile) = named(kernel).or_else(|| named(kind.name())) else { return Ok(None) };
        let (names, least) = sides(kind);
        if least == 0 {
            return Err(format!("`{tile}` is asked for, but tiles of {kind} kernels are not chosen by size"));
        }
        if !(least..=names.len()).contains(&tile.sides.len()) {
            return Err(format!("`{tile}` is asked for, but a tile of a {kind} kernel is {}", form(kind)));
        }
        Ok(Some((tile.sides.clone(), tile.kernel == kernel)))
    }

    /// What is asked for kernels that there are not.
    pub fn unknown(&self) -> Vec<LowerError> {
        let is_kernel = |name: &str| self.kernels.iter().any(|(known, _)| known == name);
        let known = |tile: &&TileSize| is_kernel(&tile.kernel) || self.forms.contains_key(&*tile.kernel);
        let kinds = self.forms.iter().map(|(kind, form)| format!("{kind}={form}"));
        let names: Vec<&str> = self.kernels.iter().filter(|(_, sized)| *sized).map(|(name, _)| name.as_str()).collect();
        let (names, kinds) = (names.join(", "), kinds.collect::<Vec<_>>().join(", "));
        let there = if names.is_empty() { "none".to_owned() } else { format!("{names}, and all of a kind: {kinds}") };
        let error = |tile: &TileSize| LowerError {
            op: tile.kernel.clone(),
            origin: Origin::default(),
            reason: format!("`{tile}` is asked for, but there is no such kernel; there are {there}"),
            asked: true,
        };
        self.tiles.iter().filter(|tile| !known(tile)).map(error).collect()
    }
}

/// A tile that its space has no room for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Overflow {
    pub tile: TileId,
    pub space: String,
    /// Bytes of the tile, the longest run of bytes that is free while it is needed, and bytes of the space.
    pub bytes: usize,
    pub free: usize,
    pub room: usize,
}

impl Overflow {
    /// In words; `tensor` names what a parameter is bound to.
    pub fn describe(&self, kernel: &Kernel, tensor: &dyn Fn(ParamId) -> String) -> String {
        let Overflow { tile, space, bytes, free, room } = self;
        let what = content(&kernel.body, *tile, tensor, &mut BTreeSet::new());
        let name = &kernel.tiles[tile.0 as usize].name;
        format!("{what} (tile `{name}`) takes {bytes} bytes of `{space}`, where {free} of {room} are free")
    }
}

/// What a tile holds.
fn content(body: &[Stmt], tile: TileId, tensor: &dyn Fn(ParamId) -> String, seen: &mut BTreeSet<TileId>) -> String {
    seen.insert(tile);
    let writer = writer(body, tile);
    let source = writer.and_then(|instr| instr.src.first());
    match (writer.map(|instr| &instr.op), source) {
        (Some(Opcode::Copy { .. }), Some(Operand::Global(view))) => tensor(view.param),
        (Some(Opcode::Copy { .. }), Some(Operand::Tile(region))) if !seen.contains(&region.tile) => {
            content(body, region.tile, tensor, seen)
        }
        (Some(Opcode::Mmad { .. }), _) => "the sum of the product".to_owned(),
        (Some(op), _) => format!("what `{}` computes", op.function()),
        (None, _) => "a tile".to_owned(),
    }
}

/// The first instruction that writes a tile, if possible not one that fills it.
fn writer(body: &[Stmt], tile: TileId) -> Option<&Instr> {
    let mut found: Vec<&Instr> = Vec::new();
    let mut open: Vec<&[Stmt]> = vec![body];
    while let Some(stmts) = open.pop() {
        for stmt in stmts {
            match stmt {
                Stmt::For { body, .. } => open.push(body),
                Stmt::If { then, otherwise, .. } => open.extend([then.as_slice(), otherwise.as_slice()]),
                Stmt::Instr(instr) => {
                    let writes = |operand: &Operand| matches!(operand, Operand::Tile(region) if region.tile == tile);
                    if instr.dst.iter().any(writes) {
                        found.push(instr);
                    }
                }
            }
        }
    }
    found.iter().find(|instr| instr.op != Opcode::Fill).or(found.first()).copied()
}

/// The largest size within `asked` that is `legal`, in steps of `granule`: no side can be a granule longer. `None` if not even one granule
/// is legal.
pub(crate) fn largest(asked: &[usize], granule: &[usize], legal: impl Fn(&[usize]) -> bool) -> Option<Vec<usize>> {
    let granule: Vec<usize> = asked.iter().zip(granule).map(|(&asked, &step)| step.clamp(1, asked)).collect();
    let mut size = asked.to_vec();
    while !legal(&size) {
        let side = (0..size.len()).filter(|&i| size[i] > granule[i]).max_by_key(|&i| size[i])?;
        size[side] = (size[side] / 2 / granule[side] * granule[side]).max(granule[side]);
    }
    for side in 0..size.len() {
        let with = |length: usize| {
            let mut longer = size.clone();
            longer[side] = length;
            longer
        };
        let (mut most, mut beyond) = (size[side], asked[side] + 1);
        if legal(&with(asked[side])) {
            (most, beyond) = (asked[side], asked[side]);
        }
        while beyond > most + granule[side] {
            let middle = (most + (beyond - most) / 2) / granule[side] * granule[side];
            let middle = middle.max(most + granule[side]);
            if legal(&with(middle)) { most = middle } else { beyond = middle }
        }
        size[side] = most;
    }
    Some(size)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_side_of_the_largest_size_can_be_longer() {
        let legal = |size: &[usize]| size[0] * size[1] <= 32768 && (size[0] + size[1]) * size[2] <= 131_072;
        let granule = [16, 16, 16];
        for asked in [[512, 512, 64], [1024, 64, 4096], [128, 256, 256], [100_000, 16, 16], [7, 100, 5000]] {
            let found = largest(&asked, &granule, legal).expect("a granule is legal");
            assert!(legal(&found), "{asked:?}: {found:?}");
            for side in 0..3 {
                let mut longer = found.clone();
                longer[side] += granule[side];
                assert!(longer[side] > asked[side] || !legal(&longer), "{asked:?}: {found:?} could be longer");
            }
        }
        assert_eq!(largest(&[64, 64], &[16, 16], |_| false), None);
    }

    #[test]
    fn sizes_read_and_print() {
        let tile: TileSize = "contract12=128x256x64".parse().expect("a size");
        assert_eq!((tile.kernel.as_str(), tile.sides.as_slice()), ("contract12", &[128, 256, 64][..]));
        assert_eq!(tile.to_string(), "contract12=128x256x64");
        for wrong in ["contract12", "a=", "a=0", "a=1x", "a=1x-2", "a=9999999999"] {
            assert!(wrong.parse::<TileSize>().is_err(), "{wrong}");
        }
    }
}
