//! JPEG (ITU-T T.81): Huffman-coded baseline and progressive images of 8 bits.
//!
//! ```text
//! segments ─► tables, frame ─► scans: entropy-coded coefficients, block by block ─► samples (`samples`)
//! ```
//! Broken or unsupported data give no image. A scan that ends too early leaves the coefficients it did not reach at zero.

use super::{Rgb, samples};

/// Coefficients of a block in row-major order.
pub(super) type Block = [i16; 64];

/// The row-major place of each coefficient in the order of the code.
const ZIGZAG: [usize; 64] = [
    0, 1, 8, 16, 9, 2, 3, 10, 17, 24, 32, 25, 18, 11, 4, 5, 12, 19, 26, 33, 40, 48, 41, 34, 27, 20, 13, 6, 7, 14, 21,
    28, 35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23, 30, 37, 44, 51, 58, 59, 52, 45, 38, 31, 39, 46, 53, 60, 61, 54,
    47, 55, 62, 63,
];

/// A colour component.
pub(super) struct Component {
    id: u8,
    /// Horizontal and vertical sampling factors.
    pub h: usize,
    pub v: usize,
    table: usize,
    /// Quantisation, in row-major order, as it was when the component's first scan began.
    pub quantiser: Option<[u16; 64]>,
    /// Blocks of whole minimum coded units, and their number in a row.
    pub blocks: Vec<Block>,
    pub stride: usize,
    /// Blocks that hold samples of the image.
    columns: usize,
    rows: usize,
    predictor: i32,
    dc: usize,
    ac: usize,
}

pub(super) struct Frame {
    pub width: usize,
    pub height: usize,
    progressive: bool,
    pub components: Vec<Component>,
    pub most_h: usize,
    pub most_v: usize,
}

#[derive(Default)]
struct Tables {
    quantisers: [Option<[u16; 64]>; 4],
    dc: [Option<Huffman>; 4],
    ac: [Option<Huffman>; 4],
    restart: usize,
    /// The transform that an Adobe segment names: 0 is RGB.
    adobe: Option<u8>,
}

pub(super) fn decode(bytes: &[u8], most: usize) -> Option<Rgb> {
    let (mut tables, mut frame) = (Tables::default(), None::<Frame>);
    let mut at = 2;
    loop {
        // Bytes that are no marker are passed over, and so is filling.
        while at < bytes.len() && (bytes[at] != 0xff || matches!(bytes.get(at + 1), Some(0 | 0xff))) {
            at += 1;
        }
        let Some(&marker) = bytes.get(at + 1) else { break };
        at += 2;
        if marker == 0xd9 {
            break;
        }
        if matches!(marker, 0xd0..=0xd8 | 0x01) {
            continue;
        }
        let length = usize::from(u16::from_be_bytes([*bytes.get(at)?, *bytes.get(at + 1)?]));
        let segment = bytes.get(at + 2..at.checked_add(length)?)?;
        at += length;
        match marker {
            0xdb => quantisers(segment, &mut tables)?,
            0xc4 => huffman_tables(segment, &mut tables)?,
            0xc0..=0xc2 => {
                if frame.is_some() {
                    return None;
                }
                frame = Some(start_of_frame(segment, marker == 0xc2, most)?);
            }
            0xc3 | 0xc5..=0xcf => return None,
            0xdd => tables.restart = usize::from(u16::from_be_bytes([*segment.first()?, *segment.get(1)?])),
            0xee if segment.starts_with(b"Adobe") => tables.adobe = segment.get(11).copied(),
            0xda => at += scan(segment, bytes.get(at..)?, frame.as_mut()?, &tables)?,
            _ => {}
        }
    }
    samples::assemble(&frame?, tables.adobe)
}

fn quantisers(mut segment: &[u8], tables: &mut Tables) -> Option<()> {
    while let Some((&head, rest)) = segment.split_first() {
        let (wide, index) = (head >> 4 != 0, usize::from(head & 15));
        let size = if wide { 128 } else { 64 };
        let values = rest.get(..size)?;
        let mut table = [0u16; 64];
        for (k, &place) in ZIGZAG.iter().enumerate() {
            table[place] =
                if wide { u16::from_be_bytes([values[2 * k], values[2 * k + 1]]) } else { u16::from(values[k]) };
        }
        *tables.quantisers.get_mut(index)? = Some(table);
        segment = &rest[size..];
    }
    Some(())
}

