"""Compute what a scene leaves unexplained of a picture."""

import numpy as np

TOLERANCE = 3  # pixels; ink next to the reconstruction's counts as explained, as strokes are redrawn a little off
BLUR = 1.5  # pixels
RANGE = (0.2, 0.4)  # blurred residual at which the tint begins and is full


def in_grey(picture: np.ndarray) -> np.ndarray:
    """Average the channels of a picture [H, W, 3] by a model of colour scenes; return a grey one [H, W] as it is."""
    return picture if picture.ndim == 2 else picture.mean(axis=-1)


def residual(image: np.ndarray, added: np.ndarray) -> np.ndarray:
    """Subtract what objects add to a canvas from an image [H, W] uint8: what is left, [H, W] in [0, 1]."""
    return np.clip(np.float32(image) / 255 - in_grey(added), 0, 1)


def unexplained(image: np.ndarray, reconstruction: np.ndarray) -> np.ndarray:
    """Find the ink that no object explains: [H, W] in [0, 1], 0 nearly everywhere where a scene is well understood.

    Args:
        image: [H, W] uint8.
        reconstruction: [H, W] in [0, 1], or [H, W, 3].
    """
    from scipy.ndimage import gaussian_filter, maximum_filter  # here, because the window should open first

    left = gaussian_filter(residual(image, maximum_filter(in_grey(reconstruction), TOLERANCE)), BLUR)
    low, high = RANGE
    return np.float32(image) / 255 * np.clip((left - low) / (high - low), 0, 1)
