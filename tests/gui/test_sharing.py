"""Pictures and GIFs of the canvases; pictures from files, dialogs and the clipboard."""

import sys
import threading
import time

import numpy as np
import pytest
from PIL import Image, ImageGrab

from air.errors import DataError
from air.gui import sharing, sources, theme
from air.gui.playback import View
from air.gui.sharing import INTERVAL, PAUSE, SECONDS, Recorder
from air.support.drawing import BACKGROUND

RED, GREEN, *_ = COLOURS = theme.PALETTES["rgb"]


def view(value=0.5, boxes=()):
    return View(np.full((20, 24), 255, np.uint8), np.full((20, 24), value, np.float32), boxes)


def test_a_picture_has_both_canvases_and_the_windows(tmp_path):
    sharing.save_picture(tmp_path / "a.png", view(0.5, ((2, 3, 8, 6), (12, 3, 8, 6))), COLOURS)
    with Image.open(tmp_path / "a.png") as picture:
        pixels = np.asarray(picture)
    zoom = sharing.PICTURE_SIDE // 24
    assert pixels.shape == (20 * zoom + 4 * zoom, 2 * 24 * zoom + 6 * zoom, 3)
    for colour in (RED, GREEN, (255, 255, 255), (128, 128, 128)):
        assert (pixels == colour).all(axis=2).any()
    assert sharing.draw(View(np.zeros((20, 24)), None), COLOURS).width < pixels.shape[1]


def test_a_recording_plays_what_was_shown(tmp_path):
    recorder, path = Recorder(), tmp_path / "a.gif"
    shown = [view(value) for value in np.linspace(0, 1, 12)]
    for i, each in enumerate(shown):
        for late in (0, 0.01):  # the same view again
            recorder.add(0.2 * i + late, each)
    recorder.add(1000.0, view(0.3))
    sharing.save_recording(path, recorder.views, COLOURS)
    with Image.open(path) as gif:
        durations = []
        for frame in range(gif.n_frames):
            gif.seek(frame)
            durations.append(gif.info["duration"])
        assert gif.info["loop"] == 0
        assert np.abs(np.asarray(gif.convert("L"))[40, -40] - 255 * 0.3) < 4
    assert durations == [200] * 11 + [1000 * PAUSE] * 2


def test_a_recording_has_a_limit_and_keeps_the_newest(tmp_path):
    recorder = Recorder()
    for i in range(1000):
        recorder.add(i * INTERVAL / 4, view(i / 1000))
    sharing.save_recording(tmp_path / "a.gif", recorder.views, COLOURS)
    with Image.open(tmp_path / "a.gif") as gif:
        assert gif.n_frames <= SECONDS / INTERVAL + 1
        last = gif.n_frames - 1
        gif.seek(last)
        assert abs(int(np.asarray(gif.convert("L"))[40, -40]) - 254) <= 3
    with pytest.raises(OSError, match="missing"):
        sharing.save_recording(tmp_path / "missing" / "a.gif", recorder.views, COLOURS)


def test_canvases_of_several_sizes_are_recorded_whole(tmp_path):
    small, large = (View(np.zeros((size, size)), np.ones((size, size))) for size in (20, 30))
    views = [(small._replace(reconstruction=None), 100), (small, 100), (large, 100)]
    sharing.save_recording(tmp_path / "a.gif", views, COLOURS)
    drawn = [sharing.draw(view, COLOURS, sharing.RECORDING_SIDE) for view, _ in views]
    with Image.open(tmp_path / "a.gif") as gif:
        assert gif.n_frames == 3
        for frame, picture in enumerate(drawn):
            gif.seek(frame)
            assert gif.size == tuple(np.max([picture.size for picture in drawn], axis=0))
            shown = np.asarray(gif.convert("RGB")).astype(int)
            height, width = picture.height, picture.width
            assert np.abs(shown[:height, :width] - np.asarray(picture)).max() <= 4
            assert (shown[height:] == BACKGROUND).all()
            assert (shown[:, width:] == BACKGROUND).all()


def test_a_file_dialog(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "platform", "linux")
    assert sources.find_dialog() is None
    for name, line in (("kdialog", "exit 1"), ("zenity", "echo '/a b/ü.png'")):
        (tmp_path / name).write_text(f"#!/bin/sh\n{line}\n")
        (tmp_path / name).chmod(0o755)
        command = sources.find_dialog()
        assert command[0] == name
        assert str(sources.Dialog().ask(command)) == ("/a b/ü.png" if name == "zenity" else "None")


def test_a_file_dialog_is_closed_with_the_window():
    dialog, answers = sources.Dialog(), []
    dialog.close()
    thread = threading.Thread(target=lambda: answers.append(dialog.ask(["sleep", "60"])))
    thread.start()
    while dialog._process is None:
        time.sleep(0.01)
    dialog.close()
    thread.join(10)
    assert answers == [None]


def test_paths_are_completed(tmp_path):
    (tmp_path / "photos").mkdir()
    for name in ("photo_1.png", "photo_2.png", ".hidden", "photos/a.png"):
        (tmp_path / name).touch()
    for typed, completed in (
        ("ph", "photo"),
        ("photo_", "photo_"),
        ("photos", "photos/"),
        ("photos/", "photos/a.png"),
        ("x", "x"),
        (".h", ".hidden"),
        ("no/x", "no/x"),
    ):
        assert sources.complete(f"{tmp_path}/{typed}") == f"{tmp_path}/{completed}"


def test_paths_in_a_text(tmp_path):
    file = tmp_path / "a ü.png"
    file.touch()
    for text in (str(file), f'"{file}"\n', file.as_uri(), f"{file.as_uri()}\r\nfile:///other"):
        assert sources.path_of(text) == file
    for text in ("", "hello", str(tmp_path), "a\0b", "x" * 5000, "file:///missing", "file://"):
        assert sources.path_of(text) is None


def test_the_clipboard(tmp_path, monkeypatch):
    image = np.random.default_rng(0).integers(0, 256, (5, 6), np.uint8)
    Image.fromarray(image).save(tmp_path / "a.png")

    def read(path):
        try:
            return np.asarray(Image.open(path))
        except OSError:
            raise DataError(f"{path}: not a picture") from None

    assert (sources.pasted(str(tmp_path / "a.png"), read) == image).all()
    for found in (Image.fromarray(image), [str(tmp_path / "a.png")]):
        monkeypatch.setattr(ImageGrab, "grabclipboard", lambda found=found: found)
        assert (sources.pasted("some text", read) == image).all()
    for error in (None, OSError("no such target"), NotImplementedError()):

        def grab(error=error):
            if error:
                raise error

        monkeypatch.setattr(ImageGrab, "grabclipboard", grab)
        with pytest.raises(DataError, match="xclip" if isinstance(error, NotImplementedError) else "has no picture"):
            sources.pasted("", read)
