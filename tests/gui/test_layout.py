"""The layout of a window of any size, for any canvas and any number of steps."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from air.gui.layout import DESIGN_SIZE, MIN_SIZE, arrange

SIZES = ((150, 110), (200, 400), (320, 240), (640, 480), (700, 1200), DESIGN_SIZE, (1920, 1080), (3840, 2160), (5000, 300))
CANVASES = ((50, 50), (28, 28), (4, 4), (20, 24), (100, 400), (400, 100), (1024, 1024), (1024, 4))


@settings(max_examples=400, deadline=None)
@given(
    size=st.sampled_from(SIZES) | st.tuples(st.integers(MIN_SIZE[0], 4000), st.integers(MIN_SIZE[1], 3000)),
    canvas_size=st.sampled_from(CANVASES) | st.tuples(st.integers(4, 1024), st.integers(4, 1024)),
    steps=st.integers(1, 16),
)
def test_nothing_overlaps_and_canvases_are_whole(size, canvas_size, steps):
    layout = arrange(size, canvas_size, steps)
    canvases = (layout.drawn, layout.reconstructed)
    parts = [*canvases, layout.header, layout.status, layout.count, *layout.cards, *layout.tools.values()]
    parts = [part for part in parts if part is not None]
    assert all(min(part.size) >= 1 for part in parts)
    for a, b in itertools.combinations(parts, 2):
        assert not a.colliderect(b), (a, b)
    for canvas in canvases:
        assert min(canvas.topleft) >= 0
        assert canvas.right <= size[0]
        assert canvas.bottom <= size[1]
    assert layout.drawn.size == layout.reconstructed.size
    longer = int(canvas_size[1] > canvas_size[0])  # whose length in whole pixels gives the most precise zoom
    zoom = (layout.drawn.height, layout.drawn.width)[longer] / canvas_size[longer]
    if zoom >= 4:
        assert layout.drawn.size == (round(zoom) * canvas_size[1], round(zoom) * canvas_size[0])
    assert len(layout.cards) in (0, steps)


@pytest.mark.parametrize("size", [(1, 1), (149, 500), (500, 109)])
def test_a_window_may_be_too_small(size):
    assert arrange(size, (50, 50), 3) is None


@pytest.mark.parametrize("size", [DESIGN_SIZE, (1920, 1080), (2560, 1440), (3840, 2160)])
@pytest.mark.parametrize("steps", [1, 3, 6, 16])
def test_usual_windows_have_everything(size, steps):
    layout = arrange(size, (50, 50), steps)
    assert layout.header
    assert layout.status
    assert layout.tools
    assert len(layout.cards) == steps
    assert layout.drawn.height > 0.45 * size[1]
    assert all(min(card.size) > 50 * layout.unit for card in layout.cards)
