//! Aligned memory.

use std::alloc::{Layout, alloc_zeroed, dealloc};

/// Alignment of every block in bytes: a cache line and the widest vector.
pub const ALIGNMENT: usize = 64;

/// Zeroed memory that starts at a multiple of [`ALIGNMENT`]. Moving a block does not move its memory.
#[derive(Debug)]
pub struct Block {
    data: *mut u8,
    bytes: usize,
}

// SAFETY: a block owns its memory and gives out nothing but raw pointers and borrows.
unsafe impl Send for Block {}
// SAFETY: as above.
unsafe impl Sync for Block {}

impl Block {
    /// No memory.
    pub const fn empty() -> Block {
        Block { data: ALIGNMENT as *mut u8, bytes: 0 }
    }

    /// Memory of this many bytes; `None` if the system refuses.
    pub fn new(bytes: usize) -> Option<Block> {
        if bytes == 0 {
            return Some(Block::empty());
        }
        let layout = Layout::from_size_align(bytes, ALIGNMENT).ok()?;
        // SAFETY: the size is not 0.
        let data = unsafe { alloc_zeroed(layout) };
        (!data.is_null()).then_some(Block { data, bytes })
    }

    /// Makes the block at least this large, losing what it holds if it must grow; whether the system agrees.
    pub fn reserve(&mut self, bytes: usize) -> bool {
        if bytes <= self.bytes {
            return true;
        }
        // The old memory goes first, so that the two never exist together.
        *self = Block::empty();
        match Block::new(bytes) {
            Some(block) => {
                *self = block;
                true
            }
            None => false,
        }
    }

    /// The address.
    pub fn as_ptr(&self) -> *mut u8 {
        self.data
    }

    /// The size in bytes.
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> usize {
        self.bytes
    }
}

impl AsRef<[u8]> for Block {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: the block owns this memory; it was zeroed when it was made.
        unsafe { std::slice::from_raw_parts(self.data, self.bytes) }
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        if self.bytes > 0
            && let Ok(layout) = Layout::from_size_align(self.bytes, ALIGNMENT)
        {
            // SAFETY: allocated with this very layout.
            unsafe { dealloc(self.data, layout) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_aligned_and_grow() {
        let mut block = Block::empty();
        assert!(block.reserve(0));
        for bytes in [1, 100, 64, 5000] {
            assert!(block.reserve(bytes) && block.len() >= bytes);
            assert_eq!(block.as_ptr() as usize % ALIGNMENT, 0);
        }
        assert!(!block.reserve(usize::MAX / 2));
        assert!(block.as_ref().is_empty());
    }
}
