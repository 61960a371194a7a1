"""Compute what a scene leaves unexplained of a picture."""

import numpy as np

TOLERANCE = 3  # pixels; ink next to the reconstruction's counts as explained, as strokes are redrawn a little off
BLUR = 1.5  # pixels
RANGE = (0.2, 0.4)  # blurred residual at which the tint begins and is full


def residual(image: np.ndarray, added: np.ndarray) -> np.ndarray:
    """Subtract what objects add to a canvas from an image of uint8: what is left, in [0, 1]."""
    return np.clip(np.float32(image) / 255 - added, 0, 1)


def unexplained(image: np.ndarray, reconstruction: np.ndarray) -> np.ndarray:
    """Find the ink that no object explains: [H, W] in [0, 1], 0 nearly everywhere where a scene is well understood.

    Args:
        image: [H, W] or [H, W, 3] uint8.
        reconstruction: of the same shape, in [0, 1].
    """
    from scipy.ndimage import gaussian_filter, maximum_filter  # here, because the window should open first

    if image.ndim == 3:
        image, reconstruction = image.mean(axis=-1), reconstruction.mean(axis=-1)
    left = gaussian_filter(residual(image, maximum_filter(reconstruction, TOLERANCE)), BLUR)
    low, high = RANGE
    return np.float32(image) / 255 * np.clip((left - low) / (high - low), 0, 1)
