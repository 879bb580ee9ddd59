//! The vector kernels: every path gives the plain path's numbers, and bounds hold.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on fails"
)]

use proptest::prelude::*;
use rand::{Rng, SeedableRng, rngs::SmallRng};
use spotter_models::kernel::{
    FineCodes, Packed, Path, PlaneQuery, Planes, Query, Rotation, quantise,
};

fn vectors(count: usize, size: usize, seed: u64) -> Vec<Vec<f32>> {
    let mut random = SmallRng::seed_from_u64(seed);
    // Some components are zero, some far larger than the others.
    let mut component = || match random.random_range(0..8) {
        0 => 0.0,
        1 => random.random_range(-20.0..20.0),
        _ => random.random_range(-1.0..1.0f32),
    };
    (0..count).map(|_| (0..size).map(|_| component()).collect()).collect()
}

fn packed(rows: &[Vec<f32>], size: usize) -> Packed {
    let mut packed = Packed::new(size);
    rows.iter().for_each(|row| packed.push(row).unwrap());
    packed
}

fn exact(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum()
}

fn length(a: &[f32]) -> f64 {
    exact(a, a).sqrt()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn every_path_multiplies_bytes_to_the_same_number(
        size in 1usize..600, rows in 0usize..23, queries in 0usize..12, seed: u64,
    ) {
        let rows = vectors(rows, size, seed);
        let queries = vectors(queries, size, seed ^ 1);
        let packed = packed(&rows, size);
        let columns: Vec<Query> = queries.iter().map(|query| Query::new(query)).collect();
        let mut expected = Vec::new();
        for query in &queries {
            for row in &rows {
                let (q, r) = (quantise(query).values, quantise(row).values);
                expected.push(q.iter().zip(r).map(|(q, r)| i32::from(*q) * i32::from(r)).sum::<i32>());
            }
        }
        for path in Path::known() {
            let mut out = vec![7; 3];
            packed.dots(path, &columns, &mut out);
            prop_assert_eq!(&out, &expected, "{:?}", path);
        }
    }

    #[test]
    fn every_path_counts_bits_to_the_same_number(
        size in 1usize..600, rows in 0usize..37, seed: u64,
    ) {
        let rows = vectors(rows, size, seed);
        let query = vectors(1, size, seed ^ 1).pop().unwrap();
        let mut planes = Planes::new(size);
        let ones: Vec<u32> = rows.iter().map(|row| planes.push(row)).collect();
        let column = PlaneQuery::new(&query);
        let (low, high) = query.iter().fold((f32::MAX, f32::MIN), |(a, b), v| (a.min(*v), b.max(*v)));
        let step = (high - low) / 15.0;
        let code = |v: f32| if step > 0.0 { ((v - low) / step).round() as u32 } else { 0 };
        let sum = |row: &Vec<f32>| -> u32 {
            row.iter().zip(&query).filter(|(r, _)| **r > 0.0).map(|(_, q)| code(*q)).sum()
        };
        let expected: Vec<u32> = rows.iter().map(sum).collect();
        for path in Path::known() {
            let mut out = vec![7; 3];
            planes.masked(path, &column, &mut out);
            prop_assert_eq!(&out, &expected, "{:?}", path);
        }
        for ((row, masked), ones) in rows.iter().zip(&expected).zip(ones) {
            let signs: Vec<f32> = row.iter().map(|v| if *v > 0.0 { 1.0 } else { -1.0 }).collect();
            let error = (f64::from(column.signed(*masked, ones)) - exact(&signs, &query)).abs();
            // Each component is off by half a step at most.
            prop_assert!(error <= f64::from(step) * 0.51 * size as f64 + 1e-2, "{}", error);
        }
    }

    #[test]
    fn scores_are_within_the_bound(size in 1usize..600, rows in 1usize..9, seed: u64) {
        let rows = vectors(rows, size, seed);
        let query = vectors(1, size, seed ^ 1).pop().unwrap();
        let packed = packed(&rows, size);
        let column = Query::new(&query);
        let mut scores = Vec::new();
        packed.scores(&column, &mut scores);
        prop_assert_eq!(scores.len(), rows.len());
        for (row, score) in rows.iter().zip(scores) {
            let error = (exact(row, &query) - f64::from(score)).abs();
            prop_assert!(error <= f64::from(packed.bound(&column)), "{}", error);
        }
    }

    #[test]
    fn a_rotation_keeps_products(size in 1usize..600, seed: u64) {
        let [a, b] = vectors(2, size, seed).try_into().unwrap();
        let rotation = Rotation::new(size, seed);
        let (mut x, mut y) = (Vec::new(), Vec::new());
        rotation.apply(&a, &mut x);
        rotation.apply(&b, &mut y);
        prop_assert_eq!(x.len() % 64, 0);
        let error = (exact(&x, &y) - exact(&a, &b)).abs();
        prop_assert!(error <= 1e-5 * (1.0 + length(&a) * length(&b)), "{}", error);
    }
}

