"""The window with models of coloured scenes and of objects that cover each other; its own canvas stays grey."""

import numpy as np
import pytest
from events import SECONDS, Clock, key, settle

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
    yield app
    app.close(SECONDS)


def test_everything_can_be_done(app, tiny_images, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    session = app.session
    session.show(np.rint(255 * tiny_images[3]).astype(np.uint8), "blobs")
    settle(app)
    channels = session.config.channels
    assert session.seen.scene.count > 0
    assert session.seen.scene.reconstruction.shape == ((20, 24, 3) if channels == 3 else (20, 24))
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
    assert session.seen.image.shape == (20, 24)
    key(app, "Space")
    for phase in PHASES:
        assert session.playback.phase == phase
        assert session.playback.glimpse.shape == (8, 6)
        key(app, "Right")
    session.playback.seek(session.playback.steps)
    np.testing.assert_allclose(session.view.reconstruction, session.seen.scene.reconstruction, atol=1e-4)
    for save in "SG":
        key(app, save)
    assert not session.lost
    assert {path.suffix for path in tmp_path.iterdir()} == {".png", ".gif"}