fn start_of_frame(segment: &[u8], progressive: bool, most: usize) -> Option<Frame> {
    let &[bits, h1, h0, w1, w0, count, ref rest @ ..] = segment else { return None };
    let (height, width) = (usize::from(u16::from_be_bytes([h1, h0])), usize::from(u16::from_be_bytes([w1, w0])));
    if bits != 8 || width == 0 || height == 0 || width * height > most / 3 || !matches!(count, 1 | 3) {
        return None;
    }
    let mut components = Vec::new();
    for part in rest.get(..usize::from(count) * 3)?.chunks_exact(3) {
        let (h, v) = (usize::from(part[1] >> 4), usize::from(part[1] & 15));
        if !(1..=4).contains(&h) || !(1..=4).contains(&v) {
            return None;
        }
        components.push(Component {
            id: part[0],
            h,
            v,
            table: usize::from(part[2]),
            quantiser: None,
            blocks: Vec::new(),
            stride: 0,
            columns: 0,
            rows: 0,
            predictor: 0,
            dc: 0,
            ac: 0,
        });
    }
    let (most_h, most_v) = (components.iter().map(|c| c.h).max()?, components.iter().map(|c| c.v).max()?);
    for c in &mut components {
        if most_h % c.h != 0 || most_v % c.v != 0 {
            return None;
        }
        c.columns = (width * c.h).div_ceil(most_h * 8);
        c.rows = (height * c.v).div_ceil(most_v * 8);
        c.stride = width.div_ceil(most_h * 8) * c.h;
        c.blocks = vec![[0; 64]; c.stride * height.div_ceil(most_v * 8) * c.v];
    }
    Some(Frame { width, height, progressive, components, most_h, most_v })
}

/// A canonical code: for each length the codes below `limit`, left-aligned to 16 bits, and where their values start.
struct Huffman {
    limits: [u32; 17],
    offsets: [i32; 17],
    values: Vec<u8>,
}

fn huffman_tables(mut segment: &[u8], tables: &mut Tables) -> Option<()> {
    while !segment.is_empty() {
        let (head, counts) = (segment[0], segment.get(1..17)?);
        let total: usize = counts.iter().map(|&count| usize::from(count)).sum();
        let values = segment.get(17..17 + total)?.to_vec();
        let (mut limits, mut offsets) = ([0u32; 17], [0i32; 17]);
        let (mut code, mut first) = (0u32, 0i32);
        for (length, &count) in (1..=16).zip(counts) {
            offsets[length] = first - code as i32;
            code += u32::from(count);
            first += i32::from(count);
            limits[length] = code << (16 - length);
            code <<= 1;
        }
        let kind = if head >> 4 == 0 { &mut tables.dc } else { &mut tables.ac };
        *kind.get_mut(usize::from(head & 15))? = Some(Huffman { limits, offsets, values });
        segment = &segment[17 + total..];
    }
    Some(())
}

/// The bits of a scan; behind its end there are zeros.
struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
    held: u32,
    count: u32,
}

impl Bits<'_> {
    fn fill(&mut self) {
        while self.count <= 24 {
            let byte = match self.bytes.get(self.at..) {
                Some([0xff, 0, ..]) => {
                    self.at += 2;
                    0xff
                }
                // A marker ends the data.
                Some([0xff, ..]) | Some([]) | None => 0,
                Some(&[byte, ..]) => {
                    self.at += 1;
                    byte
                }
            };
            self.held |= u32::from(byte) << (24 - self.count);
            self.count += 8;
        }
    }

    fn take(&mut self, count: u32) -> i32 {
        if count == 0 {
            return 0;
        }
        self.fill();
        let value = self.held >> (32 - count);
        self.held <<= count;
        self.count -= count;
        value as i32
    }

    /// A number of so many bits, of which the first tells the sign.
    fn signed(&mut self, count: u32) -> i32 {
        let value = self.take(count);
        if count > 0 && value < 1 << (count - 1) { value - (1 << count) + 1 } else { value }
    }

    fn symbol(&mut self, code: &Huffman) -> Option<u8> {
        self.fill();
        let next = self.held >> 16;
        let length = (1..=16).find(|&length| next < code.limits[length])?;
        let index = (next >> (16 - length)) as i32 + code.offsets[length];
        self.take(length as u32);
        code.values.get(usize::try_from(index).ok()?).copied()
    }

    /// Goes on behind the next restart marker, if it is the next marker.
    fn restart(&mut self) {
        (self.held, self.count) = (0, 0);
        while let Some(&[a, b, ..]) = self.bytes.get(self.at..) {
            match (a, b) {
                (0xff, 0xd0..=0xd7) => {
                    self.at += 2;
                    return;
                }
                (0xff, 1..=0xfe) => return,
                _ => self.at += 1,
            }
        }
    }
}

/// The coefficients that a scan codes, and how precisely.
struct Band {
    first: usize,
    last: usize,
    /// Bits of the coefficients known before and after; before is 0 for the first scan of the band.
    high: u32,
    low: u32,
    progressive: bool,
    /// Blocks left of a run without coefficients.
    run: u32,
}

