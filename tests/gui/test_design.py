"""Test how the window looks and starts: contrast, titles, tips, focus, the brush, larger canvases, recorded scenes."""

import itertools
import time

import numpy as np
import pygame
import pytest
from events import SECONDS, Clock, click, drag, draw, find_object, key, picture, post, press, settle, shows

from air.evaluation import attract
from air.gui import panels, theme
from air.gui.app import App, _suitable_size
from air.gui.engine import config_of
from air.gui.layout import DESIGN_SIZE
from air.training import checkpoints


def test_text_is_easy_to_read():
    assert theme.contrast((0, 0, 0), (255, 255, 255)) == pytest.approx(21)
    assert theme.contrast((119, 119, 119), (255, 255, 255)) == pytest.approx(4.48, abs=0.01)  # the standard's own example
    dark = (theme.BACKGROUND, theme.PANEL, theme.RAISED, theme.INK)
    texts = (theme.TEXT, theme.MUTED, theme.FAINT, theme.ACCENT, theme.ERROR, theme.WARNING)
    for text, behind in (*itertools.product(texts, dark), (theme.TEXT, theme.HOVERED), (theme.TEXT, theme.CHOSEN)):
        assert theme.contrast(text, behind) >= 4.5, (text, behind)
    for palette in theme.PALETTES:
        for step in range(len(theme.PALETTES[palette])):
            colour = theme.step_colour(palette, step)
            assert theme.contrast(colour, theme.INK) >= 3
            assert theme.contrast(theme.text_on(colour), colour) >= 4.5


@pytest.mark.parametrize(
    ("desktop", "size"),
    [((1280, 800), (1137, 720)), ((1920, 1080), (1449, 918)), ((2560, 1440), (1933, 1224)), ((1024, 768), (1004, 636))],
)
def test_the_window_fits_the_desktop(desktop, size):
    assert _suitable_size(desktop) == pytest.approx(size, abs=1)


def test_a_stroke_may_begin_and_end_beside_the_canvas(app):
    rect = app.layout.drawn
    drag(app, (rect.left - 8, rect.centery), rect.center, (rect.centerx, rect.bottom + 300))
    assert app.session.image[10, 6] > 200
    assert app.session.image[19, 12] > 200
    key(app, "Z")
    assert app.session.drawing.is_empty
    drag(app, (rect.left, DESIGN_SIZE[1] - 3), (rect.right, DESIGN_SIZE[1] - 3))
    assert not app.session.drawing.can_undo


def test_the_title_says_what_is_shown(app, monkeypatch):
    monkeypatch.setattr("air.gui.pictures.held_out_scenes", lambda *arguments: np.full((1, 20, 24), 77, np.uint8))
    assert app.session.title == "Your drawing"
    key(app, "T")
    assert app.session.title == "A test scene"
    key(app, "D")
    assert app.session.title == "A dream"
    key(app, "Z")
    assert app.session.title == "A test scene"
    key(app, "C")
    draw(app, (4, 4), (12, 12))
    assert app.session.title == "Your drawing"


def test_escape_undoes_what_sliders_changed(app):
    seen = find_object(app)
    key(app, ".")
    key(app, "Right")
    assert app.session.seen.edited
    key(app, "Escape")
    assert app.session.editor.selected is None
    assert not app.session.seen.edited
    assert (app.session.seen.scene.z_what == seen.scene.z_what).all()


def test_messages_cover_nothing_but_the_header(app):
    find_object(app)
    before = picture(app)
    app.session.say("A rather long message about a file that can't be read", is_error=True)
    app.frame()
    changed = np.argwhere((picture(app) != before).any(axis=2))
    assert len(changed)
    assert changed[:, 1].max() < app.layout.header.bottom
    assert changed[changed[:, 1] < app.layout.header.top + 12, 0].min() > app.layout.header.left + 200  # right of the title


def test_numbers_are_for_those_who_ask(app):
    find_object(app)
    plain = picture(app)
    key(app, "F3")
    assert (picture(app)[:, : app.layout.header.bottom] != plain[:, : app.layout.header.bottom]).any()
    key(app, "F3")
    assert not app.session.numbers_visible


def test_pixels_can_be_shown_as_the_model_sees_them(app, monkeypatch):
    monkeypatch.setattr(type(app.session), "unexplained", None)  # which is tinted
    draw(app, (4, 4), (12, 12), (20, 6))
    press(app, app.layout.tools["windows"].center)
    rect = app.layout.drawn
    smooth = picture(app)[rect.left : rect.right, rect.top : rect.bottom, 0].T
    click(app, "pixels")
    sharp = picture(app)[rect.left : rect.right, rect.top : rect.bottom, 0].T
    rows, columns = ((np.arange(n) + 0.5) * length / n for n, length in ((20, rect.height), (24, rect.width)))
    np.testing.assert_array_equal(sharp[np.ix_(rows.astype(int), columns.astype(int))], app.session.image)
    assert (smooth != sharp).any()


