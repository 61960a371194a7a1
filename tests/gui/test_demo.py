"""The command line of demo.py."""

import dataclasses
import sys

import numpy as np
import pytest
from PIL import Image

from air.errors import AIRError
from air.gui import command as demo
from air.gui import theme
from air.gui.session import PERIODS


@pytest.mark.parametrize(
    ("flags", "status", "message"),
    [
        (["--model", "missing"], 1, "missing: no such"),
        (["--model", "."], 1, "checkpoint"),
        (["--period", "33"], 2, "--period"),
        (["--size", "0", "10"], 2, "size"),
        (["--script", "a.jsonl"], 2, "--script"),
        (["--headless", "missing.png"], 1, "missing.png: no such"),
    ],
)
def test_mistakes(folder, tmp_path, monkeypatch, flags, status, message):
    monkeypatch.chdir(tmp_path)
    flags = flags if "--model" in flags else [*flags, "--model", str(folder)]
    monkeypatch.setattr(sys, "argv", ["demo.py", *flags])
    with pytest.raises(AIRError, match=message) as caught:
        demo.main()
    assert caught.value.exit_status == status


def test_a_mistake_is_one_line(run_script):
    done = run_script("demo.py", "--period", "33")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)


def test_headless_prints_the_count(folder, tmp_path, tiny_model, tiny_images, monkeypatch, capsys):
    image = np.uint8(255 * tiny_images[3])
    Image.fromarray(image).save(tmp_path / "scene.png")
    monkeypatch.setattr(sys, "argv", ["demo.py", str(tmp_path / "scene.png"), "--model", str(folder), "--headless"])
    with pytest.raises(SystemExit) as stop:
        demo.main()
    assert not stop.value.code
    assert capsys.readouterr().out == f"count: {tiny_model.infer(image[None]).count[0]}\n"


@pytest.mark.slow
def test_headless_needs_no_display(run_script, folder, monkeypatch):
    for name in ("SDL_VIDEODRIVER", "DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    done = run_script("demo.py", "--model", folder, "--headless")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("count: ")
    assert done.stdout.count("\n") == 1


def test_the_flags_offer_what_the_window_offers():
    kinds = {field.name: field.type for field in dataclasses.fields(demo.Arguments)}
    assert kinds["period"].__args__ == PERIODS
    assert kinds["palette"].__args__ == tuple(theme.PALETTES)
