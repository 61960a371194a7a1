"""The model's thread: loading, answers, failures, and what the window says of them."""

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


def test_drawing_works_before_the_model_is_there(open_app):
    app = open_app()
    app.frame()
    app.session.engine.start()
    draw_without_model = app.session.drawing
    rect = app.layout.drawn
    post(pygame.MOUSEBUTTONDOWN, button=1, pos=rect.center)
    post(pygame.MOUSEMOTION, pos=rect.topleft, rel=(0, 0), buttons=(1, 0, 0))
    app.pump()
    app.frame()
    assert not draw_without_model.is_empty
    assert app.session.seen is None
    app.perform("dream")
    assert app.session.engine.is_ready or "as soon as" in app.session.message.text
    assert app.session.engine.wait_until_settled(SECONDS)
    settle(app)
    assert app.session.seen.version == app.session.drawing.version


def test_quitting_while_loading(open_app):
    app = open_app()
    app.frame()
    post(pygame.QUIT)
    start = time.monotonic()
    app.clock = time.monotonic
    app.run()
    assert time.monotonic() - start < 5.0


def test_a_broken_model_is_said_in_the_window(open_app, tmp_path):
    (tmp_path / "air.keras").write_bytes(b"junk")
    app = open_app(tmp_path)
    app.session.engine.start()
    app.session.engine.wait_until_settled(SECONDS)
    app.frame()
    assert "damaged" in app.session.lost
    assert shows(app, theme.ERROR, app.layout.painted)
    draw(app, (3, 3), (9, 9))
    assert not app.session.drawing.is_empty


def test_a_model_that_fails_is_said_and_can_be_loaded_again(open_app, monkeypatch):
    app = open_app()
    engine = app.session.engine
    engine.start()
    assert engine.wait_until_settled(SECONDS)
    settle(app)

    def fail(request):
        raise RuntimeError("out of memory")

    monkeypatch.setattr(engine, "_answer", fail)
    draw(app, (3, 3), (9, 9))
    assert "out of memory" in app.session.lost
    assert shows(app, theme.ERROR, app.layout.painted)
    key(app, "L")
    assert app.session.engine.wait_until_settled(SECONDS)
    settle(app)
    assert app.session.lost is None
    assert app.session.seen.version == app.session.drawing.version


def test_a_model_is_not_loaded_twice_at_once(open_app):
    app = open_app()
    engine = app.session.engine
    engine.start()
    while not engine.is_ready:
        key(app, "L")
        assert app.session.engine is engine or engine.is_ready
    assert app.session.engine.wait_until_settled(SECONDS)


def test_the_seconds_of_loading_begin_with_it(open_app):
    app = open_app()
    assert app.session.loading_since == app.clock()
    app.session.engine.start()
    assert app.session.engine.wait_until_settled(SECONDS)
    app.clock.now += 50.0
    key(app, "L")
    assert app.session.loading_since == pytest.approx(app.clock(), abs=2.0)


def test_a_model_that_does_not_answer_is_said(open_app, monkeypatch):
    app = open_app()
    engine = app.session.engine
    engine.start()
    assert engine.wait_until_settled(SECONDS)
    settle(app)
    hang, answer = threading.Event(), engine._answer
    monkeypatch.setattr(engine, "_answer", lambda request: (hang.wait(SECONDS), answer(request))[1])
    monkeypatch.setattr("air.gui.session.STUCK", 0.05)
    app.patience = 0.01
    app.session.pen_down((5, 5))
    app.frame()
    time.sleep(0.1)
    app.frame()
    assert "has not answered" in app.session.lost
    hang.set()
    settle(app)
    assert app.session.lost is None


@pytest.mark.parametrize("bank", ["missing", "junk", "of other weights"])
def test_without_a_bank_there_is_a_note(tmp_path, tiny_model, bank):
    if bank == "junk":
        (tmp_path / "reference_set.npz").write_bytes(b"junk")
    elif bank == "of other weights":
        recognition.Bank(np.zeros((2, 4), np.float32), np.arange(2), 1).save(tmp_path / "reference_set.npz")
    engine = Engine(tmp_path, lambda: None)
    engine.programs = Programs(tiny_model)
    engine._load_bank()
    assert engine.bank is None
    assert engine.bank_note.startswith("Digits are not recognised")