/// Reads a scan into the frame's blocks; gives how many bytes it took.
fn scan(head: &[u8], data: &[u8], frame: &mut Frame, tables: &Tables) -> Option<usize> {
    let (&count, rest) = head.split_first()?;
    let count = usize::from(count);
    let &[first, last, bits] = rest.get(2 * count..2 * count + 3)? else { return None };
    let mut parts = Vec::with_capacity(count);
    for part in rest[..2 * count].chunks_exact(2) {
        let place = frame.components.iter().position(|component| component.id == part[0])?;
        let component = &mut frame.components[place];
        (component.dc, component.ac) = (usize::from(part[1] >> 4), usize::from(part[1] & 15));
        component.predictor = 0;
        if component.quantiser.is_none() {
            component.quantiser = Some((*tables.quantisers.get(component.table)?)?);
        }
        parts.push(place);
    }
    let mut band = Band {
        first: usize::from(first),
        last: usize::from(last),
        high: u32::from(bits >> 4),
        low: u32::from(bits & 15),
        progressive: frame.progressive,
        run: 0,
    };
    if !frame.progressive {
        (band.first, band.last, band.high, band.low) = (0, 63, 0, 0);
    }
    if band.first > band.last || band.last > 63 || band.low > 13 || parts.is_empty() {
        return None;
    }
    let mut bits = Bits { bytes: data, at: 0, held: 0, count: 0 };
    let (across, down) = match parts[..] {
        [only] => (frame.components[only].columns, frame.components[only].rows),
        _ => (frame.width.div_ceil(frame.most_h * 8), frame.height.div_ceil(frame.most_v * 8)),
    };
    for unit in 0..across * down {
        if tables.restart > 0 && unit > 0 && unit % tables.restart == 0 {
            bits.restart();
            band.run = 0;
            frame.components.iter_mut().for_each(|component| component.predictor = 0);
        }
        let (x, y) = (unit % across, unit / across);
        for &place in &parts {
            let component = &mut frame.components[place];
            let (h, v) = if parts.len() == 1 { (1, 1) } else { (component.h, component.v) };
            for sub in 0..h * v {
                let at = (y * v + sub / h) * component.stride + x * h + sub % h;
                // What is broken ends the scan; what was read stays.
                if block(&mut bits, component, at, &mut band, tables).is_none() {
                    return Some(bits.at);
                }
            }
        }
    }
    Some(bits.at)
}

fn block(bits: &mut Bits, component: &mut Component, at: usize, band: &mut Band, tables: &Tables) -> Option<()> {
    let (dc, ac) = (component.dc, component.ac);
    let coefficients = component.blocks.get_mut(at)?;
    if band.first == 0 {
        if band.high > 0 {
            coefficients[0] |= (bits.take(1) << band.low) as i16;
        } else {
            let size = bits.symbol(tables.dc.get(dc)?.as_ref()?)?;
            component.predictor = component.predictor.wrapping_add(bits.signed(u32::from(size.min(16))));
            coefficients[0] = (component.predictor << band.low) as i16;
        }
    }
    if band.last == 0 {
        return Some(());
    }
    let code = tables.ac.get(ac)?.as_ref()?;
    if band.high == 0 { first_pass(bits, code, coefficients, band) } else { refined(bits, code, coefficients, band) }
}

fn first_pass(bits: &mut Bits, code: &Huffman, block: &mut Block, band: &mut Band) -> Option<()> {
    if band.run > 0 {
        band.run -= 1;
        return Some(());
    }
    let mut k = band.first.max(1);
    while k <= band.last {
        let symbol = bits.symbol(code)?;
        let (zeros, size) = (usize::from(symbol >> 4), u32::from(symbol & 15));
        match (size, zeros) {
            (0, 15) => k += 16,
            (0, _) if band.progressive => {
                band.run = (1 << zeros) - 1 + bits.take(zeros as u32) as u32;
                return Some(());
            }
            (0, _) => return Some(()),
            _ => {
                k += zeros;
                *block.get_mut(*ZIGZAG.get(k)?)? = (bits.signed(size) << band.low) as i16;
                k += 1;
            }
        }
    }
    Some(())
}

/// Another bit of the coefficients that are there, and new ones of one bit between them.
fn refined(bits: &mut Bits, code: &Huffman, block: &mut Block, band: &mut Band) -> Option<()> {
    let one = 1i16 << band.low;
    let mut k = band.first.max(1);
    if band.run == 0 {
        while k <= band.last {
            let symbol = bits.symbol(code)?;
            let (mut zeros, size) = (i32::from(symbol >> 4), symbol & 15);
            let fresh = match size {
                0 if zeros == 15 => 0,
                0 => {
                    band.run = (1 << zeros) + bits.take(zeros as u32) as u32;
                    break;
                }
                _ => {
                    if bits.take(1) == 1 {
                        one
                    } else {
                        -one
                    }
                }
            };
            while k <= band.last {
                let coefficient = &mut block[ZIGZAG[k]];
                if *coefficient != 0 {
                    refine(bits, coefficient, one);
                } else if zeros == 0 {
                    *coefficient = fresh;
                    k += 1;
                    break;
                } else {
                    zeros -= 1;
                }
                k += 1;
            }
        }
    }
    if band.run > 0 {
        for &place in &ZIGZAG[k..=band.last.max(k).min(63)] {
            if k <= band.last && block[place] != 0 {
                refine(bits, &mut block[place], one);
            }
        }
        band.run -= 1;
    }
    Some(())
}

fn refine(bits: &mut Bits, coefficient: &mut i16, one: i16) {
    if bits.take(1) == 1 && *coefficient & one == 0 {
        *coefficient = coefficient.wrapping_add(if *coefficient > 0 { one } else { -one });
    }
}
