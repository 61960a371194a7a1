"""The window with a model that takes any canvas: objects of any size, and more of them than cards."""

import numpy as np
import pygame
import pytest
from events import SECONDS, Clock, draw, key, post, press, settle, shows

from air.gui import theme
from air.gui.app import App
from air.gui.engine import config_of
from air.gui.layout import DESIGN_SIZE
from air.gui.panels import objects_area
from air.training import checkpoints


@pytest.fixture(scope="module")
def model(make_model):
    """Attends to an object at each step, however poor."""
    model = make_model(controller="convolutional", z_pres_prior_odds=1e30)
    model.controller.presence.bias.assign([6.0])
    return model


@pytest.fixture(scope="module")
def app(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("any_size")
    checkpoints.save_weights(model, path / "air.keras")
    app = App(path, config_of(path), size=DESIGN_SIZE, clock=Clock(), patience=SECONDS)
    app.session.engine.start()
    assert app.session.engine.wait_until_settled(SECONDS), app.session.engine.status
    settle(app)
    yield app
    app.close(SECONDS)


def expected(app, model, any_size):
    return model.infer(app.session.drawing.image[None], max_steps=12, any_size=any_size)


def test_a_stroke_is_looked_at_quickly_and_a_drawing_for_objects_of_any_size(app, model):
    post(pygame.MOUSEBUTTONDOWN, button=1, pos=app.layout.drawn.center)
    for corner in (app.layout.drawn.topleft, app.layout.drawn.bottomright):
        post(pygame.MOUSEMOTION, pos=corner, rel=(0, 0), buttons=(1, 0, 0))
    settle(app)
    np.testing.assert_allclose(app.session.seen.scene.z_what, expected(app, model, any_size=False).z_what[0], atol=1e-4)
    post(pygame.MOUSEBUTTONUP, button=1, pos=app.layout.drawn.center)
    settle(app)
    found = expected(app, model, any_size=True)
    assert app.session.seen.version == app.session.drawing.version
    assert app.session.seen.scene.count == found.count[0]
    np.testing.assert_allclose(app.session.seen.scene.z_what, found.z_what[0], atol=1e-4)


def test_objects_beyond_the_cards_are_counted_outlined_and_rendered(app):
    app.session.drawing.clear()
    draw(app, (4, 4), (12, 12), (20, 6))
    seen = app.session.seen
    count = int(seen.scene.count)
    assert count == len(app.layout.cards(count)) > len(app.layout.cards(0))
    assert shows(app, theme.step_colour("rgb", count - 1), app.layout.drawn)
    np.testing.assert_allclose(seen.scene.reconstruction, seen.objects.sum(axis=0).clip(0, 1), atol=1e-5)
    assert seen.objects[:count].any(axis=(1, 2)).all()


def test_z_what_of_an_object_beyond_the_cards_can_be_changed(app):
    before = app.session.seen
    last = int(before.scene.count) - 1
    for _ in range(last + 1):
        key(app, ".")
    assert app.session.editor.selected == last
    assert list(objects_area(app.layout, app.session)[0]) == [last]
    key(app, "Right")
    edited = app.session.seen
    assert edited.edited
    assert edited.scene.count == before.scene.count
    assert (edited.objects[last] != before.objects[last]).any()
    np.testing.assert_allclose(edited.objects[:last], before.objects[:last], atol=1e-6)
    key(app, "Escape")


def test_samples_and_dreams(app):
    key(app, "N")
    assert app.session.seen.sampled
    assert len(app.session.seen.scene.scale) == 12
    key(app, "M")
    key(app, "D")
    assert app.session.image.any()
    press(app, app.layout.drawn.center, button=3)
    assert app.session.drawing.is_empty
