"""The window: every button, key and event, and what is shown after it."""

import time
from pathlib import Path

import numpy as np
import pygame
import pytest
from events import click, drag, draw, find_object, key, key_event, picture, post, press, same, settle, shows

from air.gui import theme
from air.gui.actions import ACTIONS, BY_KEY
from air.gui.panels import objects_area
from air.gui.pen import LINE_WIDTHS
from air.gui.playback import STEP_SECONDS
from air.gui.session import PERIODS
from air.gui.steps import step_bar

RED, ORANGE = theme.PALETTES["rgb"][0], theme.PALETTES["safe"][0]


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
    for clear in (lambda: click(app, "clear"), lambda: press(app, app.layout.reconstructed.center, button=3)):
        clear()
        assert app.session.drawing.is_empty
        assert app.session.drawing.undo()


@pytest.mark.parametrize("way", [click, lambda app, name: key(app, name[-1])])
def test_line_widths(app, way):
    thickness = []
    for n in range(1, len(LINE_WIDTHS) + 1):
        way(app, f"width {n}")
        app.session.drawing.clear()
        draw(app, (4, 10), (20, 10))
        thickness.append(app.session.image[:, 12].sum() / 255)
    assert thickness == pytest.approx(LINE_WIDTHS, rel=0.05)


def test_attention_windows_have_the_colours_of_their_steps_and_can_be_hidden(app):
    find_object(app)
    canvases = (app.layout.drawn, app.layout.reconstructed)
    assert all(shows(app, RED, rect) for rect in canvases)
    click(app, "windows")
    assert not any(shows(app, RED, rect) for rect in canvases)
    key(app, "W")
    click(app, "palette")
    assert not any(shows(app, RED, rect) for rect in canvases)
    assert all(shows(app, ORANGE, rect) for rect in canvases)


def test_samples_are_named_although_they_are_far_from_the_reference_set(app, monkeypatch):
    monkeypatch.setitem(app.session.engine.reference_set.__dict__, "max_distance", 0.0)
    assert find_object(app).labels[0] is None
    click(app, "sample")
    assert None not in app.session.seen.labels
    click(app, "mean")


def test_samples_differ_and_means_do_not(app, tiny_model):
    find_object(app)
    means, samples = [], []
    for _ in range(2):
        settle(app)
        means.append(app.session.seen.scene.z_what)
    assert (means[0] == means[1]).all()
    click(app, "sample")
    for _ in range(2):
        settle(app)
        assert app.session.seen.sampled
        samples.append(app.session.seen.scene.z_what)
    assert (samples[0] != samples[1]).any()
    click(app, "mean")
    assert not app.session.seen.sampled
    assert same(app.session.seen, tiny_model)


def test_the_period(app):
    for period in (*PERIODS[1:], PERIODS[-1]):
        key(app, "-")
        assert app.session.period == period
    for period in (*reversed(PERIODS[:-1]), PERIODS[0]):
        key(app, "+")
        assert app.session.period == period


def test_a_long_period_shows_the_newer_picture_without_attention(app):
    find_object(app)
    app.session.period = 1000
    settle(app, 2.0)
    post(pygame.MOUSEBUTTONDOWN, button=1, pos=app.layout.drawn.center)
    for position in (app.layout.drawn.topleft, app.layout.drawn.bottomright):  # the first one is looked at at once
        post(pygame.MOUSEMOTION, pos=position, rel=(0, 0), buttons=(1, 0, 0))
        app.clock.now += 0.02
        app.pump()
        app.frame()
    assert app.session.seen is None
    assert (app.session.image == app.session.drawing.image).all()
    assert not shows(app, RED, app.layout.drawn)
    settle(app, 2.0)
    assert app.session.seen.version == app.session.drawing.version


def test_a_picture_is_never_shown_with_the_attention_to_another(app, tiny_model):
    """Random strokes, in frames that don't wait for the model."""
    app.patience = 0.0
    pictures, shown, rng = {}, [], np.random.default_rng(0)
    for frame in range(150):
        if frame % 50 == 0:
            post(pygame.KEYDOWN, **key_event("C"))
            post(pygame.MOUSEBUTTONDOWN, button=1, pos=app.layout.drawn.center)
        position = rng.uniform(app.layout.drawn.topleft, app.layout.drawn.bottomright)
        post(pygame.MOUSEMOTION, pos=tuple(position), rel=(0, 0), buttons=(1, 0, 0))
        app.clock.now += 1 / 60
        time.sleep(0.003)  # for the model, which looks while the next frames are drawn
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
    post(pygame.MOUSEBUTTONUP, button=1, pos=app.layout.drawn.center)
    settle(app)
    assert len({seen.version for seen in shown}) > 20
    assert all(same(seen, tiny_model) for seen in shown[::10])


