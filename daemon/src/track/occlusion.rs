//! Who stands in front of whom. On level ground the one whose feet are lower in the picture is
//! nearer to the camera.

use crate::geometry::BBox;

/// Points per side of the grid on which shares are counted: steps of 1/96.
const COLUMNS: usize = 8;
const ROWS: usize = 12;

/// A person belongs to a merged box where this share of the expected place lies inside.
const MERGED_INSIDE: f32 = 0.7;
/// A merged box fits the box around two persons at least so well.
const MERGED_IOU: f32 = 0.7;
/// It fits better than either person alone by this: less is the noise of a box.
const MERGED_GAIN: f32 = 0.1;

/// The share of a box, 0 to 1, that lies behind nearer boxes: those with a lower bottom edge.
///
/// `others` may hold the box itself.
pub fn hidden_share(bbox: &BBox, others: &[BBox]) -> f32 {
    let nearer: Vec<&BBox> = others
        .iter()
        .filter(|other| other.y2() > bbox.y2() && other.intersection(bbox) > 0.0)
        .collect();
    if nearer.is_empty() {
        return 0.0;
    }
    let place =
        |from: f32, length: f32, i: usize, n: usize| from + length * (i as f32 + 0.5) / n as f32;
    let covered = |x: f32, y: f32| {
        nearer.iter().any(|o| (o.x1()..o.x2()).contains(&x) && (o.y1()..o.y2()).contains(&y))
    };
    let points = (0..ROWS).flat_map(|row| (0..COLUMNS).map(move |column| (row, column)));
    let hidden = points
        .filter(|&(row, column)| {
            let x = place(bbox.x1(), bbox.width(), column, COLUMNS);
            covered(x, place(bbox.y1(), bbox.height(), row, ROWS))
        })
        .count();
    hidden as f32 / (COLUMNS * ROWS) as f32
}

/// Whether a box is drawn around two persons who are expected at `places`, as detectors do where
/// persons cross: it fits both together better than either.
pub(super) fn merges_two(bbox: &BBox, places: &[BBox]) -> bool {
    let inside: Vec<&BBox> = places
        .iter()
        .filter(|place| place.intersection(bbox) > MERGED_INSIDE * place.area())
        .collect();
    inside.iter().enumerate().any(|(i, first)| {
        inside.iter().skip(i + 1).any(|second| {
            let alone = first.iou(bbox).max(second.iou(bbox));
            around(first, second).is_some_and(|both| {
                let together = both.iou(bbox);
                together > MERGED_IOU && together > alone + MERGED_GAIN
            })
        })
    })
}

/// The smallest box around two.
fn around(a: &BBox, b: &BBox) -> Option<BBox> {
    let (x1, y1) = (a.x1().min(b.x1()), a.y1().min(b.y1()));
    BBox::new(x1, y1, a.x2().max(b.x2()), a.y2().max(b.y2()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bbox(x1: f32, y1: f32, x2: f32, y2: f32) -> BBox {
        BBox::new(x1, y1, x2, y2).unwrap()
    }

    #[test]
    fn only_nearer_boxes_hide_and_overlaps_count_once() {
        let behind = bbox(0.0, 0.0, 40.0, 120.0);
        let half = bbox(20.0, -10.0, 90.0, 130.0);
        let same_half = bbox(20.0, 0.0, 40.0, 140.0);
        let farther = bbox(0.0, 0.0, 40.0, 110.0);
        assert_eq!(hidden_share(&behind, &[behind, farther]), 0.0);
        assert!((hidden_share(&behind, &[half]) - 0.5).abs() < 0.01);
        assert!((hidden_share(&behind, &[half, same_half, behind]) - 0.5).abs() < 0.01);
        assert_eq!(hidden_share(&half, &[behind]), 0.0);
        assert_eq!(hidden_share(&behind, &[bbox(-5.0, -5.0, 50.0, 200.0)]), 1.0);
    }
}
