"""python -m unittest test_site_camera"""
import argparse
import unittest

import numpy as np

from site_camera import Site


def flags(*words):
    ap = argparse.ArgumentParser()
    Site.add_flags(ap)
    return Site.from_flags(ap.parse_args(words))


class SiteTest(unittest.TestCase):
    def setUp(self):
        self.img = np.random.default_rng(1).random((40, 20, 3)).astype(np.float32)

    def test_no_flag_is_no_site(self):
        self.assertIsNone(flags())

    def test_what_is_not_given_changes_nothing(self):
        np.testing.assert_array_equal(flags("--noise", "0.01").lens(self.img), self.img)

    def test_light_and_cast_multiply(self):
        out = flags("--exposure", "0.5", "--colour-cast", "1.2", "1", "0.5").lens(self.img)
        np.testing.assert_allclose(out, self.img * [0.6, 0.5, 0.25], rtol=1e-6)

    def test_blur_flattens_and_keeps_the_mean(self):
        out = flags("--blur", "1.5").lens(self.img)
        self.assertLess(out.std(), self.img.std() / 2)
        self.assertAlmostEqual(out.mean(), self.img.mean(), delta=0.01)

    def test_height_is_in_decimetres_within_the_range(self):
        site, rng = flags("--camera-height", "6", "8"), np.random.default_rng(2)
        heights = [site.height(rng) for _ in range(200)]
        self.assertTrue(60 <= min(heights) < 62 and 78 < max(heights) <= 80)


if __name__ == "__main__":
    unittest.main()