def test_test_scenes(app, monkeypatch):
    monkeypatch.setattr("air.gui.pictures.held_out_scenes", lambda *arguments: Path("missing").read_bytes())
    key(app, "T")
    assert app.session.message.text.startswith("no test scene: ")
    assert app.session.message.is_error
    monkeypatch.setattr("air.gui.pictures.held_out_scenes", lambda *arguments: np.full((1, 20, 24), 77, np.uint8))
    click(app, "test scene")
    assert (app.session.image == 77).all()


def test_dreams(app):
    click(app, "dream")
    dream = app.session.image
    assert dream.any()
    key(app, "D")
    assert (app.session.image != dream).any()
    key(app, "Z")
    assert (app.session.image == dream).all()


def first_card(app):
    return app.layout.cards(int(app.session.seen.scene.count))[0].center


def test_z_what_can_be_changed_with_the_mouse(app):
    seen = find_object(app)
    press(app, first_card(app))
    editor = app.session.editor
    assert editor.selected == 0
    cards, sliders = objects_area(app.layout, app.session)
    assert list(cards) == [0]
    assert sorted(editor.dimensions) == [0, 1, 2, 3]
    assert editor.dimensions == np.argsort(-app.session.engine.effects).tolist()
    assert editor.ends.shape == (4, 2, 8, 6)
    track, dimension = sliders.track(1), editor.dimensions[1]
    drag(app, track.center, track.midright)
    edited = app.session.seen
    assert edited.edited
    assert edited.scene.z_what[0, dimension] == pytest.approx(3.0, abs=0.05)
    np.testing.assert_allclose(edited.scene.decoded_windows[0], editor.ends[1, 1], atol=0.02)  # as the picture at that end
    assert (edited.scene.presence == seen.scene.presence).all()
    assert (edited.image == seen.image).all()
    key(app, "Z")  # undoes all of the drag
    assert not app.session.seen.edited
    assert (app.session.seen.image == seen.image).all()
    key(app, "Escape")
    assert editor.selected is None


def test_z_what_can_be_changed_with_keys(app):
    seen = find_object(app)
    app.perform("next object")
    editor = app.session.editor
    assert editor.selected == 0
    before = editor.dimension
    key(app, "Down")
    dimension = editor.dimension
    assert dimension != before
    key(app, "Right")
    assert app.session.seen.scene.z_what[0, dimension] == pytest.approx(seen.scene.z_what[0, dimension] + 0.25, abs=1e-5)
    key(app, "Left")
    key(app, "Up")
    assert editor.dimension == before
    post(pygame.MOUSEWHEEL, y=1, x=0)
    settle(app)
    assert app.session.seen.edited
    key(app, "R")
    assert not app.session.seen.edited
    draw(app, (2, 2), (3, 3))
    assert not app.session.seen.edited  # another picture


def on_canvas(app, x, y):
    rect, (height, width) = app.layout.reconstructed, app.session.canvas_size
    return rect.left + x * rect.width / width, rect.top + y * rect.height / height


def test_objects_can_be_moved_resized_copied_and_deleted(app):
    seen = find_object(app)
    count, editor = int(seen.scene.count), app.session.editor
    x, y, width, height = seen.scene.attention_boxes[0]
    middle = np.clip([x + width / 2, y + height / 2], 1, [23, 19])
    drag(app, on_canvas(app, *middle), on_canvas(app, middle[0] + 2, middle[1] + 1))
    moved = app.session.seen
    index = editor.selected
    assert moved.edited
    np.testing.assert_allclose(moved.scene.attention_boxes[index] - seen.scene.attention_boxes[index], [2, 1, 0, 0], atol=0.1)
    assert (moved.scene.reconstruction != seen.scene.reconstruction).any()
    box = moved.scene.attention_boxes[index]
    corner = min(
        ((box[:2] + np.array(c) * box[2:]).tolist() for c in ((0, 0), (1, 0), (0, 1), (1, 1))),
        key=lambda p: abs(p[0] - 12) + abs(p[1] - 10),
    )
    drag(app, on_canvas(app, *corner), on_canvas(app, *(np.array(corner) + (box[:2] + box[2:] / 2 - corner) / 2)))
    resized = app.session.seen.scene.attention_boxes[index]
    np.testing.assert_allclose(resized[2:] / box[2:], 0.75, atol=0.05)
    key(app, "Ctrl+C")
    assert app.session.seen.scene.count == count + 1
    assert editor.selected == count
    click_in(app, "delete object")
    assert app.session.seen.scene.count == count
    post(pygame.MOUSEBUTTONDOWN, button=1, pos=on_canvas(app, *(resized[:2] + resized[2:] / 2).tolist()))
    key(app, "Ctrl+C")  # while an object is dragged
    post(pygame.MOUSEMOTION, pos=on_canvas(app, 9, 9), rel=(0, 0), buttons=(1, 0, 0))
    post(pygame.MOUSEBUTTONUP, button=1, pos=on_canvas(app, 9, 9))
    settle(app)
    assert app.session.seen.scene.count == count + 1
    for _ in range(5):
        key(app, "Z")
    assert not app.session.seen.edited
    assert app.session.seen.scene.count == count
    app.session.select(None)
    key(app, "Delete")
    assert app.session.drawing.is_empty  # without an object, it is the drawing that is deleted


