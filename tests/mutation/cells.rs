//! Where the elements of an operand are: bytes of a space, or elements of a parameter.

use tarsia::tile::{Layout, Region, Tile, View};

use crate::unrolled::Run;

impl Run<'_> {
    /// Every byte (in units of the element) of a part of a tile.
    pub fn tile_cells(&mut self, region: &Region, queue: usize) -> Result<((usize, usize), Vec<usize>), String> {
        let kernel = self.kernel;
        let tile = &kernel.tiles[region.tile.0 as usize];
        let space = self.machine.spaces.iter().position(|space| space.name == tile.space).ok_or("no space")?;
        let each = kernel.lanes.as_ref().is_some_and(|lanes| lanes.space == tile.space);
        let memory = (space, if each { self.queues[queue].lane } else { 0 });
        let slot = usize::try_from(self.value(&region.slot)?).map_err(|_| "no slot")?;
        let mut axes = Vec::new();
        for ((offset, size), whole) in region.offset.iter().zip(&region.size).zip(&tile.shape) {
            let (offset, size) = (self.value(offset)?, self.value(size)?);
            if offset < 0 || size < 0 || offset + size > *whole as i64 {
                return Err("outside of the tile".into());
            }
            axes.push((offset as usize, size as usize));
        }
        let (bits, room) = (tile.dtype.bits().max(8), self.machine.spaces[space].clone());
        let elements = tile.layout.elements(&tile.shape).ok_or("no size")?;
        let (address, bytes) = (tile.address.ok_or("no address")?, elements * bits / 8);
        let aligned =
            address.is_multiple_of(room.alignment) && (tile.slots < 2 || bytes.is_multiple_of(room.alignment));
        if slot >= tile.slots || !aligned || (address + bytes * tile.slots) as u64 > room.bytes {
            return Err("a tile is outside, or not aligned".into());
        }
        let count: usize = axes.iter().map(|&(_, size)| size).product();
        self.elements = self.elements.checked_sub(count * bits / 8).ok_or("too many elements")?;
        let bytes_of = |tile: &Tile| tile.dtype.bits().max(8) / 8;
        let unit = kernel.tiles.iter().filter(|other| other.space == tile.space).map(bytes_of).min().unwrap_or(1);
        if address % unit != 0 {
            return Err("a tile is not aligned".into());
        }
        let mut cells = Vec::with_capacity(count * bits / 8 / unit);
        let mut index = vec![0; axes.len()];
        for mut at in 0..count {
            for axis in (0..axes.len()).rev() {
                index[axis] = axes[axis].0 + at % axes[axis].1;
                at /= axes[axis].1;
            }
            let position = match (tile.layout, index.as_slice()) {
                (Layout::Fractal(fractal), [row, column]) => {
                    fractal.position(tile.shape[0], tile.shape[1], *row, *column)
                }
                _ => index.iter().zip(&tile.shape).fold(0, |sum, (at, size)| sum * size + at),
            };
            let first = address + slot * bytes + position * bits / 8;
            cells.extend(first / unit..(first + bits / 8) / unit);
        }
        Ok((memory, cells))
    }

    pub fn view_cells(&mut self, view: &View) -> Result<Vec<usize>, String> {
        let param = view.param.0 as usize;
        let shape: Vec<i64> =
            self.kernel.params[param].shape.iter().map(|dim| self.value(dim)).collect::<Result<_, _>>()?;
        let size: Vec<i64> = view.size.iter().map(|dim| self.value(dim)).collect::<Result<_, _>>()?;
        if size.iter().any(|&size| size < 0) {
            return Err("a view of less than nothing".into());
        }
        let count: i64 = size.iter().product();
        self.elements = self.elements.checked_sub(count as usize).ok_or("too many elements")?;
        let mut axes = Vec::new();
        for axis in &view.axes {
            let steps: Result<Vec<(usize, i64)>, String> =
                axis.steps.iter().map(|(along, step)| Ok((*along, self.value(step)?))).collect();
            axes.push((self.value(&axis.start)?, steps?));
        }
        let mut cells = Vec::with_capacity(count as usize);
        let mut index = vec![0; size.len()];
        for mut at in 0..count {
            for axis in (0..size.len()).rev() {
                index[axis] = at % size[axis];
                at /= size[axis];
            }
            let mut position = Some(0);
            for ((start, steps), length) in axes.iter().zip(&shape) {
                let here = start + steps.iter().map(|(along, step)| index[*along] * step).sum::<i64>();
                position = position.filter(|_| (0..*length).contains(&here)).map(|position| position * length + here);
            }
            match position {
                Some(position) => cells.push(position as usize),
                None if view.fill.is_some() => {}
                None => return Err("outside of a parameter".into()),
            }
        }
        Ok(cells)
    }
}