def test_a_bank_is_made_of_the_runs_data(tmp_path, tiny_model, monkeypatch):
    (tmp_path / "data").mkdir()
    (tmp_path / "config.json").write_text(json.dumps({"data": str(tmp_path / "data")}))
    bank = recognition.Bank(np.eye(4, dtype=np.float32), np.arange(4), 0)
    monkeypatch.setattr("air.data.scenes.SceneSet.load", lambda path: path)
    monkeypatch.setattr(recognition, "build", lambda model, scenes: bank)
    engine = Engine(tmp_path, lambda: None)
    engine.programs = Programs(tiny_model)
    engine._load_bank()
    assert engine.bank is bank
    assert engine.bank_note == ""


def test_the_configuration_is_read_without_the_model(folder, tmp_path, tiny_model, tiny_config):
    assert config_of(folder) == config_of(folder / "air.keras") == tiny_config
    models = tmp_path / "models"
    models.mkdir()
    with pytest.raises(DataError, match="neither"):
        config_of(tmp_path)
    with pytest.raises(DataError, match="no such"):
        config_of(tmp_path / "missing")
    tiny_model.save(models / "step_00000001.keras")
    (models / "step_00000002.keras").write_bytes(b"junk")
    assert config_of(tmp_path) == tiny_config


def test_no_display_is_said(folder, monkeypatch):
    for name in ("SDL_VIDEODRIVER", "DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("sys.platform", "linux")
    with pytest.raises(AIRError, match="no display"):
        App(folder, config_of(folder))


@pytest.fixture
def reload():
    """Loads a model after another engine's: reload(path, predecessor=None)."""
    engines = []

    def reload_it(path, predecessor=None):
        if predecessor is not None:
            predecessor.close()
        engines.append(Engine(path, lambda: None, predecessor))
        engines[-1].start()
        assert engines[-1].wait_until_settled(SECONDS)
        return engines[-1]

    yield reload_it
    for engine in engines:
        engine.close()
        assert engine.join(SECONDS)


def test_weights_loaded_again_run_in_the_programs_that_are_there(tmp_path, make_model, reload):
    image = np.random.default_rng(0).integers(0, 256, (20, 24), np.uint8)
    engine, seen = None, []
    for seed in (1, 2):
        model = make_model(seed)
        model.save(tmp_path / "air.keras")
        predecessor, engine = engine, reload(tmp_path / "air.keras", engine)
        engine.look(seed, image)
        assert engine.wait(seed, SECONDS)
        seen.append(engine.take_seen())
        np.testing.assert_allclose(seen[-1].scene.z_what, model(np.float32(image[None]) / 255).z_what[0], rtol=1e-4, atol=1e-5)
    assert engine.programs is predecessor.programs
    assert not np.allclose(seen[0].scene.z_what, seen[1].scene.z_what)


def test_a_model_of_another_configuration_has_programs_of_its_own(tmp_path, folder, make_model, reload):
    make_model(z_what_size=3).save(tmp_path / "air.keras")
    first = reload(folder)
    second = reload(tmp_path / "air.keras", first)
    assert second.programs is not first.programs
    assert second.programs.model.config.z_what_size == 3


def test_programs_that_failed_are_not_used_again(folder, reload, monkeypatch):
    first = reload(folder)
    failed = first.programs
    monkeypatch.setattr(failed, "means", lambda image: 1 / 0)
    first.look(1, np.zeros((20, 24), np.uint8))
    first.wait(1, SECONDS)
    assert "ZeroDivisionError" in first.status.text
    assert reload(folder, first).programs is not failed


def test_programs_in_use_are_not_waited_for_long(folder, reload, monkeypatch):
    first = reload(folder)
    hang, means = threading.Event(), first.programs.means
    monkeypatch.setattr(first.programs, "means", lambda image: (hang.wait(SECONDS), means(image))[1])
    monkeypatch.setattr("air.gui.engine.INHERITANCE", 0.05)
    first.look(1, np.zeros((20, 24), np.uint8))
    second = reload(folder, first)
    assert second.programs is not first.programs
    hang.set()