def click_in(app, name):
    press(app, app.layout.object_tools[name].center)


def test_dreams_keep_the_objects_that_were_changed(app):
    find_object(app)
    app.perform("next object")
    key(app, "Right")
    kept = app.session.last_seen.objects[0]
    key(app, "D")
    assert app.session.title == "A dream"
    ink = kept > 0.02
    assert ink.any()
    assert (app.session.image[ink] >= 255 * kept[ink] - 1).all()


def test_attention_can_be_played_and_scrubbed(app):
    find_object(app)
    key(app, "Space")
    playback = app.session.playback
    assert playback.is_playing
    settle(app, STEP_SECONDS / 6)
    assert playback.position == pytest.approx(0.5, abs=0.3)
    assert not app.session.view.same_as(playback.view) or len(app.session.view.boxes) == 1
    key(app, "Left")
    assert not playback.is_playing
    bar = step_bar(app.layout, app.session)
    press(app, bar.segments[-1].midright)
    assert playback.position > playback.steps - 0.2
    assert app.session.due() > app.clock.now  # nothing moves while it is paused
    press(app, bar.button.center)
    assert playback.is_playing
    settle(app, 99.0)
    assert playback.is_at_end
    key(app, "Escape")
    assert app.session.playback is None
    key(app, "Right")
    assert app.session.playback.position == 0
    press(app, first_card(app))
    assert app.session.playback is None
    assert app.session.editor.selected == 0
    app.session.select(None)
    press(app, app.layout.bar.center)
    assert app.session.playback.is_playing
    draw(app, (2, 2), (3, 3))
    assert app.session.playback is None


def test_help_can_be_shown_and_hidden(app):
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


def test_every_action_has_its_own_keys():
    keys = [key for action in ACTIONS for key in action.keys]
    assert len(keys) == len(set(keys)) == len(BY_KEY)


def test_every_key_and_every_button_in_every_state(app, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("air.gui.pictures.held_out_scenes", lambda *arguments: np.zeros((3, 20, 24), np.uint8))
    for prepare in (lambda: None, lambda: find_object(app), lambda: key(app, ".")):
        prepare()
        for name in app.layout.tools:
            click(app, name)
        for text in BY_KEY:
            if BY_KEY[text] not in ("quit", "reload", "fullscreen"):
                key(app, text)
    for code in (pygame.K_q, pygame.K_9, pygame.K_LSHIFT, pygame.K_F5, 0):  # without an action
        post(pygame.KEYDOWN, key=code, mod=0, unicode="", scancode=0)
    settle(app)
    assert app.running
    assert app.session.lost is None


@pytest.mark.parametrize("size", [(1, 1), (120, 90), (200, 160), (320, 900), (640, 480), (1920, 1080), (3000, 200)])
def test_resizing(app, size):
    seen = find_object(app)
    app.window.size = size
    settle(app)
    assert app.surface.get_size() == size
    assert app.session.seen is seen
    for selected in (0, None):
        app.session.editor.select(selected)
        key(app, "?")
        key(app, "?")
    if app.layout is not None:
        draw(app, (2, 18), (22, 18))
        assert app.session.image[18, 12] > 200


def test_the_pen_is_up_when_the_button_was_released_elsewhere(app):
    rect = app.layout.drawn
    post(pygame.MOUSEBUTTONDOWN, button=1, pos=rect.center)
    post(pygame.MOUSEMOTION, pos=rect.topleft, rel=(0, 0), buttons=(0, 0, 0))
    app.pump()
    before = app.session.drawing.version
    post(pygame.MOUSEMOTION, pos=rect.bottomright, rel=(0, 0), buttons=(1, 0, 0))
    app.pump()
    assert app.session.drawing.version == before


@pytest.mark.parametrize("event", [{"kind": pygame.QUIT}, {"kind": pygame.KEYDOWN, **key_event("Ctrl+Q")}])
def test_quitting(app, event):
    post(**event)
    app.pump()
    assert not app.running
