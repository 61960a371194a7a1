"""Pictures in and out of the window: saved, opened by their path, pasted and dropped."""

import gc
import weakref
from pathlib import Path

import numpy as np
import pygame
import pytest
from events import click, find_object, key, post, settle
from PIL import Image

from air.errors import DataError


def test_pictures_and_recordings_are_saved(app, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    find_object(app)
    for name, suffix in (("Ctrl+S", ".png"), ("G", ".gif")):
        key(app, name)
        (saved,) = tmp_path.glob(f"*{suffix}")
        assert str(saved) in app.session.message.text
        with Image.open(saved) as file:
            assert file.width > 2 * file.height > 100
    monkeypatch.setattr("air.gui.exchange._new_path", lambda suffix: tmp_path / "missing" / "a.png")
    key(app, "S")
    assert "can't be written" in app.session.message.text


@pytest.fixture
def plain_files(monkeypatch):
    """Let every picture file be shown as it is."""

    def read(path, *_):
        if not Path(path).exists():
            raise DataError(f"{path}: no such file or folder")
        return np.asarray(Image.open(path))

    monkeypatch.setattr("air.gui.pictures.open_picture", read)


@pytest.mark.usefixtures("plain_files")
def test_pictures_are_opened_by_their_path_without_a_file_dialog(app, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("air.gui.sources.find_dialog", lambda: None)
    Image.fromarray(np.full((20, 24), 99, np.uint8)).save(tmp_path / "a.png")
    key(app, "Ctrl+O")
    assert app.exchange.prompt.text == f"{tmp_path}/"
    for text in ("x", "Backspace", "Tab"):
        key(app, text)
    assert app.exchange.prompt.text == f"{tmp_path}/a.png"
    key(app, "Return")
    assert app.exchange.prompt is None
    assert app.session.title == "a.png"
    key(app, "O")
    key(app, "Escape")
    assert app.exchange.prompt is None
    monkeypatch.setattr("air.gui.sources.find_dialog", lambda: ["dialog"])
    monkeypatch.setattr("air.gui.sources.Dialog.ask", lambda dialog, command: tmp_path / "missing.png")
    click(app, "open")
    assert "missing.png" in app.session.message.text


def test_a_picture_that_fails_leaves_nothing_behind(app, monkeypatch):
    """Its arrays take 40 MB; in a circle of references, they would wait for the garbage collector."""
    kept = []

    def read(*_):
        pixels = np.zeros(9)
        kept.append(weakref.ref(pixels))
        raise DataError("no ink can be told from the paper")

    monkeypatch.setattr("air.gui.pictures.open_picture", read)
    gc.disable()
    try:
        post(pygame.DROPFILE, file="a.png")
        settle(app)
        assert "no ink" in app.session.message.text
        assert kept[0]() is None
    finally:
        gc.enable()


@pytest.mark.usefixtures("plain_files")
def test_pictures_are_pasted(app, tmp_path, monkeypatch):
    Image.fromarray(np.full((20, 24), 99, np.uint8)).save(tmp_path / "a.png")
    monkeypatch.setattr("pygame.scrap.get_text", lambda: (tmp_path / "a.png").as_uri())
    click(app, "paste")
    assert app.session.title == "From the clipboard"
    monkeypatch.setattr("pygame.scrap.get_text", lambda: "")
    monkeypatch.setattr("PIL.ImageGrab.grabclipboard", lambda: None)
    key(app, "Ctrl+V")
    assert app.session.message.text == "The clipboard has no picture"


@pytest.mark.usefixtures("plain_files")
def test_dropped_files(app, tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (20, 24), np.uint8)
    Image.fromarray(image).save(tmp_path / "a.png")
    post(pygame.DROPFILE, file=str(tmp_path / "a.png"))
    settle(app)
    assert (app.session.seen.image == image).all()
    app.clock.now += 600.0  # a message stays for some seconds, however long nothing happened before it
    post(pygame.DROPFILE, file=str(tmp_path / "missing.png"))
    settle(app)
    assert "missing.png" in app.session.message.text
    assert (app.session.image == image).all()
    app.clock.now += 4.0
    app.frame()
    assert app.session.message is None
