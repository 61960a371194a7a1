"""The window: every button, key and event, and what is shown after it."""

import time

import numpy as np
import pygame
import pytest
from events import SECONDS, click, draw, find_object, key, picture, post, press, same, settle, shows
from PIL import Image

from air.errors import DataError
from air.gui import theme
from air.gui.actions import ACTIONS, BY_KEY, key_event
from air.gui.layout import DESIGN_SIZE
from air.gui.panels import objects_area
from air.gui.pen import LINE_WIDTHS
from air.gui.session import PERIODS


def test_drawing_shows_the_attention_to_the_drawing(app, tiny_model):
    assert app.session.seen.scene.count == tiny_model.infer(np.zeros((1, 20, 24), np.uint8)).count[0]
    draw(app, (4, 4), (12, 12), (20, 6))
    seen = app.session.seen
    assert seen.image[12, 12] > 200
    assert seen.version == app.session.drawing.version
    assert same(seen, tiny_model)
    assert len(seen.labels) == len(seen.confidences) == seen.scene.count


def test_erasing_undo_redo_and_clear(app):
    draw(app, (4, 10), (20, 10))
    line = app.session.image
    click(app, "erase")
    draw(app, (12, 5), (12, 15))
    assert not app.session.image[10, 12]
    click(app, "undo")
    assert (app.session.image == line).all()
    click(app, "redo")
    assert not app.session.image[10, 12]
    key(app, "Ctrl+Z")
    key(app, "z")
    assert app.session.drawing.is_empty
    key(app, "y")
    click(app, "draw")
    assert not app.session.erasing
    click(app, "clear")
    assert app.session.drawing.is_empty
    key(app, "Z")
    press(app, app.layout.painted.center, button=3)
    assert app.session.drawing.is_empty
    assert app.session.drawing.undo()


@pytest.mark.parametrize("way", [click, lambda app, name: key(app, name[-1])])
def test_line_widths(app, way):
    drawn = []
    for n in range(1, len(LINE_WIDTHS) + 1):
        way(app, f"width {n}")
        app.session.drawing.clear()
        draw(app, (4, 10), (20, 10))
        drawn.append(app.session.image[:, 12].sum() / 255)
    assert drawn == pytest.approx(LINE_WIDTHS, rel=0.05)


def test_windows_are_shown_in_the_colours_of_the_steps_and_can_be_hidden(app, tiny_model):
    find_object(app, tiny_model)
    red, orange = theme.PALETTES["rgb"][0], theme.PALETTES["safe"][0]
    for rect in (app.layout.drawn, app.layout.painted):
        assert shows(app, red, rect)
    click(app, "windows")
    assert not shows(app, red, app.layout.drawn)
    assert not shows(app, red, app.layout.painted)
    key(app, "W")
    click(app, "palette")
    for rect in (app.layout.drawn, app.layout.painted):
        assert not shows(app, red, rect)
        assert shows(app, orange, rect)


def test_samples_differ_and_means_do_not(app, tiny_model):
    find_object(app, tiny_model)
    means = [app.session.seen.scene.z_what]
    settle(app)
    means.append(app.session.seen.scene.z_what)
    assert (means[0] == means[1]).all()
    click(app, "sample")
    samples = []
    for _ in range(2):
        settle(app)
        assert app.session.seen.sampled
        samples.append(app.session.seen.scene.z_what)
    assert (samples[0] != samples[1]).any()
    click(app, "mean")
    assert not app.session.seen.sampled
    assert same(app.session.seen, tiny_model)


def test_the_period(app):
    for period in PERIODS[1:]:
        click(app, "slower")
        assert app.session.period == period
    key(app, "-")
    assert app.session.period == PERIODS[-1]
    for period in reversed(PERIODS[:-1]):
        key(app, "+")
        assert app.session.period == period


def test_a_long_period_shows_the_newer_picture_without_attention(app, tiny_model):
    find_object(app, tiny_model)
    app.session.period = 1000
    settle(app, 2.0)
    post(pygame.MOUSEBUTTONDOWN, button=1, pos=app.layout.drawn.center)
    for _ in range(2):
        app.clock.now += 0.02
        app.pump()
        app.frame()
    assert app.session.seen is None or (app.session.seen.image == app.session.image).all()
    post(pygame.MOUSEMOTION, pos=app.layout.drawn.topleft, rel=(0, 0), buttons=(1, 0, 0))
    app.clock.now += 0.02
    app.pump()
    app.frame()
    assert app.session.seen is None
    assert (app.session.image == app.session.drawing.image).all()
    assert not shows(app, theme.PALETTES["rgb"][0], app.layout.drawn)
    settle(app, 2.0)
    assert app.session.seen.version == app.session.drawing.version


