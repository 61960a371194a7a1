"""Positions at which objects keep their distance from each other."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

TRIES = 100  # random positions for an object before `place` gives up


class Footprint(NamedTuple):
    """The pixels that an object takes, as the bits of an integer: bit y * stride + x is pixel (x, y).

    Shifting and intersecting two such integers tests a position about ten times faster than slicing arrays.
    """

    height: int  # pixels
    width: int  # pixels
    pixels: int  # bits
    halo: int  # bits of all pixels within `gap` of these, moved right and down by `gap` so that none is negative

    @classmethod
    def of(cls, mask: np.ndarray, stride: int, gap: int) -> "Footprint":
        """Return the footprint of a mask [height, width] bool in rows of `stride` pixels, the space's width plus 2 gaps."""
        height, width = mask.shape
        rows = np.zeros((height, stride), bool)
        rows[:, :width] = mask
        pixels = halo = int.from_bytes(np.packbits(rows, bitorder="little").tobytes(), "little")
        for step in (1, stride):
            for _ in range(2 * gap):
                halo |= halo << step
        return cls(height, width, pixels, halo)


def place(
    footprints: Sequence[Footprint], size: tuple[int, int], gap: int, uniform: Callable[[], float]
) -> list[tuple[int, int]] | None:
    """Return (x, y) at which footprints keep their distance, or None if one finds no room at TRIES random positions.

    Args:
        footprints: footprints no larger than `size`, made with `gap` and a stride of width + 2 * gap.
        size: height and width of the space, in pixels.
        gap: minimum number of free pixels between any two.
        uniform: draws a random number in [0, 1).
    """
    stride = size[1] + 2 * gap
    inset = gap * (stride + 1)
    taken = 0
    positions = []
    for footprint in footprints:
        rows, columns = size[0] - footprint.height + 1, size[1] - footprint.width + 1
        for _ in range(TRIES):
            x, y = int(uniform() * columns), int(uniform() * rows)
            corner = y * stride + x
            if not taken & (footprint.pixels << (corner + inset)):
                break
        else:
            return None
        taken |= footprint.halo << corner
        positions.append((x, y))
    return positions
