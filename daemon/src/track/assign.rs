//! Which box belongs to which track: the assignment of least total cost.
//!
//! The Hungarian method with shortest augmenting paths, O(rows² · columns). Tracks and boxes are
//! some hundred at most, which bounds it to some tens of milliseconds; with the usual ten it is
//! nothing.

/// Costs of all pairs of rows and columns.
pub(super) struct Costs {
    rows: usize,
    columns: usize,
    limit: f64,
    cells: Vec<f64>,
}

impl Costs {
    /// Pairs of which none is allowed yet. A pair is made only where its cost is below `limit`,
    /// which is also what leaving a row without a column costs.
    pub(super) fn new(rows: usize, columns: usize, limit: f64) -> Self {
        Self { rows, columns, limit, cells: vec![limit; rows * columns] }
    }

    /// Sets the cost of a pair; NaN and what is beyond the limit leave it forbidden.
    ///
    /// # Panics
    /// Where the row or column is not there.
    pub(super) fn set(&mut self, row: usize, column: usize, cost: f64) {
        assert!(row < self.rows && column < self.columns);
        if cost < self.limit {
            self.cells[row * self.columns + column] = cost;
        }
    }

    /// The cost of a pair.
    pub(super) fn get(&self, row: usize, column: usize) -> f64 {
        self.cells[row * self.columns + column]
    }

    /// The pairs (row, column) of least total cost, by row.
    pub(super) fn assign(&self) -> Vec<(usize, usize)> {
        let swapped = self.rows > self.columns;
        let (few, many) =
            if swapped { (self.columns, self.rows) } else { (self.rows, self.columns) };
        let cost = |a: usize, b: usize| if swapped { self.get(b, a) } else { self.get(a, b) };
        let mut pairs: Vec<(usize, usize)> = solve(few, many, cost)
            .into_iter()
            .enumerate()
            .map(|(a, b)| if swapped { (b, a) } else { (a, b) })
            .filter(|&(row, column)| self.get(row, column) < self.limit)
            .collect();
        pairs.sort_unstable();
        pairs
    }
}

/// A column for each of `few` rows out of `many` columns; `few <= many`.
///
/// Rows are added one by one; each is brought in by the cheapest path of exchanges. `row_price` and
/// `column_price` keep all reduced costs at 0 or above, which makes Dijkstra's search right.
fn solve(few: usize, many: usize, cost: impl Fn(usize, usize) -> f64) -> Vec<usize> {
    const NOBODY: usize = usize::MAX;
    let mut row_price = vec![0.0; few];
    let mut column_price = vec![0.0; many];
    let mut owner = vec![NOBODY; many];
    let mut distance = vec![0.0; many];
    let mut previous = vec![NOBODY; many];
    let mut done = vec![false; many];
    for start in 0..few {
        distance.fill(f64::INFINITY);
        previous.fill(NOBODY);
        done.fill(false);
        let (mut row, mut through, mut travelled) = (start, NOBODY, 0.0);
        let end = loop {
            let (mut nearest, mut least) = (NOBODY, f64::INFINITY);
            for column in (0..many).filter(|&column| !done[column]) {
                let step = cost(row, column) - row_price[row] - column_price[column];
                if travelled + step < distance[column] {
                    distance[column] = travelled + step;
                    previous[column] = through;
                }
                if distance[column] < least {
                    (nearest, least) = (column, distance[column]);
                }
            }
            if nearest == NOBODY {
                // Costs are finite, so some column is always reached; without one, keep the rest.
                break NOBODY;
            }
            done[nearest] = true;
            travelled = least;
            if owner[nearest] == NOBODY {
                break nearest;
            }
            (row, through) = (owner[nearest], nearest);
        };
        if end == NOBODY {
            continue;
        }
        row_price[start] += travelled;
        for column in (0..many).filter(|&column| done[column] && column != end) {
            column_price[column] += distance[column] - travelled;
            row_price[owner[column]] += travelled - distance[column];
        }
        let mut column = end;
        loop {
            let before = previous[column];
            if before == NOBODY {
                owner[column] = start;
                break;
            }
            owner[column] = owner[before];
            column = before;
        }
    }
    let mut columns = vec![0; few];
    for (column, &row) in owner.iter().enumerate().filter(|(_, row)| **row != NOBODY) {
        columns[row] = column;
    }
    columns
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIMIT: f64 = 10.0;

    fn costs(rows: usize, columns: usize, cells: &[f64]) -> Costs {
        let mut costs = Costs::new(rows, columns, LIMIT);
        for row in 0..rows {
            for column in 0..columns {
                costs.set(row, column, cells[row * columns + column]);
            }
        }
        costs
    }

    fn total(costs: &Costs, pairs: &[(usize, usize)]) -> f64 {
        let paired: f64 = pairs.iter().map(|&(row, column)| costs.get(row, column)).sum();
        paired + LIMIT * (costs.rows.min(costs.columns) - pairs.len()) as f64
    }

    /// The least total cost, by trying everything.
    fn least(costs: &Costs, row: usize, taken: &mut Vec<bool>, pairs: usize) -> f64 {
        if row == costs.rows {
            return LIMIT * (costs.rows.min(costs.columns) - pairs) as f64;
        }
        let mut best = least(costs, row + 1, taken, pairs);
        for column in 0..costs.columns {
            if !taken[column] && costs.get(row, column) < LIMIT {
                taken[column] = true;
                let rest = least(costs, row + 1, taken, pairs + 1);
                best = best.min(costs.get(row, column) + rest);
                taken[column] = false;
            }
        }
        best
    }

    #[test]
    fn the_total_counts_not_the_nearest() {
        // Greedy takes the 1 and pays 9 for the other.
        let pairs = costs(2, 2, &[1.0, 2.0, 2.0, 9.0]).assign();
        assert_eq!(pairs, [(0, 1), (1, 0)]);
    }

    #[test]
    fn forbidden_pairs_are_not_made() {
        assert_eq!(costs(2, 1, &[f64::NAN, 3.0]).assign(), [(1, 0)]);
        assert_eq!(costs(1, 3, &[12.0, f64::INFINITY, 10.0]).assign(), []);
        assert_eq!(costs(0, 3, &[]).assign(), []);
        assert_eq!(costs(3, 0, &[]).assign(), []);
    }

    #[test]
    fn some_hundred_rows_are_assigned() {
        let cells: Vec<f64> = (0..300 * 300)
            .map(|i| f64::from((i * 7919 + i / 300 * 104_729) % 9973) / 1000.0)
            .collect();
        assert_eq!(costs(300, 300, &cells).assign().len(), 300);
    }

    proptest! {
        #[test]
        fn as_good_as_trying_everything(
            (rows, columns, cells) in (0usize..6, 0usize..6).prop_flat_map(|(rows, columns)| {
                let cell = prop_oneof![-5f64..14.0, (0u8..4).prop_map(f64::from)];
                (Just(rows), Just(columns), prop::collection::vec(cell, rows * columns))
            })
        ) {
            let costs = costs(rows, columns, &cells);
            let pairs = costs.assign();
            let best = least(&costs, 0, &mut vec![false; columns], 0);
            prop_assert!((total(&costs, &pairs) - best).abs() < 1e-9, "{pairs:?} {best}");
            let mut taken: Vec<usize> = pairs.iter().map(|pair| pair.1).collect();
            taken.sort_unstable();
            taken.dedup();
            prop_assert_eq!(taken.len(), pairs.len());
        }
    }
}