def test_a_picture_is_never_shown_with_anothers_attention(app, tiny_model):
    """Frames that don't wait for the model, strokes at random, all answers checked."""
    app.patience = 0.0
    pictures, shown, rng = {}, [], np.random.default_rng(0)
    try:
        post(pygame.MOUSEBUTTONDOWN, button=1, pos=app.layout.drawn.center)
        for frame in range(150):
            position = rng.uniform(app.layout.drawn.topleft, app.layout.drawn.bottomright)
            post(pygame.MOUSEMOTION, pos=tuple(position), rel=(0, 0), buttons=(1, 0, 0))
            if frame % 50 == 49:
                post(pygame.KEYDOWN, **key_event("C"))
                post(pygame.MOUSEBUTTONDOWN, button=1, pos=app.layout.drawn.center)
            app.clock.now += 1 / 60
            time.sleep(0.003)  # for the model, which is asked while the next frames are drawn
            app.pump()
            pictures[app.session.drawing.version] = app.session.drawing.image
            app.frame()
            seen = app.session.seen
            if seen is None:
                assert (app.session.image == app.session.drawing.image).all()
            else:
                assert app.session.image is seen.image
                assert (pictures.get(seen.version, seen.image) == seen.image).all()
                shown.append(seen)
    finally:
        app.patience = SECONDS
        post(pygame.MOUSEBUTTONUP, button=1, pos=app.layout.drawn.center)
    settle(app)
    assert len({seen.version for seen in shown}) > 20
    assert all(same(seen, tiny_model) for seen in shown[::10])


def test_a_test_scene_comes_from_another_thread(app, monkeypatch):
    scene = np.full((1, 20, 24), 77, np.uint8)
    monkeypatch.setattr("air.gui.pictures.held_out_scenes", lambda *arguments: scene)
    click(app, "test scene")
    assert (app.session.image == 77).all()


def test_a_message_is_shown_however_long_nothing_happened(app, tmp_path):
    app.clock.now += 600.0
    post(pygame.DROPFILE, file=str(tmp_path / "missing.png"))
    app.pump()
    app.clock.now += 1.0
    app.frame()
    assert "missing.png" in app.session.message.text
    app.clock.now += 4.0
    app.frame()
    assert app.session.message is None


def test_why_there_is_no_test_scene_is_said(app, monkeypatch):
    def fail(*arguments):
        raise DataError("no digits here")

    monkeypatch.setattr("air.gui.pictures.held_out_scenes", fail)
    app.session._test_scenes._scenes.clear()
    key(app, "T")
    assert app.session.message.text == "no digits here"
    assert app.session.message.is_error


def test_dreams(app):
    before = app.session.image
    click(app, "dream")
    dream = app.session.image
    assert (dream != before).any()
    key(app, "D")
    assert (app.session.image != dream).any()
    key(app, "Z")
    assert (app.session.image == dream).all()


def test_z_what_can_be_changed_with_the_mouse(app, tiny_model):
    seen = find_object(app, tiny_model)
    press(app, app.layout.cards[0].center)
    assert app.session.editor.selected == 0
    cards, sliders = objects_area(app.layout, app.session)
    assert list(cards) == [0]
    assert sliders.shown[0] == 1  # in which the bank's objects differ most
    column = sliders.column(0)
    post(pygame.MOUSEBUTTONDOWN, button=1, pos=(column.centerx, column.centery))
    post(pygame.MOUSEMOTION, pos=(column.centerx, column.top), rel=(0, 0), buttons=(1, 0, 0))
    post(pygame.MOUSEBUTTONUP, button=1, pos=(column.centerx, column.top))
    settle(app)
    edited = app.session.seen
    assert edited.edited
    assert edited.scene.z_what[0, 1] == pytest.approx(3.0)
    assert (edited.scene.presence == seen.scene.presence).all()
    assert (edited.scene.reconstruction != seen.scene.reconstruction).any()
    assert (edited.image == seen.image).all()
    key(app, "R")
    assert not app.session.seen.edited
    key(app, "Escape")
    assert app.session.editor.selected is None


def test_z_what_can_be_changed_with_keys(app, tiny_model):
    seen = find_object(app, tiny_model)
    key(app, "Tab")
    assert app.session.editor.selected == 0
    before = app.session.editor.dimension
    key(app, "Right")
    dimension = app.session.editor.dimension
    assert dimension != before
    key(app, "Up")
    assert app.session.seen.scene.z_what[0, dimension] == pytest.approx(seen.scene.z_what[0, dimension] + 0.25, abs=1e-5)
    key(app, "Down")
    key(app, "Left")
    assert app.session.editor.dimension == before
    post(pygame.MOUSEWHEEL, y=1, x=0)
    settle(app)
    assert app.session.seen.edited
    draw(app, (2, 2), (3, 3))
    assert not app.session.seen.edited  # another picture
    for _ in range(int(app.session.seen.scene.count) + 1):
        key(app, "Shift+Tab")


