//! Pixels as the models take them: three planes of floats instead of rows of RGB bytes.

use spotter_models::Rgb;

/// In which order the planes lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Red first.
    Rgb,
    /// Blue first.
    Bgr,
}

/// Writes `picture` into the upper left corner of three planes of `width` floats a row, each value
/// divided by `divisor`. What lies beside and below the picture is left as it is.
///
/// `planes` holds three planes of the same size; rows and columns that they lack are left out.
pub fn write(picture: &Rgb, order: Order, divisor: f32, width: usize, planes: &mut [f32]) {
    let (first, rest) = planes.split_at_mut(planes.len() / 3);
    let (second, third) = rest.split_at_mut(rest.len() / 2);
    let (red, blue) = match order {
        Order::Rgb => (first, third),
        Order::Bgr => (third, first),
    };
    let rows = picture.data().chunks_exact(picture.width() as usize * 3);
    let targets = red
        .chunks_exact_mut(width)
        .zip(second.chunks_exact_mut(width))
        .zip(blue.chunks_exact_mut(width));
    for (row, ((red, green), blue)) in rows.zip(targets) {
        for (((pixel, red), green), blue) in row.chunks_exact(3).zip(red).zip(green).zip(blue) {
            // Chunks of three.
            if let [r, g, b] = pixel {
                *red = f32::from(*r) / divisor;
                *green = f32::from(*g) / divisor;
                *blue = f32::from(*b) / divisor;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn planes_have_their_order_and_keep_the_padding() {
        let picture = Rgb::new(2, 1, vec![1, 2, 3, 4, 5, 6]).unwrap();
        let mut planes = vec![9.0; 3 * 3 * 2];
        write(&picture, Order::Bgr, 1.0, 3, &mut planes);
        let blue = [3.0, 6.0, 9.0, 9.0, 9.0, 9.0];
        let green = [2.0, 5.0, 9.0, 9.0, 9.0, 9.0];
        let red = [1.0, 4.0, 9.0, 9.0, 9.0, 9.0];
        assert_eq!(planes, [blue, green, red].concat());
        write(&picture, Order::Rgb, 2.0, 3, &mut planes);
        assert_eq!(planes[..2], [0.5, 2.0]);
        assert_eq!(planes[12..14], [1.5, 3.0]);
    }
}
