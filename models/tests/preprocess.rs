//! Preprocessing against Pillow's output, and on the crops that nobody expects.

use safetensors::{Dtype, SafeTensors};
use spotter_models::{
    Rgb, RgbView,
    preprocess::{Preprocess, Preprocessor},
};

const GOLDEN: &[u8] = include_bytes!("golden/preprocess.safetensors");

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
}

#[test]
fn golden_pictures_become_the_golden_tensors() {
    // Measured: five equal Pillow, one differs by a grey level (0.015) in 0.1 % of its values because
    // the resizer's coefficients have fewer bits. The golden files would allow 0.005 and 0.06.
    const MEAN_ABS: f32 = 0.0001;
    const MAX_ABS: f32 = 0.016;
    let golden = SafeTensors::deserialize(GOLDEN).unwrap();
    let definition = Preprocess::clip(384, 128);
    let mut preprocessor = Preprocessor::new(definition).unwrap();
    let mut slot = vec![f32::NAN; definition.len()];
    for i in 0..6 {
        let picture = golden.tensor(&format!("rgb.{i}")).unwrap();
        let (&[height, width, 3], Dtype::U8) = (picture.shape(), picture.dtype()) else {
            panic!("rgb.{i}: {picture:?}");
        };
        let rgb = Rgb::new(width as u32, height as u32, picture.data().to_vec()).unwrap();
        preprocessor.run(rgb.view(), &mut slot).unwrap();
        let expected = floats(golden.tensor(&format!("tensor.{i}")).unwrap().data());
        assert_eq!(expected.len(), slot.len());
        let differences: Vec<f32> =
            slot.iter().zip(&expected).map(|(got, expected)| (got - expected).abs()).collect();
        let mean = differences.iter().sum::<f32>() / differences.len() as f32;
        let max = differences.iter().copied().fold(0.0, f32::max);
        println!("{width}x{height}: mean {mean:.5}, max {max:.5}");
        assert!(mean <= MEAN_ABS && max <= MAX_ABS, "{width}x{height}: mean {mean}, max {max}");
    }
}

#[test]
fn a_picture_of_the_right_size_is_exact() {
    let golden = SafeTensors::deserialize(GOLDEN).unwrap();
    let rgb = golden.tensor("rgb.0").unwrap();
    let view = RgbView::new(128, 384, 128 * 3, rgb.data()).unwrap();
    let definition = Preprocess::clip(384, 128);
    let mut slot = vec![0.0; definition.len()];
    Preprocessor::new(definition).unwrap().run(view, &mut slot).unwrap();
    let expected = floats(golden.tensor("tensor.0").unwrap().data());
    let worst = slot.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(worst <= 1e-6, "{worst}");
}

#[test]
fn crops_of_extreme_shapes_keep_their_colour() {
    let definition = Preprocess::clip(48, 16);
    let mut preprocessor = Preprocessor::new(definition).unwrap();
    let plane = 48 * 16;
    for (width, height) in [(1, 1), (1, 4000), (4000, 1), (2, 3), (16, 48), (3000, 2000), (17, 1)] {
        let pixels = [10u8, 200, 90].repeat(width as usize * height as usize);
        let rgb = Rgb::new(width, height, pixels).unwrap();
        let mut slot = vec![f32::NAN; definition.len()];
        preprocessor.run(rgb.view(), &mut slot).unwrap();
        for (channel, byte) in [10f32, 200.0, 90.0].into_iter().enumerate() {
            let value = (byte / 255.0 - definition.mean[channel]) / definition.std[channel];
            let got = &slot[channel * plane..(channel + 1) * plane];
            assert!(
                got.iter().all(|v| (v - value).abs() < 1e-5),
                "{width}x{height}, channel {channel}: {:?} is not {value}",
                got.iter().find(|v| (**v - value).abs() >= 1e-5)
            );
        }
    }
}

#[test]
fn a_region_of_a_frame_equals_its_copy() {
    let data: Vec<u8> = (0..64 * 80 * 3).map(|i: u32| (i * 7 % 251) as u8).collect();
    let frame = Rgb::new(64, 80, data).unwrap();
    let region = frame.view().region(13, 7, 31, 66).unwrap();
    let copy = region.to_rgb();
    let definition = Preprocess::clip(96, 32);
    let mut preprocessor = Preprocessor::new(definition).unwrap();
    let mut slots = vec![0.0; 2 * definition.len()];
    let (first, second) = slots.split_at_mut(definition.len());
    preprocessor.run(region, first).unwrap();
    preprocessor.run(copy.view(), second).unwrap();
    assert_eq!(first, second);
    assert!(first.iter().any(|v| *v > 0.0) && first.iter().any(|v| *v < 0.0));
}

#[test]
fn a_wrong_slot_and_a_wrong_definition_are_refused() {
    let rgb = Rgb::new(1, 1, vec![0; 3]).unwrap();
    let mut preprocessor = Preprocessor::new(Preprocess::clip(8, 8)).unwrap();
    let error = preprocessor.run(rgb.view(), &mut [0.0; 191]).unwrap_err();
    assert!(error.to_string().contains("191 values instead of 192"), "{error}");
    let good = Preprocess::clip(8, 8);
    for (field, definition) in [
        ("height", Preprocess { height: 0, ..good }),
        ("width", Preprocess { width: usize::MAX, ..good }),
        ("mean", Preprocess { mean: [0.0, f32::NAN, 0.0], ..good }),
        ("std", Preprocess { std: [1.0, 1.0, 0.0], ..good }),
        ("std", Preprocess { std: [1.0, -1.0, 1.0], ..good }),
        ("std", Preprocess { std: [f32::INFINITY, 1.0, 1.0], ..good }),
    ] {
        let error = Preprocessor::new(definition).err().unwrap();
        assert!(error.to_string().contains(field), "{field}: {error}");
    }
}

#[test]
fn a_stretched_crop_is_what_is_normalised() {
    let crop = Rgb::new(31, 77, (0..31 * 77 * 3).map(|i| (i * 37 % 256) as u8).collect()).unwrap();
    // These constants give bytes back.
    let definition = Preprocess { height: 40, width: 20, mean: [0.0; 3], std: [1.0 / 255.0; 3] };
    let mut preprocessor = Preprocessor::new(definition).unwrap();
    let bytes = preprocessor.stretch(crop.view()).unwrap().to_vec();
    let mut slot = vec![f32::NAN; definition.len()];
    preprocessor.run(crop.view(), &mut slot).unwrap();
    assert_eq!(bytes.len(), slot.len());
    for (pixel, rgb) in bytes.as_chunks::<3>().0.iter().enumerate() {
        for (channel, byte) in rgb.iter().enumerate() {
            assert!((slot[channel * 800 + pixel] - f32::from(*byte)).abs() < 1e-3);
        }
    }
}
