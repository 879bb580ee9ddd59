"""What is particular to the cameras of one site: where they hang and what they do to a picture.

Every value that is not given leaves the picture as it is. Random values come from a generator of their own, so that persons,
poses, light and surroundings are drawn as without a site.
"""
import cv2
import numpy as np

FLAGS = ("camera_height", "colour_cast", "exposure", "blur", "low_resolution", "noise")


class Site:
    def __init__(self, camera_height=None, colour_cast=None, exposure=None, blur=None, low_resolution=None, noise=None):
        self.camera_height = camera_height         # metres above the ground, lowest and highest
        self.colour_cast = colour_cast             # factors on linear red, green, blue
        self.exposure = exposure                   # factor on linear light
        self.blur = blur                           # sigma in pixels of the 216 to 256 px high picture
        self.low_resolution = low_resolution       # share of the picture's height that the camera resolved, lowest and highest
        self.noise = noise                         # standard deviation added to the sensor's, of a range of 0 to 1

    @staticmethod
    def add_flags(ap):
        g = ap.add_argument_group("cameras of one site (none: the ordinary mixture)")
        g.add_argument("--camera-height", type=float, nargs=2, metavar=("LOW", "HIGH"), help="metres above the ground")
        g.add_argument("--colour-cast", type=float, nargs=3, metavar=("R", "G", "B"), help="factors on linear red, green, blue")
        g.add_argument("--exposure", type=float, metavar="F", help="factor on linear light")
        g.add_argument("--blur", type=float, metavar="SIGMA", help="lens blur in pixels")
        g.add_argument("--low-resolution", type=float, nargs=2, metavar=("LOW", "HIGH"),
                       help="share of the picture's height that the camera resolves")
        g.add_argument("--noise", type=float, metavar="S", help="added sensor noise, standard deviation of a range of 0 to 1")

    @staticmethod
    def from_flags(args):
        """The site that the flags describe, or None."""
        values = {k: getattr(args, k) for k in FLAGS}
        return Site(**values) if any(v is not None for v in values.values()) else None

    def height(self, rng):
        """Height of the camera in the world's unit, decimetres."""
        return 10 * rng.uniform(*self.camera_height)

    def lens(self, img):
        """Linear RGB as it falls on the sensor: light, cast, blur."""
        if self.exposure is not None:
            img = img * self.exposure
        if self.colour_cast is not None:
            img = img * np.array(self.colour_cast)
        if self.blur:
            img = cv2.GaussianBlur(img, (0, 0), self.blur)
        return img
