"""The soak of training: a run that ends well, one that stops with its report, and one that must not end so."""

import shlex
import sys

import pytest

from air.errors import AIRError, UsageError
from benchmarks import soak

TINY = (
    *("--window-size", "8", "8", "--lstm-units", "16", "--head-units", "8", "--encoder-units", "16", "--decoder-units", "16"),
    *("--z-what-size", "4", "--cnn-filters", "4", "4", "--batch-size", "8", "--validation-scenes", "16", "--no-xla"),
    *("--validate-every", "10", "--checkpoints-every", "10", "--scalars-every", "10"),
)


def run(setting, folder, *flags):
    return soak.soak(setting, soak.Arguments(steps=20, flags=shlex.join([*TINY, *flags])), folder)


def test_a_run_that_stays_finite(tmp_path):
    outcome = run("white", tmp_path)
    assert (outcome.ended, outcome.steps) == ("finite", 20)
    assert outcome.loss > 1000  # nats: hardly anything of 2,500 white pixels is explained by now


def test_a_run_that_does_not(tmp_path):
    outcome = run("black", tmp_path, "--scale-prior-mean", "1e38")
    assert outcome.ended.startswith("stopped: the loss became")
    assert outcome.steps < 20


def test_any_other_end_is_a_failure(tmp_path):
    with pytest.raises(AIRError, match=r"one_scene: exit status 2 \(.*lstm_units"):
        run("one_scene", tmp_path, "--lstm-units", "0")


@pytest.mark.parametrize(
    ("flags", "word"), [(("--steps", "0"), "steps: 0"), (("--settings", "grey"), "grey"), (("--out", "/"), "exists already")]
)
def test_mistakes(flags, word, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["benchmarks.soak", *flags])
    with pytest.raises(UsageError, match=word):
        soak.main()
