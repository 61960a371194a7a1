"""A window with SDL's dummy driver and a small model, as the tests of the demo share it."""

import numpy as np
import pytest
from events import SECONDS, settle

from air.evaluation import recognition
from air.gui.app import App
from air.gui.engine import config_of
from air.gui.layout import DESIGN_SIZE
from air.gui.pictures import TestScenes
from air.gui.script import Clock
from air.training import checkpoints


@pytest.fixture(scope="session", autouse=True)
def dummy_driver():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SDL_VIDEODRIVER", "dummy")
        yield


@pytest.fixture(scope="session")
def folder(tmp_path_factory, tiny_model):
    """A folder with a model and its bank, as model/ is."""
    path = tmp_path_factory.mktemp("model")
    checkpoints.save_weights(tiny_model, path / "air.keras")
    rng = np.random.default_rng(0)
    z_what = rng.normal(0, [0.1, 1.0, 0.2, 0.3], (40, 4)).astype(np.float32)
    recognition.Bank(z_what, np.arange(40) % 10, recognition.fingerprint(tiny_model)).save(path / "reference_set.npz")
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
    """A window with a loaded model, as it is at the start."""
    session = shared_app.session
    shared_app.window.size = DESIGN_SIZE
    session.drawing = type(session.drawing)(session.config.canvas_size)
    session.drawing.version = session._asked_version + 1000  # versions are not used twice
    session.palette, session.period, session.sampling, session.width, session.erasing = "rgb", 10, False, 2, False
    session.windows_visible, session.help_visible, session.message = True, False, None
    session._test_scenes = TestScenes(session.model, session.config.canvas_size, session.config.max_steps, session.notify)
    session.editor.select(None)
    session.editor.forget()
    settle(shared_app)
    return shared_app


@pytest.fixture
def open_app(folder):
    """Opens windows that are closed after the test."""
    apps = []

    def open_it(path=folder, **options):
        app = App(path, config_of(folder), size=DESIGN_SIZE, clock=Clock(), **options)
        apps.append(app)
        return app

    yield open_it
    for app in apps:
        app.close(SECONDS)