def test_an_object_is_selected_by_its_window(app, tiny_model):
    seen = find_object(app, tiny_model)
    x, y, width, height = seen.scene.attention_boxes[0]
    rect = app.layout.painted
    zoom = rect.width / 24
    middle = np.clip([x + width / 2, y + height / 2], 0.5, [23.5, 19.5])
    press(app, (rect.left + middle[0] * zoom, rect.top + middle[1] * zoom))
    assert app.session.editor.selected is not None


@pytest.mark.parametrize("way", ["click", "key"])
def test_pictures_of_the_window(app, tmp_path, monkeypatch, way):
    monkeypatch.chdir(tmp_path)
    draw(app, (4, 4), (12, 12))
    click(app, "save picture") if way == "click" else key(app, "Ctrl+S")
    (saved,) = tmp_path.glob("*.png")
    with Image.open(saved) as file:
        assert file.size == DESIGN_SIZE
    assert str(saved) in app.session.message.text


def test_a_picture_of_the_window_that_cannot_be_written(app, tmp_path):
    app.save_picture(tmp_path / "missing" / "a.png")
    assert "can't be written" in app.session.message.text
    settle(app)


def test_messages_go(app):
    app.session.say("hello")
    settle(app)
    assert app.session.message
    settle(app, 5.0)
    assert app.session.message is None


def test_dropped_files(app, tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (20, 24), np.uint8)
    Image.fromarray(image).save(tmp_path / "a.png")
    post(pygame.DROPFILE, file=str(tmp_path / "a.png"))
    settle(app)
    assert (app.session.seen.image == image).all()
    (tmp_path / "b.png").write_bytes(b"junk")
    post(pygame.DROPFILE, file=str(tmp_path / "b.png"))
    settle(app)
    assert (app.session.image == image).all()
    assert "b.png" in app.session.message.text


def test_help_shows_every_action_and_goes(app):
    plain = picture(app)
    for show, hide in (("?", "?"), ("F1", "Escape"), ("H", "H")):
        key(app, show)
        assert app.session.help_visible
        assert (picture(app) != plain).any()
        key(app, hide)
        assert not app.session.help_visible
    click(app, "help")
    press(app, app.layout.drawn.center)
    assert not app.session.help_visible
    assert app.session.drawing.is_empty


def test_every_action_has_a_key_of_its_own():
    keys = [key for action in ACTIONS for key in action.keys]
    assert len(keys) == len(set(keys)) == len(BY_KEY)
    assert all(action.keys for action in ACTIONS)


def test_every_key_and_every_button_in_every_state(app, tiny_model, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("air.gui.pictures.held_out_scenes", lambda *arguments: np.zeros((3, 20, 24), np.uint8))
    for prepare in (lambda: None, lambda: find_object(app, tiny_model), lambda: key(app, "Tab")):
        prepare()
        for name in app.layout.tools:
            click(app, name)
        for text in BY_KEY:
            if BY_KEY[text] not in ("quit", "reload", "fullscreen"):
                key(app, text)
    assert app.running
    assert app.session.lost is None


def test_keys_that_mean_nothing(app):
    for code in (pygame.K_q, pygame.K_9, pygame.K_SPACE, pygame.K_LSHIFT, pygame.K_F5, 0):
        post(pygame.KEYDOWN, key=code, mod=0, unicode="", scancode=0)
    settle(app)
    assert app.running


@pytest.mark.parametrize("size", [(1, 1), (120, 90), (200, 160), (320, 900), (640, 480), (1920, 1080), (3000, 200)])
def test_resizing(app, tiny_model, size):
    seen = find_object(app, tiny_model)
    app.window.size = size
    settle(app)
    assert app.surface.get_size() == size
    assert app.session.seen is seen
    for selected in (None, 0):
        app.session.editor.select(selected)
        app.session.help_visible = selected == 0
        settle(app)
    if app.layout is not None:
        before = app.session.image.copy()
        app.session.help_visible = False
        draw(app, (2, 18), (22, 18))
        assert app.session.image[18, 12] > 200
        assert (app.session.image >= before).all()


def test_the_pen_is_up_when_the_button_was_let_go_elsewhere(app):
    rect = app.layout.drawn
    post(pygame.MOUSEBUTTONDOWN, button=1, pos=rect.center)
    post(pygame.MOUSEMOTION, pos=rect.topleft, rel=(0, 0), buttons=(0, 0, 0))
    settle(app)
    assert not app.session.drawing.is_drawing


def test_quitting(app):
    for event in ({"kind": pygame.QUIT}, {"kind": pygame.KEYDOWN, **key_event("Ctrl+Q")}):
        app.running = True
        post(**event)
        app.pump()
        assert not app.running
    app.running = True
