"""The model's thread: loading, answers, failures, and what the window says of them."""

import json
import threading
import time

import numpy as np
import pygame
import pytest
from events import SECONDS, draw, key, post, settle, shows

from air import recognition
from air.errors import AIRError, DataError
from air.gui import theme
from air.gui.app import App
from air.gui.engine import Engine, config_of


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
        (tmp_path / "bank.npz").write_bytes(b"junk")
    elif bank == "of other weights":
        recognition.Bank(np.zeros((2, 4), np.float32), np.arange(2), 1).save(tmp_path / "bank.npz")
    engine = Engine(tmp_path, lambda: None)
    engine.model = tiny_model
    engine._load_bank()
    assert engine.bank is None
    assert engine.bank_note.startswith("Digits are not recognised")


def test_a_bank_is_made_of_the_runs_data(tmp_path, tiny_model, monkeypatch):
    (tmp_path / "data").mkdir()
    (tmp_path / "config.json").write_text(json.dumps({"data": str(tmp_path / "data")}))
    bank = recognition.Bank(np.eye(4, dtype=np.float32), np.arange(4), 0)
    monkeypatch.setattr("air.scenes.SceneSet.load", lambda path: path)
    monkeypatch.setattr(recognition, "build", lambda model, scenes: bank)
    engine = Engine(tmp_path, lambda: None)
    engine.model = tiny_model
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
