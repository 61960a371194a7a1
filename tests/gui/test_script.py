"""Scripts that are replayed without a display, and the command line."""

import dataclasses
import json
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from air.errors import AIRError, DataError
from air.gui import theme
from air.gui.engine import config_of
from air.gui.layout import DESIGN_SIZE
from air.gui.script import Replay, read, replay
from air.gui.session import PERIODS

ROOT = Path(__file__).resolve().parent.parent.parent


def test_a_script(folder, tmp_path):
    Image.fromarray(np.full((20, 24), 9, np.uint8)).save(tmp_path / "dropped.png")
    lines = [
        {"stroke": [[0.2, 0.2], [0.8, 0.7]]},
        {"frame": "stroke"},
        {"key": "Ctrl+Z"},
        {"click": "windows"},
        {"action": "dream"},
        {"size": [800, 600]},
        {"drop": "dropped.png"},
        {"pause": 0.5},
        {"frame": "dropped"},
    ]
    (tmp_path / "script.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n\n")
    config, out = config_of(folder), tmp_path / "out"
    replay(folder, config, tmp_path / "script.jsonl", out, frame_rate=10, gif=tmp_path / "a.gif", palette="safe")
    with Image.open(out / "stroke.png") as first, Image.open(out / "dropped.png") as last:
        assert (first.size, last.size) == (DESIGN_SIZE, (800, 600))
    records = [json.loads(line) for line in (out / "scenes.jsonl").read_text().splitlines()]
    assert [record["frame"] for record in records] == ["stroke", "dropped"]
    assert len(records[0]["boxes"]) == config.max_steps
    assert len(records[0]["digits"]) == records[0]["count"]
    assert len(list(out.glob("frame_*.png"))) >= 5
    with Image.open(tmp_path / "a.gif") as animation:
        assert animation.n_frames >= 2


def test_scripts_repeat_exactly(folder, tmp_path):
    lines = [{"stroke": [[0.2, 0.2], [0.8, 0.7], [0.2, 0.6]]}, {"action": "sample"}, {"pause": 0.4}, {"frame": "end"}]
    (tmp_path / "script.jsonl").write_text("\n".join(map(json.dumps, lines)))
    records = []
    for name in ("a", "b"):
        replay(folder, config_of(folder), tmp_path / "script.jsonl", tmp_path / name)
        records.append((tmp_path / name / "scenes.jsonl").read_text())
    assert records[0] == records[1]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("junk", "line 1"),
        ('{"pause": 1}\n[1]', "line 2: must be an object"),
        ('{"jump": 1}', "'jump' is not allowed"),
        ('{"stroke": []}', "stroke"),
        ('{"stroke": [[0, "a"]]}', "stroke"),
        ('{"stroke": [[0, 1e9]]}', "stroke"),
        ('{"stroke": [[NaN, 0]]}', "stroke"),
        ('{"key": "Hyper+X"}', "not a key"),
        ('{"key": "Nonsense"}', "not a key"),
        ('{"action": "fly"}', "action"),
        ('{"action": []}', "line 1"),
        ('{"size": [0, 5]}', "size"),
        ('{"pause": -1}', "pause"),
        ('{"frame": "../../x"}', "frame"),
        (f'{{"frame": "{"x" * 300}"}}', "frame"),
    ],
)
def test_scripts_that_say_nothing(tmp_path, text, message):
    path = tmp_path / "script.jsonl"
    path.write_text(text)
    with pytest.raises(DataError, match=message):
        read(path)


@pytest.mark.parametrize("line", [{"click": "fullscreen"}, {"select": 9}, {"size": [20, 20]}])
def test_what_a_script_cannot_do_is_said(app, tmp_path, line):
    with pytest.raises(AIRError):
        Replay(app, app.clock, tmp_path).play([line, {"stroke": [[0.5, 0.5]]}])


@pytest.mark.parametrize(
    ("flags", "status", "message"),
    [
        (["--model", "missing"], 1, "missing: no such"),
        (["--headless"], 2, "--script"),
        (["--script", "a.jsonl"], 2, "--headless"),
        (["--period", "33"], 2, "--period"),
        (["--palette", "grey"], 2, "--palette"),
        (["--size", "0", "10"], 2, "size"),
        (["picture.png", "--headless", "--script", "a", "--out", "b"], 2, "PICTURE"),
        (["--headless", "--script", "a", "--out", "b", "--gif", "a.txt"], 2, "must end in .gif"),
        (["--headless", "--script", "a", "--out", "b", "--gif", "no/a.gif"], 2, "no folder no"),
        (["--headless", "--script", "a", "--out", "b", "--gif", "a.gif", "--frame-rate", "0"], 2, "--frame-rate"),
        (["--headless", "--script", "a", "--out", "b", "--frame-rate", "0.001"], 2, "frame-rate"),
        (["--headless", "--script", "a", "--out", "b", "--frame-rate", "nan"], 2, "frame-rate"),
        (["--model", ".", "--headless", "--script", "a", "--out", "b"], 1, "checkpoint"),
    ],
)
def test_mistakes_are_one_line(run_script, flags, status, message):
    done = run_script("demo.py", *flags)
    assert done.returncode == status
    assert done.stdout == ""
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


def test_the_script_runs_headless(run_script, folder, tmp_path):
    (tmp_path / "s.jsonl").write_text('{"stroke": [[0.2, 0.2], [0.8, 0.7]]}\n{"frame": "end"}\n')
    done = run_script("demo.py", "--model", folder, "--headless", "--script", "s.jsonl", "--out", "out", "--frame-rate", 0)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"end.png", "scenes.jsonl"}


def test_pictures_on_a_full_disk(folder, tmp_path):
    """None of them is there in part."""
    (tmp_path / "s.jsonl").write_text('{"frame": "end"}\n')
    command = [sys.executable, ROOT / "demo.py", "--model", folder, "--headless", "--script", "s.jsonl", "--out", "out"]

    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))

    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=240, preexec_fn=limit)
    assert done.returncode == 1
    assert done.stderr.startswith("demo.py: error: ")
    assert "File too large" in done.stderr
    assert not list((tmp_path / "out").iterdir())


def test_a_script_of_absurd_size(tmp_path):
    with open(tmp_path / "s.jsonl", "wb") as file:
        file.truncate(1 << 33)
    with pytest.raises(DataError, match="8589934592 bytes"):
        read(tmp_path / "s.jsonl")


def test_the_flags_know_what_the_window_knows():
    import demo

    kinds = {field.name: field.type for field in dataclasses.fields(demo.Arguments)}
    assert kinds["period"].__args__ == PERIODS
    assert kinds["palette"].__args__ == tuple(theme.PALETTES)
