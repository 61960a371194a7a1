"""Whatever a person does at random, the window goes on."""

import itertools
import random
import re
import sys

import numpy as np
import pytest

from air.errors import UsageError
from benchmarks import demo_soak


def test_random_input(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # where pictures of the window are saved
    monkeypatch.setattr(demo_soak, "resident", itertools.count(500.0, 10.0).__next__)
    memory, steps, done, frames = demo_soak.soak(demo_soak.Arguments(minutes=0.08, model=folder), tmp_path)
    assert done["draw"] > 0
    assert done["type"] > 0
    assert frames > sum(done.values())  # every part of a stroke is shown
    assert len(memory) == pytest.approx(0.08 * 60 / demo_soak.EVERY, abs=2)
    assert len(steps) == len(memory)
    assert re.fullmatch(r"minute 0\.\d, \w.*: 500 to 510 MB", steps[0])


def test_resident_memory():
    before, block = demo_soak.resident(), np.ones(50_000_000, np.uint8)
    assert demo_soak.resident() - before == pytest.approx(block.nbytes / 1e6, abs=5)


def test_every_habit(app, tmp_path, monkeypatch):
    """None of them, however often, ends in an exception or closes the window."""
    monkeypatch.chdir(tmp_path)
    person = demo_soak.Person(app, tmp_path, random.Random(1))
    for habit in person.habits:
        for _ in range(20):
            app.clock.now += 0.05
            habit()
            person._see()
    assert app.running
    assert not app.session.lost


def test_growth():
    assert demo_soak.growth([500, 700, *[800] * 7, 815]) == 15
    assert demo_soak.growth([float(i) for i in range(1000)]) == pytest.approx(700)
    assert demo_soak.growth([5.0]) == 0


@pytest.mark.parametrize("minutes", ["0", "-1", "nan", "1e9"])
def test_mistakes(minutes, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["benchmarks.demo_soak", "--minutes", minutes])
    with pytest.raises(UsageError, match="minutes"):
        demo_soak.main()
