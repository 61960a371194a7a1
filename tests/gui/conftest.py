"""A window with SDL's dummy driver and a small model, shared by the tests of the demo."""

import numpy as np
import pytest
from events import SECONDS, Clock, settle

from air.evaluation import recognition
from air.gui.app import App
from air.gui.engine import config_of
from air.gui.layout import DESIGN_SIZE
from air.gui.pen import Drawing
from air.gui.pictures import RandomScenes
from air.training import checkpoints


@pytest.fixture(scope="session", autouse=True)
def dummy_driver():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SDL_VIDEODRIVER", "dummy")
        yield


@pytest.fixture(scope="session")
def folder(tmp_path_factory, tiny_model):
    """A folder with a model and its reference set, like model/."""
    path = tmp_path_factory.mktemp("model")
    checkpoints.save_weights(tiny_model, path / "air.keras")
    z_what = np.random.default_rng(0).normal(0, [0.1, 1.0, 0.2, 0.3], (40, 4)).astype(np.float16)
    labels = (np.arange(40) % 10).astype(np.int8)
    recognition.ReferenceSet(z_what, labels, recognition.fingerprint(tiny_model)).save(path / "reference_set.npz")
    return path


@pytest.fixture(scope="session")
def shared_app(folder):
    app = App(folder, config_of(folder), size=DESIGN_SIZE, clock=Clock(), patience=SECONDS)
    app.session.engine.start()
    assert app.session.engine.wait_until_settled(SECONDS), app.session.engine.status
    yield app
    app.close(SECONDS)


@pytest.fixture
def app(shared_app):
    """A window with a loaded model, in its initial state."""
    session = shared_app.session
    shared_app.window.size, shared_app.patience, shared_app.running = DESIGN_SIZE, SECONDS, True
    session.drawing = Drawing(session.config.canvas_size)
    session.drawing.version = session._asked_version + 1000  # versions are not used twice
    session.palette, session.period, session.sampling, session.width, session.erasing = "rgb", 10, False, 2, False
    session.windows_visible, session.help_visible, session.message = True, False, None
    session.pixels_visible = session.numbers_visible = False
    session.random_scenes = {
        size: RandomScenes(session.model, session.config, size, shared_app.notify) for size in session.canvas_sizes
    }
    session.select(None)
    session.editor.reset()
    shared_app.exchange.prompt = None
    settle(shared_app)
    return shared_app


@pytest.fixture
def open_app(folder, request):
    """Open windows that are closed after the test."""

    def open_it(start=True):
        app = App(folder, config_of(folder), size=DESIGN_SIZE, clock=Clock())
        request.addfinalizer(lambda: app.close(SECONDS))
        if start:
            app.session.engine.start()
            app.session.engine.wait_until_settled(SECONDS)
            settle(app)
        return app

    return open_it
