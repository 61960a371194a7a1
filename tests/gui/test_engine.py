"""The model's thread: loading, answers, failures, and what the window shows of them."""

import json
import threading
import time

import numpy as np
import pygame
import pytest
from events import SECONDS, draw, key, post, settle, shows

from air.errors import AIRError, DataError
from air.evaluation import recognition
from air.gui import theme
from air.gui.app import App
from air.gui.engine import Engine, config_of
from air.gui.programs import Programs


def test_drawing_works_while_the_model_loads(open_app):
    app = open_app(start=False)
    app.frame()
    app.session.engine.start()
    post(pygame.MOUSEBUTTONDOWN, button=1, pos=app.layout.drawn.center)
    post(pygame.MOUSEMOTION, pos=app.layout.drawn.topleft, rel=(0, 0), buttons=(1, 0, 0))
    app.pump()
    app.frame()
    assert not app.session.drawing.is_empty
    assert app.session.seen is None
    app.perform("dream")
    assert app.session.engine.is_ready or "as soon as" in app.session.message.text
    assert app.session.engine.wait_until_settled(SECONDS)
    settle(app)
    assert app.session.seen.version == app.session.drawing.version


def test_quitting_while_loading(open_app):
    app = open_app(start=False)
    post(pygame.QUIT)
    start = time.monotonic()
    app.clock = time.monotonic
    app.run()
    assert time.monotonic() - start < 5.0


def test_a_broken_model_is_reported_in_the_window(open_app, tmp_path):
    (tmp_path / "air.keras").write_bytes(b"junk")
    app = open_app(start=False)
    app.session.engine.path = tmp_path
    app.session.engine.start()
    assert not app.session.engine.wait_until_settled(SECONDS)
    app.frame()
    assert str(tmp_path) in app.session.lost
    assert shows(app, theme.ERROR, app.layout.reconstructed)
    app.session.engine.start = lambda: None
    with pytest.raises(AIRError, match=r"air\.keras"):
        app.count()


def test_a_model_that_fails_is_reported_and_can_be_reloaded(open_app, monkeypatch):
    app = open_app()
    failed = app.session.engine.programs
    monkeypatch.setattr(failed, "infer", lambda *arguments, **options: 1 / 0)
    draw(app, (3, 3), (9, 9))
    assert "ZeroDivisionError" in app.session.lost
    assert shows(app, theme.ERROR, app.layout.reconstructed)
    app.clock.now += 50.0
    key(app, "L")
    assert app.session.loading_since == pytest.approx(app.clock(), abs=2.0)
    assert app.session.engine.wait_until_settled(SECONDS)
    settle(app)
    assert app.session.lost is None
    assert app.session.engine.programs is not failed
    assert app.session.seen.version == app.session.drawing.version


def test_a_model_that_does_not_answer_is_reported(open_app, monkeypatch):
    app = open_app()
    hang, infer = threading.Event(), app.session.engine.programs.infer
    slow = lambda *asked, **options: (hang.wait(SECONDS), infer(*asked, **options))[1]  # noqa: E731
    monkeypatch.setattr(app.session.engine.programs, "infer", slow)
    monkeypatch.setattr("air.gui.session.STUCK_SECONDS", 0.05)
    app.session.pen_down((5, 5))
    app.frame()
    time.sleep(0.1)
    app.frame()
    assert "no answer" in app.session.lost
    hang.set()
    monkeypatch.setattr("air.gui.session.STUCK_SECONDS", SECONDS)
    settle(app)
    assert app.session.lost is None


def test_reloading_copies_weights_into_the_programs_unless_the_configuration_changed(tmp_path, make_model):
    """TensorFlow doesn't free all the memory of a program."""
    image, seen, programs = np.random.default_rng(0).integers(0, 256, (20, 24), np.uint8), [], []
    engine = Engine(tmp_path / "air.keras", lambda: None)
    for version, changes in enumerate([{"seed": 1}, {"seed": 2}, {"seed": 2, "z_what_size": 3}]):
        model = make_model(**changes)
        model.save(tmp_path / "air.keras")
        engine.reload() if version else engine.start()
        assert engine.wait_until_settled(SECONDS)
        engine.look(version, image)
        assert engine.wait(version, SECONDS)
        seen.append(engine.take_seen())
        programs.append(engine.programs)
        np.testing.assert_allclose(seen[-1].scene.z_what, model(np.float32(image[None]) / 255).z_what[0], rtol=1e-4, atol=1e-5)
    assert engine.close(SECONDS)
    assert programs[0] is programs[1]
    assert programs[1] is not programs[2]
    assert not np.allclose(seen[0].scene.z_what, seen[1].scene.z_what)


@pytest.mark.parametrize("content", ["missing", "junk", "of other weights"])
def test_without_a_reference_set_there_is_a_note(tmp_path, tiny_model, content):
    path = tmp_path / "reference_set.npz"
    if content == "junk":
        path.write_bytes(b"junk")
    elif content == "of other weights":
        recognition.ReferenceSet(np.zeros((2, 4), np.float16), np.arange(2, dtype=np.int8), 1).save(path)
    engine = Engine(tmp_path, lambda: None)
    engine._load_extras(Programs(tiny_model))
    assert engine.reference_set is None
    assert engine.recognition_note.startswith("Digits can't be recognised: ")


def test_a_reference_set_is_made_from_the_data_of_a_run(tmp_path, tiny_model, monkeypatch):
    (tmp_path / "data").mkdir()
    (tmp_path / "config.json").write_text(json.dumps({"data": str(tmp_path / "data")}))
    reference_set = recognition.ReferenceSet(np.eye(4, dtype=np.float16), np.arange(4, dtype=np.int8), 0)
    monkeypatch.setattr("air.data.scenes.SceneSet.load", lambda path: path)
    monkeypatch.setattr(recognition, "build", lambda model, scenes: reference_set)
    engine = Engine(tmp_path, lambda: None)
    engine._load_extras(Programs(tiny_model))
    assert engine.reference_set is reference_set
    assert engine.recognition_note == ""


def test_the_configuration_is_read_without_the_model(folder, tmp_path, tiny_model, tiny_config):
    assert config_of(folder) == config_of(folder / "air.keras") == tiny_config
    (tmp_path / "models").mkdir()
    with pytest.raises(DataError, match="neither"):
        config_of(tmp_path)
    with pytest.raises(DataError, match="no such"):
        config_of(tmp_path / "missing")
    tiny_model.save(tmp_path / "models" / "step_00000001.keras")
    (tmp_path / "models" / "step_00000002.keras").write_bytes(b"junk")
    assert config_of(tmp_path) == tiny_config


def test_a_missing_display_is_reported(folder, monkeypatch):
    for name in ("SDL_VIDEODRIVER", "DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("sys.platform", "linux")
    with pytest.raises(AIRError, match="no display"):
        App(folder, config_of(folder))
