"""The model in model/ against drawings that a hand made with a mouse: how many digits there are, and which."""

import json
from pathlib import Path

import pytest

from air.gui.engine import config_of
from air.gui.script import Clock, Replay, read

ROOT = Path(__file__).resolve().parent.parent.parent
SCRIPTS = sorted((ROOT / "tests" / "strokes").glob("*.jsonl"))


@pytest.mark.skipif(not (ROOT / "model" / "air.keras").is_file(), reason="there are no weights in model/")
def test_drawn_digits_are_counted_and_recognised(tmp_path, monkeypatch):
    from air.gui.app import App

    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    clock = Clock()
    app = App(ROOT / "model", config_of(ROOT / "model"), size=(600, 400), clock=clock, patience=60.0)
    try:
        player = Replay(app, clock, tmp_path)
        for script in SCRIPTS:
            player.play([*read(script), {"action": "clear"}])
    finally:
        app.close(60.0)
    records = [json.loads(line) for line in (tmp_path / "scenes.jsonl").read_text().splitlines()]
    assert len(records) == 20
    counted = recognised = digits = 0
    for record in records:
        drawn = [int(digit) for digit in record["frame"].split("_")[1:]]
        counted += record["count"] == len(drawn)
        digits += len(drawn)
        for label in record["digits"]:
            if label in drawn:
                drawn.remove(label)
                recognised += 1
    assert counted >= 19
    assert recognised >= 0.85 * digits
