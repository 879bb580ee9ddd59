//! Fits the vision tower's position table to another grid of patches.
//!
//! CLIP was trained on square pictures; persons are tall. The table is interpolated as PyTorch's
//! `interpolate(mode="bilinear", align_corners=False)` does, without antialiasing, which is what
//! CSKT's published numbers rest on.

use super::tensor::Tensor;
use crate::{Error, Result};

/// Far above any model that exists.
const MOST_ROWS: usize = 1 << 20;

/// Rows and columns of patches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grid {
    /// Patches from top to bottom.
    pub rows: usize,
    /// Patches from left to right.
    pub columns: usize,
}

impl Grid {
    /// The square grid of a table with one more row, that of the class token.
    pub fn square_of(table_rows: usize) -> Option<Self> {
        let patches = table_rows.checked_sub(1)?;
        let side = patches.isqrt();
        (side > 0 && side * side == patches).then_some(Self { rows: side, columns: side })
    }

    fn table_rows(self) -> Option<usize> {
        self.rows.checked_mul(self.columns)?.checked_add(1)
    }
}

/// Interpolates a position table `[1 + from.rows * from.columns, width]`; the first row, that of
/// the class token, is kept.
///
/// # Errors
/// [`Error::Mismatch`] where the table does not belong to the grid `from`, or a grid is empty or
/// absurdly large.
pub fn interpolate(table: &Tensor, from: Grid, to: Grid) -> Result<Tensor> {
    let (rows, width) = match *table.shape() {
        [rows, width] => (rows, width),
        _ => (0, 0),
    };
    let target_rows = to.table_rows().filter(|rows| (2..=MOST_ROWS).contains(rows));
    let (true, Some(target_rows)) = (rows > 1 && from.table_rows() == Some(rows), target_rows)
    else {
        return Err(Error::mismatch(
            "position table",
            format!("{:?} cannot go from a grid of {from:?} to {to:?}", table.shape()),
        ));
    };
    let (class, patches) = table.values().split_at(width);
    let mut values = Vec::with_capacity(target_rows * width);
    values.extend_from_slice(class);
    for row in 0..to.rows {
        let vertical = Between::at(row, from.rows, to.rows);
        for column in 0..to.columns {
            let horizontal = Between::at(column, from.columns, to.columns);
            let corner = |y: usize, x: usize| {
                let start = (y * from.columns + x) * width;
                &patches[start..start + width]
            };
            let top = (corner(vertical.low, horizontal.low), corner(vertical.low, horizontal.high));
            let bottom =
                (corner(vertical.high, horizontal.low), corner(vertical.high, horizontal.high));
            values.extend((0..width).map(|i| {
                let upper = horizontal.mix(top.0[i], top.1[i]);
                vertical.mix(upper, horizontal.mix(bottom.0[i], bottom.1[i]))
            }));
        }
    }
    Tensor::new([target_rows, width], values)
}

/// A place between two neighbours.
struct Between {
    low: usize,
    high: usize,
    /// 0 at `low`, 1 at `high`.
    part: f32,
}

impl Between {
    /// Where the centre of cell `index` of `to` cells lies among `from` cells.
    fn at(index: usize, from: usize, to: usize) -> Self {
        let place = ((index as f64 + 0.5) * from as f64 / to as f64 - 0.5).max(0.0);
        let low = (place as usize).min(from - 1);
        Self { low, high: (low + 1).min(from - 1), part: (place - low as f64) as f32 }
    }

    fn mix(&self, low: f32, high: f32) -> f32 {
        low * (1.0 - self.part) + high * self.part
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_grid_is_kept_and_a_wrong_one_refused() {
        let table = Tensor::new([7, 2], (0..14).map(|v| v as f32).collect()).unwrap();
        let grid = Grid { rows: 3, columns: 2 };
        assert_eq!(interpolate(&table, grid, grid).unwrap(), table);
        for wrong in [Grid { rows: 2, columns: 2 }, Grid { rows: usize::MAX, columns: 3 }] {
            assert!(interpolate(&table, wrong, grid).is_err());
        }
        assert!(interpolate(&table, grid, Grid { rows: 0, columns: 4 }).is_err());
        assert!(interpolate(&table, grid, Grid { rows: usize::MAX, columns: 4 }).is_err());
    }

    #[test]
    fn only_square_tables_tell_their_grid() {
        assert_eq!(Grid::square_of(197), Some(Grid { rows: 14, columns: 14 }));
        assert_eq!([0, 1, 193].map(Grid::square_of), [None; 3]);
    }
}
