//! Windows and Fourier transforms.

use super::Rows;

pub(super) const ROWS: Rows = &[];
