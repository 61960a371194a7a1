"""The benchmarks: that they count, summarise and compare rightly. How fast anything is, no test says."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

from air.errors import AIRError, DataError, UsageError
from benchmarks import __main__ as suite
from benchmarks import gradients, process, results, steps
from benchmarks.results import Figure, Results

ROOT = Path(__file__).resolve().parent.parent


def figure(median, unit="ms", spread=0.0):
    return Figure(unit=unit, median=median, least=median - spread, greatest=median + spread, rounds=3)


def run(*flags, timeout=120):
    """The suite as a user runs it."""
    command = [sys.executable, "-m", "benchmarks", *map(str, flags)]
    return subprocess.run(command, cwd=ROOT, env={**os.environ}, capture_output=True, text=True, timeout=timeout)


OLD = Results(
    machine={"cpu": "abacus", "cores": 2, "quick": False},
    figures={"a": figure(10.0), "b": figure(4.0), "none": figure(0.0), "gone": figure(1.0), "other": figure(1.0, "s")},
)
NEW = Results(
    machine={"cpu": "abacus", "cores": 4, "quick": False},
    figures={"b": figure(5.0, spread=1.0), "a": figure(5.0), "none": figure(2.0), "new": figure(1.0), "other": figure(1.0)},
)


def test_ratios_are_new_over_old_of_what_both_have():
    assert results.ratios(NEW, OLD) == {"b": 1.25, "a": 0.5, "none": None}


def test_comparison_shows_the_ratios_and_what_else_differs():
    text = results.comparison(NEW, OLD)
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("| ")]
    assert rows[2:] == [
        ["b", "4 (4 to 4)", "5 (4 to 6)", "ms", "1.250"],
        ["a", "10 (10 to 10)", "5 (5 to 5)", "ms", "0.500"],
        ["none", "0 (0 to 0)", "2 (2 to 2)", "ms", "-"],
    ]
    assert "cores 2 -> 4" in text
    assert "abacus" not in text
    assert "3 figures in common; 2 only in this run, 2 only in the earlier one" in text


def test_comparison_of_nothing_in_common_has_no_table():
    text = results.comparison(NEW, Results(machine=NEW.machine, figures={"c": figure(1.0)}))
    assert text == "0 figures in common; 5 only in this run, 1 only in the earlier one."


def test_summary_of_rounds():
    rounds = [{"x": (value, "s"), "y": (1, "GB")} for value in (3.0, 1.0, 7.0, 4.0)]
    assert results.summarise(rounds) == {
        "x": Figure(unit="s", median=3.5, least=1.0, greatest=7.0, rounds=4),
        "y": Figure(unit="GB", median=1.0, least=1.0, greatest=1.0, rounds=4),
    }


def test_a_file_is_read_as_it_was_written(tmp_path):
    (tmp_path / "a.json").write_text(json.dumps(OLD.model_dump(), indent=2))
    assert results.read(tmp_path / "a.json") == OLD


WHOLE = json.dumps(OLD.model_dump())
DAMAGED = {
    "empty": b"",
    "cut": WHOLE[:-20].encode(),
    "binary": b"\x89PNG\r\n\xff\x00",
    "number": b"3",
    "list": b"[]",
    "deep": b"[" * 100_000,
    "foreign": b'{"count_accuracy": 0.998}',
    "not finite": WHOLE.replace("10.0", "NaN").encode(),
    "text for a number": WHOLE.replace("10.0", '"10"').encode(),
    "no spread": json.dumps({"machine": {}, "figures": {"a": {"unit": "s", "median": 1.0}}}).encode(),
    "median outside": WHOLE.replace('"least": 10.0', '"least": 11.0').encode(),
}


@pytest.mark.parametrize("content", DAMAGED.values(), ids=DAMAGED)
def test_damaged_and_foreign_files_are_refused_in_one_line(content, tmp_path):
    (tmp_path / "bad.json").write_bytes(content)
    with pytest.raises(DataError) as caught:
        results.read(tmp_path / "bad.json")
    assert str(caught.value).startswith(f"{tmp_path / 'bad.json'}: no result of python -m benchmarks (")
    assert "\n" not in str(caught.value)


def test_missing_file(tmp_path):
    with pytest.raises(DataError, match=r"gone\.json: no such file"):
        results.read(tmp_path / "gone.json")


def test_pipes_are_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe.json")
    with pytest.raises(DataError, match=r"pipe\.json: is not a regular file"):
        results.read(tmp_path / "pipe.json")


def test_against_peak():
    """2 GFLOP at 400 GFLOP/s take 5 ms, 0.1 GB at 50 GB/s 2 ms; 5 of the 20 ms are a quarter."""
    sample = {
        "machine/matrix_products": (400.0, "GFLOP/s"),
        "machine/memory_bandwidth": (50.0, "GB/s"),
        "steps/default/concrete/64/step": (20.0, "ms"),
        "steps/default/concrete/64/matrix_products": (2.0, "GFLOP"),
        "steps/default/concrete/64/adam": (0.1, "GB"),
    }
    answer = {name.rpartition("/")[2]: value for name, (value, _) in steps.against_peak(sample).items()}
    expected = {"products_at_peak": 5.0, "adam_at_bandwidth": 2.0, "step_at_peak": 7.0, "share_of_peak": 25.0}
    assert answer == pytest.approx(expected)


def test_count_of_a_convolution_and_its_gradient():
    """The gradient with respect to the images, which TensorFlow puts into the graph, is not asked for and not counted."""
    import tensorflow as tf

    from benchmarks import flops

    kernel = tf.Variable(tf.zeros([5, 3, 2, 7]))

    @tf.function(input_signature=[tf.TensorSpec([4, 10, 9, 2])])
    def gradient(images):
        with tf.GradientTape() as tape:
            answer = tf.nn.conv2d(images, kernel, strides=[2, 3], padding="SAME")
        return tape.gradient(answer, kernel)

    forward = 2 * (4 * 5 * 3 * 7) * (5 * 3 * 2)  # batch, height, width and filters of the answer; the kernel's window
    assert flops.count(gradient.get_concrete_function()) == forward  # the answer itself is not asked for either


def test_count_of_a_training_step_is_that_by_hand(make_model):
    """Every product of the small model of these tests: [a, b] x [b, c] is 2abc, and backwards as much for each factor."""
    import tensorflow as tf

    from benchmarks import flops

    model = make_model(refiner_units=())
    model.compile(jit_compile=False)
    batch, size = 5, (20, 24)
    rows = 3 * batch  # windows
    heads = sum(16 * 8 + 8 * outputs for outputs in (1, 1, 2, 2, 1))
    encoder, decoder = 48 * 16 + 16 * 8, 4 * 12 + 12 * 48
    recurrent, first = 2 * batch * 16 * 64, batch * 16 * 64  # before the first step, the state is a constant
    canvas_gates, crop_rows = batch * (20 * 24) * 64, rows * 8 * 20 * 24  # whose other factor is the canvas
    crop_columns = rows * 8 * 24 * 6
    paint = rows * 20 * 8 * 6 + batch * 20 * 24 * (3 * 6)
    both = rows * (heads + encoder + decoder) + recurrent + crop_columns + paint
    weights = sum(math.prod(variable.shape) for variable in model.trainable_variables)  # summed for the gradient's norm
    statistics = batch * 5 * len(model.statistics.quantities)
    expected = 2 * (3 * both + 2 * (canvas_gates + crop_rows + first) + weights + statistics)

    data = (tf.TensorSpec([batch, *size]), tf.TensorSpec([batch], tf.int32))
    assert flops.count(tf.function(model.train_step).get_concrete_function(data)) == expected


def test_a_refiner_is_counted_when_it_is_sure_to_be_asked(make_model):
    import tensorflow as tf

    from benchmarks import flops

    def count(**changes):
        model = make_model(**changes)
        model.compile(jit_compile=False)
        data = (tf.TensorSpec([5, 20, 24]), tf.TensorSpec([5], tf.int32))
        return flops.count(tf.function(model.train_step).get_concrete_function(data))

    without = count(refiner_units=())
    crop, windows = 15 * (8 * 20 * 24 + 8 * 24 * 6), 15 * (48 * 10 + 10 * 6)
    weights = 48 * 10 + 10 + 10 * 6 + 6  # summed for the gradient's norm
    assert count(refinement=0.0) == without + 2 * weights
    # Forwards and backwards; neither the canvas nor the rows of a first glimpse's crop has a gradient that is asked for twice.
    assert without + 2 * (3 * windows + crop + weights) <= count(refinement=1.0) <= without + 2 * 3 * (windows + crop + weights)
    with pytest.raises(ValueError, match="If computes can't be counted"):
        count(refinement="linear(0, 1, steps=10)")


def test_what_can_not_be_counted_is_refused():
    import tensorflow as tf

    from benchmarks import flops

    square = tf.function(lambda x: tf.matmul(x, x))
    inner = tf.function(lambda x: square(x) + 1.0)
    with pytest.raises(ValueError, match="PartitionedCall"):
        flops.count(inner.get_concrete_function(tf.TensorSpec([2, 2])))
    with pytest.raises(ValueError, match="a shape is unknown"):
        flops.count(square.get_concrete_function(tf.TensorSpec([None, None])))


def test_estimators_are_those_of_the_configuration():
    from air.config import AIRConfig

    for estimator in steps.ESTIMATORS:
        model, _ = steps.configuration("default", estimator)
        assert getattr(model, "presence", "concrete") == estimator
    declared = AIRConfig.model_fields.get("presence")
    assert len(steps.ESTIMATORS) == (len(set(declared.annotation.__args__)) if declared else 1)


def test_steps_bring_the_machine_and_each_configuration():
    names = [job.name for job in suite.jobs(suite.Arguments(only=("steps",), batch_sizes=(8, 64), quick=True))]
    assert names[0] == "machine"
    assert {name.split("/")[1] for name in names[1:]} == set(suite.PRESETS)
    assert len(names) == 1 + 2 * len(suite.PRESETS) * len(steps.ESTIMATORS)
    assert len(set(names)) == len(names)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"batch_sizes": (64, 0)}, "batch_sizes: 0 is not allowed"),
        ({"batch_sizes": (60001,)}, "batch_sizes: 60001 is not allowed"),
        ({"repeats": 0}, "repeats: 0 is not allowed"),
        ({"only": ()}, "only: at least one"),
        ({"output": Path("nowhere/at_all.json")}, "output: nowhere/at_all.json is not allowed"),
        ({"output": ROOT}, "output: .* is not allowed"),
    ],
    ids=str,
)
def test_mistakes_are_found_before_anything_is_measured(changes, words):
    with pytest.raises(UsageError, match=words):
        suite.check(suite.Arguments(**changes))


def test_a_failing_measurement_is_one_line():
    with pytest.raises(AIRError, match=r"^generation: images: shape \(0, 50, 50\) is not allowed") as caught:
        process.alone("generation", scenes=0)
    assert "\n" not in str(caught.value)


def test_a_run_writes_json_and_compares(tmp_path):
    name = "generation/3000_scenes/generated"
    (tmp_path / "old.json").write_text(
        Results(machine={}, figures={name: figure(0.125, "s"), "gone": figure(1.0)}).model_dump_json()
    )
    done = run("--quick", "--only", "generation", "--output", tmp_path / "new.json", "--compare", tmp_path / "old.json")
    assert (done.returncode, "[1/1] generation ..." in done.stderr) == (0, True)
    new = results.read(tmp_path / "new.json")
    assert {"cpu", "cores", "python", "tensorflow", "keras", "numpy"} <= set(new.machine)
    assert new.figures["generation/peak_memory"].median > 0.02
    ratio = f"{new.figures[name].median / 0.125:.3f}"
    assert next(line for line in done.stdout.splitlines() if "0.125" in line).endswith(f"{ratio} |")
    assert str(ROOT) not in (tmp_path / "new.json").read_text()


def test_a_damaged_file_ends_the_run_before_it_begins(tmp_path):
    (tmp_path / "old.json").write_text("[")
    done = run("--compare", tmp_path / "old.json", "--output", tmp_path / "new.json")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"benchmarks: error: {tmp_path}/old.json: no result of python -m benchmarks")
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "new.json").exists()


@pytest.mark.parametrize("flag", ["--steps", "--draws", "--scenes"])
def test_impossible_gradients_are_refused(flag, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["benchmarks.gradients", flag, "0"])
    with pytest.raises(UsageError, match=f"^{flag[2:]}: 0 is not allowed"):
        gradients.main()