def test_the_outline_of_the_pen_is_the_cursor(app):
    at = app.layout.drawn.center
    post(pygame.MOUSEMOTION, pos=at, rel=(0, 0), buttons=(0, 0, 0))
    settle(app)
    assert app.hand.over == "drawn"
    assert shows(app, theme.ACCENT, app.layout.drawn)
    assert not pygame.mouse.get_visible()
    post(pygame.MOUSEMOTION, pos=app.layout.tools["clear"].center, rel=(0, 0), buttons=(0, 0, 0))
    settle(app)
    assert not shows(app, theme.ACCENT, app.layout.drawn)
    assert pygame.mouse.get_visible()


@pytest.mark.parametrize("target", ["windows", "card 1"])
def test_what_the_mouse_rests_on_is_explained(app, target):
    find_object(app)
    post(pygame.MOUSEMOTION, pos=panels.targets(app.layout, app.session)[target].center, rel=(0, 0), buttons=(0, 0, 0))
    app.pump()
    app.frame()
    plain = picture(app)
    assert app._next_frame() < app.clock() + 1.0
    app.clock.now += 1.0
    app.frame()
    assert (picture(app) != plain).any()
    post(pygame.MOUSEMOTION, pos=(2, 2), rel=(0, 0), buttons=(0, 0, 0))
    settle(app)
    assert not app.hand.rests


def test_everything_can_be_reached_with_the_tab_key(app):
    find_object(app)
    reached = []
    for _ in panels.targets(app.layout, app.session):
        key(app, "Tab")
        reached.append(app.hand.focus)
        assert shows(app, theme.ACCENT, panels.targets(app.layout, app.session)[app.hand.focus].inflate(6, 6))
    assert reached == list(panels.targets(app.layout, app.session))
    assert {"clear", "play", "card 1"} <= set(reached)
    key(app, "Enter")
    assert app.session.editor.selected == int(reached[-1].removeprefix("card ")) - 1
    key(app, "Escape")
    key(app, "Tab")
    key(app, "Shift+Tab")
    assert app.hand.focus == reached[-1]
    press(app, app.layout.drawn.center)
    assert app.hand.focus is None


def test_the_loading_bar_moves_while_nothing_happens(open_app):
    app = open_app(start=False)
    app.frame()
    for _ in range(3):
        app.handle(pygame.event.Event(pygame.NOEVENT))
        app.handle(pygame.event.Event(pygame.MOUSEMOTION, pos=(1, 1), rel=(0, 0), buttons=(0, 0, 0)))
        app.clock.now += 0.06
    assert app._next_frame() <= app.clock()


@pytest.fixture(scope="module")
def cells(tiny_cells, tmp_path_factory):
    """A model that takes any canvas, beside a recording of it."""
    path = tmp_path_factory.mktemp("cells")
    checkpoints.save_weights(tiny_cells, path / "air.keras")
    images = np.zeros((2, 20, 24), np.uint8)
    images[:, 8:13, 8:13] = [[[200]], [[250]]]
    attract.save(path / attract.ATTRACT, attract.record(tiny_cells, images))
    app = App(path, config_of(path), size=DESIGN_SIZE, clock=Clock(), patience=SECONDS)
    yield app
    app.close(SECONDS)


def test_recorded_scenes_are_shown_until_the_first_stroke(cells, tiny_cells):
    app, shown, images = cells, [], [scene.image for scene in cells.session.attract._scenes]
    for _ in range(100):
        app.frame()
        shown.append((int(app.session.image.max()), len(app.session.view.boxes)))
        assert app.session.title == "A test scene"
        app.clock.now += 0.1
    assert [image for image, _ in itertools.groupby(image for image, _ in shown)][:3] == [200, 250, 200]
    assert {boxes for _, boxes in shown} == set(range(int(max(tiny_cells.infer(np.stack(images)).count)) + 1))
    draw(app, (4, 4), (8, 8))
    assert app.session.attract is None
    assert app.session.title == "Your drawing"
    assert (app.session.image == app.session.drawing.image).all()


def test_larger_canvases(cells, tiny_cells, monkeypatch):
    # It takes long, and is not used.
    monkeypatch.setattr("air.gui.programs.Programs.warm_up_thorough_look", lambda *arguments: None)
    app = cells
    app.session.engine.start()
    assert app.session.engine.wait_until_settled(SECONDS), app.session.engine.status
    settle(app)
    assert app.session.canvas_sizes == [(20, 24), (30, 36), (40, 48)]
    key(app, "Ctrl+3")
    assert app.session.image.shape == (40, 48)
    draw(app, (6, 6), (10, 10))
    draw(app, (36, 30), (40, 34))
    deadline = time.monotonic() + SECONDS
    while (app.session.seen is None or app.session.seen.image.shape != (40, 48)) and time.monotonic() < deadline:
        settle(app)
        time.sleep(0.05)
    assert app.session.seen.version == app.session.drawing.version
    assert app.session.seen.scene.reconstruction.shape == (40, 48)
    click(app, "canvas 1")
    assert app.session.image.shape == (20, 24)
    settle(app)
    expected = tiny_cells.infer(app.session.image[None], max_steps=12)
    assert app.session.seen.scene.count == expected.count[0]
