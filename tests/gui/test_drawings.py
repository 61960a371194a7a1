"""The shipped model on hand-drawn digits: how many there are, and which."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from events import drawn

from air.evaluation.recognition import ReferenceSet
from air.training import checkpoints

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.mark.skipif(not (ROOT / "model" / "air.keras").is_file(), reason="there are no weights in model/")
def test_drawn_digits_are_counted_and_recognised():
    paths = sorted((ROOT / "tests" / "strokes").glob("*.jsonl"))
    true = [[int(digit) for digit in path.stem.split("_")[1:]] for path in paths]
    assert len(paths) == 20
    model = checkpoints.load(ROOT / "model")
    scenes = model.infer(np.stack([drawn(path) for path in paths]), any_size=model.config.takes_any_canvas)
    reference_set = ReferenceSet.load(ROOT / "model" / "reference_set.npz")
    assert np.sum(scenes.count == list(map(len, true))) >= 19
    recognised = 0
    for digits, count, z_what in zip(true, scenes.count, scenes.z_what, strict=True):
        labels, _ = reference_set.predict(z_what[:count])
        recognised += sum((Counter(digits) & Counter(labels.tolist())).values())
    assert recognised >= 0.85 * sum(map(len, true))
