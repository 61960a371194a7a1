"""The window with models of coloured scenes and of objects that cover each other."""

import numpy as np
import pygame
import pytest
from events import SECONDS, Clock, draw, key, post, settle
from PIL import Image

from air.gui.app import App
from air.gui.engine import config_of
from air.gui.layout import DESIGN_SIZE
from air.gui.playback import PHASES
from air.training import checkpoints

PAINTED = {"background": "learned", "background_size": 3, "background_units": 6, "likelihood": "normal"}
OPTIONS = {
    "coloured": {"channels": 3},
    "covering": {"composition": "over", **PAINTED},
    "both": {"channels": 3, "composition": "over", **PAINTED},
}


@pytest.fixture(scope="module", params=OPTIONS)
def app(request, make_model, tmp_path_factory):
    model = make_model(controller="convolutional", looks=1, **OPTIONS[request.param])
    model.controller.presence.bias.assign([6.0])  # an object at every step
    folder = tmp_path_factory.mktemp("painted")
    checkpoints.save_weights(model, folder / "air.keras")
    app = App(folder, config_of(folder), size=DESIGN_SIZE, clock=Clock(), patience=SECONDS)
    app.session.engine.start()
    assert app.session.engine.wait_until_settled(SECONDS), app.session.engine.status
    app.name = request.param
    yield app
    app.close(SECONDS)


def test_everything_can_be_done(app, tiny_images, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    session = app.session
    channels = session.config.channels
    shape = (20, 24, 3) if channels == 3 else (20, 24)
    picture = np.rint(255 * tiny_images[3]).astype(np.uint8)
    session.show(picture if channels == 1 else np.dstack([picture, 255 - picture, picture // 2]), "blobs")
    settle(app)
    assert session.seen.scene.count > 0
    assert session.seen.image.shape == session.seen.scene.reconstruction.shape == shape
    assert session.seen.unexplained.shape == (20, 24)
    scene, objects = session.seen.scene, session.seen.objects
    composed = np.clip(scene.background + objects[: scene.count].sum(axis=0), 0, 1)
    np.testing.assert_allclose(composed, scene.reconstruction, atol=1e-4)
    key(app, ".")
    assert session.editor.ends.shape[2:] == ((8, 6, 3) if channels == 3 else (8, 6))
    key(app, "Right")
    assert session.seen.edited
    key(app, "D")  # a dream that keeps the changed object
    assert not session.lost
    assert session.seen.image.shape == shape
    key(app, "Space")
    for phase in PHASES:
        assert session.playback.phase == phase
        assert session.playback.glimpse.shape == ((8, 6, 3) if channels == 3 else (8, 6))
        key(app, "Right")
    session.playback.seek(session.playback.steps)
    np.testing.assert_allclose(session.view.reconstruction, session.seen.scene.reconstruction, atol=1e-4)
    for save in "SG":
        key(app, save)
    assert not session.lost
    assert {path.suffix for path in tmp_path.iterdir()} == {".png", ".gif"}


def test_pictures_keep_their_colours(app, tmp_path):
    session, colour = app.session, (250, 120, 60)
    Image.new("RGB", (48, 40), colour).save(tmp_path / "a.png")
    post(pygame.DROPFILE, file=str(tmp_path / "a.png"))
    settle(app)
    grey = 0.299 * 250 + 0.587 * 120 + 0.114 * 60
    expected = {"coloured": colour, "covering": (grey,) * 3, "both": colour}[app.name]
    np.testing.assert_allclose(session.image.reshape(20, 24, -1)[3, 5] * np.ones(3), expected, atol=1)
    draw(app, (2, 10), (20, 10))
    drawn = session.image.reshape(20, 24, -1)
    assert (drawn[10, 10] == 255).all()
    np.testing.assert_allclose(drawn[3, 5] * np.ones(3), expected, atol=1)
    key(app, "Ctrl+3")
    assert session.image.shape[:2] == (40, 48)
    np.testing.assert_array_equal(session.image[10:30, 12:36].reshape(drawn.shape), drawn)
    key(app, "Z")
    key(app, "Ctrl+1")
    key(app, "T")  # a grey scene of digits, as this model has no scenes of its own
    assert session.image.shape == session.drawing.image.shape
    assert not session.lost


def test_a_picture_may_have_a_canvas_of_its_own(app, monkeypatch):
    session = app.session
    colours = (3,) if session.config.channels == 3 else ()
    picture = np.random.default_rng(0).integers(0, 256, (26, 41, *colours), np.uint8)
    monkeypatch.setattr("air.gui.pictures.open_picture", lambda *_: picture)
    before = session.image
    post(pygame.DROPFILE, file="a.png")
    settle(app)
    assert session.canvas_size == (26, 41)
    assert session.seen.version == session.drawing.version
    assert session.seen.scene.reconstruction.shape == picture.shape
    assert session.seen.scene.count > session.config.max_steps  # as many more as the canvas is larger
    draw(app, (2, 10), (30, 10))
    assert (session.image.reshape(26, 41, -1)[10, 10] == 255).all()
    key(app, "Z")
    np.testing.assert_array_equal(session.image, picture)
    key(app, "Z")
    np.testing.assert_array_equal(session.image, before)
    key(app, "Y")
    key(app, "T")
    assert session.canvas_size == (20, 24)
    assert session.title == "A test scene"
    key(app, "Z")
    np.testing.assert_array_equal(session.image, picture)
    assert session.title == "a.png"
    assert session.seen.image.shape == picture.shape
    post(pygame.DROPFILE, file="a.png")
    settle(app)
    key(app, "Ctrl+1")
    assert session.canvas_size == (20, 24)
    assert not session.lost
