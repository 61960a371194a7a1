"""The layout of a window of any size, for any canvas and any number of objects."""

import itertools

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from air.gui.layout import DESIGN_SIZE, MIN_SIZE, OBJECT_TOOLS, TOOLS, arrange

SIZES = ((150, 110), (200, 400), (320, 240), (640, 480), (700, 1200), DESIGN_SIZE, (1920, 1080), (3840, 2160), (5000, 300))
CANVASES = ((50, 50), (28, 28), (4, 4), (20, 24), (100, 400), (400, 100), (1024, 1024), (1024, 4))


@settings(max_examples=400, deadline=None)
@given(
    size=st.sampled_from(SIZES) | st.tuples(st.integers(MIN_SIZE[0], 4000), st.integers(MIN_SIZE[1], 3000)),
    canvas_size=st.sampled_from(CANVASES) | st.tuples(st.integers(4, 1024), st.integers(4, 1024)),
    count=st.integers(0, 30),
)
@example(size=(1593, 110), canvas_size=(4, 358), count=0)  # a low canvas, and a low window
def test_nothing_overlaps_and_everything_is_inside(size, canvas_size, count):
    layout = arrange(size, canvas_size)
    fixed = [layout.drawn, layout.reconstructed, layout.header, layout.count, *layout.tools.values()]
    for parts in ([layout.bar, *layout.cards(count)], [layout.selected, layout.sliders]):  # one or the other is shown
        parts = [part for part in fixed + parts if part is not None]
        for part in parts:
            assert min(part.size) >= 1
            assert min(part.topleft) >= 0
            assert part.right <= size[0]
            assert part.bottom <= size[1]
        for a, b in itertools.combinations(parts, 2):
            assert not a.colliderect(b), (a, b)
    assert all(layout.sliders.contains(button) for button in layout.object_tools.values())
    assert layout.drawn.size == layout.reconstructed.size
    height, width = canvas_size
    assert abs(layout.drawn.width * height - layout.drawn.height * width) <= max(canvas_size)  # to the pixel
    assert not layout.objects or len(layout.cards(count)) >= count


@pytest.mark.parametrize("canvas_size", [(60, 400), (70, 512), (100, 256)])
def test_a_wide_picture_leaves_room_for_the_rest(canvas_size):
    layout = arrange(DESIGN_SIZE, canvas_size)
    assert layout.bar is not None
    assert len(layout.cards(30)) >= 30


@pytest.mark.parametrize("size", [(1, 1), (149, 500), (500, 109)])
def test_a_window_may_be_too_small(size):
    assert arrange(size, (50, 50)) is None


@pytest.mark.parametrize("size", [(900, 600), DESIGN_SIZE, (1280, 800), (1920, 1080), (2560, 1440), (3840, 2160)])
def test_usual_windows_have_everything_between_the_same_margins(size):
    layout = arrange(size, (50, 50))
    assert set(layout.tools) == {name for rows in TOOLS.values() for row in rows for name in row}
    assert set(layout.object_tools) == set(OBJECT_TOOLS)
    assert layout.drawn.width**2 > 0.22 * size[0] * size[1]
    left, right = layout.header.left, layout.header.right
    assert left == size[0] - right or abs(left - (size[0] - right)) <= 2
    assert min(button.left for button in layout.tools.values()) == left
    assert layout.reconstructed.right == layout.bar.right == layout.objects.right == right
    assert layout.bar.left == layout.count.left == layout.drawn.left
    assert layout.sliders.width > 400 * layout.unit
    assert all(min(card.size) > 100 * layout.unit for card in layout.cards(3))
    assert all(min(card.size) > 40 * layout.unit for card in layout.cards(12))


def test_groups_of_buttons_can_be_left_out():
    layout = arrange(DESIGN_SIZE, (50, 50), without=frozenset({"Canvas"}))
    assert "draw" in layout.tools
    assert "canvas 1" not in layout.tools