#[test]
fn the_extremes_of_bytes_do_not_overflow() {
    let row = vec![-1.0f32; 2048];
    let packed = packed(&vec![row.clone(); 9], 2048);
    for path in Path::known() {
        let mut out = Vec::new();
        packed.dots(path, &vec![Query::new(&row); 5], &mut out);
        assert!(out.iter().all(|sum| *sum == 127 * 127 * 2048), "{path:?}");
        assert_eq!(out.len(), 45);
    }
}

#[test]
fn the_bound_is_narrow_enough_to_be_of_use() {
    let unit = |v: Vec<f32>| {
        let l = length(&v) as f32;
        v.iter().map(|x| x / l).collect::<Vec<f32>>()
    };
    let mut random = SmallRng::seed_from_u64(5);
    let mut next = || unit((0..512).map(|_| random.random_range(-1.0..1.0)).collect());
    let rows: Vec<Vec<f32>> = (0..100).map(|_| next()).collect();
    let bound = packed(&rows, 512).bound(&Query::new(&next()));
    assert!(bound > 0.0 && bound < 0.01, "{bound}");
}

#[test]
fn rows_are_replaced_wiped_and_read_back() {
    let rows = vectors(5, 70, 1);
    let mut packed = packed(&rows, 70);
    let other = vectors(1, 70, 2).pop().unwrap();
    packed.replace(3, &other).unwrap();
    assert_eq!(packed.codes(3).unwrap(), quantise(&other));
    assert_eq!(packed.codes(4).unwrap(), quantise(&rows[4]));
    assert!(packed.codes(5).is_none());
    assert!(packed.replace(5, &other).is_err());
    assert!(packed.push(&other[1..]).is_err());
    let mut scores = vec![1.0];
    packed.scores(&Query::new(&other[1..]), &mut scores);
    assert!(scores.is_empty(), "a query of another size has no scores");
    packed.wipe();
    assert!(packed.is_empty());
}

fn le(codes: &FineCodes) -> Vec<u8> {
    codes.values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

#[test]
fn sixteen_bits_keep_a_cosine_to_the_fourth_digit() {
    for size in [1, 15, 16, 17, 512] {
        let [a, b]: [Vec<f32>; 2] = vectors(2, size, 3 + size as u64).try_into().unwrap();
        let unit: Vec<f32> = b.iter().map(|v| v / length(&b) as f32).collect();
        let exact = exact(&a, &b) / (length(&a) * length(&b)).max(1e-12);
        let cosine = FineCodes::cosine(&le(&FineCodes::new(&a)), &unit).unwrap();
        assert!((f64::from(cosine) - exact).abs() < 1e-4, "{size}: {cosine} {exact}");
    }
    assert_eq!(FineCodes::cosine(&le(&FineCodes::new(&[0.0; 9])), &[0.0; 9]), None);
    let codes = FineCodes::new(&[f32::NAN, 2.0, -2.0, f32::NEG_INFINITY]);
    assert_eq!(codes.values, [0, 32767, -32767, 0]);
}

#[test]
fn what_is_no_number_is_no_component() {
    let codes = quantise(&[f32::NAN, f32::INFINITY, 1.0, -0.5, 0.0]);
    assert_eq!(codes.values, [0, 0, 127, -64, 0]);
    assert_eq!(quantise(&[0.0; 4]).to_f32(), [0.0; 4]);
    assert_eq!(quantise(&[]).length(), 0.0);
}
