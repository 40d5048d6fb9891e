//! Resampling: resize, grid sampling, regions of interest.

use super::Rows;

pub(super) const ROWS: Rows = &[];
