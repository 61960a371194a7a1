"""Every benchmark runs at a tiny size. No test says how fast anything is."""

import sys
from pathlib import Path

import pytest

from air.config import TrainingConfig
from air.errors import AIRError
from air.presets import Preset
from benchmarks import gradients, growth, profile, speed

MODEL = Path(__file__).resolve().parent.parent / "model"


def test_steps_and_their_bound(tiny_config):
    figures = speed.steps(Preset(tiny_config, TrainingConfig(xla=False)), batch_size=4, measured=2, scenes=8)
    assert min(figures.values()) > 0
    machine = {"matrix products, GFLOP/s": 400.0, "memory bandwidth, GB/s": 50.0}
    step = {"step, ms": 21.0, "products, GFLOP": 2.0, "Adam's traffic, GB": 0.1}
    assert speed.against_bound(step, machine) == {"bound, ms": pytest.approx(7), "step / bound": pytest.approx(3)}


def test_products_of_a_step(make_model):
    dense = 20 * 24 * 64 + 3 * (16 * 64 + 5 * 16 * 8 + 8 * 7)  # the canvas once; the recurrence and heads at every step
    dense += 3 * (48 * 10 + 10 * 6 + 48 * 16 + 16 * 8 + 4 * 12 + 12 * 48)  # refiner, encoder, decoder
    assert speed.scene_flops(make_model()) == 6 * dense
    convolution = {"cnn_filters": (2,), "cnn_kernels": (3,), "cnn_strides": (4,), "cnn_pools": (1,)}
    convolved = dense - (20 * 24 - 5 * 6 * 2) * 64 + 9 * 2 * 5 * 6
    assert speed.scene_flops(make_model(**convolution)) == 6 * convolved


def test_products_of_a_step_without_glimpses(make_model):
    products = 20 * 24 * 16 + 16 * 3 * (1 + 1 + 2 + 2 + 1 + 4 + 4)  # the canvas and all answers once
    products += 3 * (48 * 10 + 10 * 6 + 4 * 12 + 12 * 48)  # refiner, decoder
    assert speed.scene_flops(make_model(controller="dense")) == 6 * products


def test_products_of_a_step_among_cells(make_model):
    cells = 7 * 8  # of 3 x 3 pixels
    products = cells * (6 * 6 * 4 + 3 * 3 * 4 * 6 + 6 * 8) + 3 * cells * (16 * 8 + 8 * (1 + 1 + 6))  # once; at every step
    products += 3 * (48 * 10 + 10 * 6 + 48 * 16 + 16 * 8 + 4 * 12 + 12 * 48)
    assert speed.scene_flops(make_model(controller="convolutional")) == 6 * products


@pytest.mark.slow
def test_controllers_take_turns(tiny_config):
    recipe = Preset(tiny_config, TrainingConfig(xla=False))
    figures = speed.controllers(recipe, batch_size=4, measured=1, scenes=8)
    assert list(figures) == ["convolutional: step, ms", "canvas: step, ms", "convolutional / canvas"]
    assert min(figures.values()) > 0


def test_machine_and_generation():
    assert min(speed.machine(size=64, array_bytes=1 << 16, tries=1).values()) > 0
    assert set(speed.generation(scenes=3)) == {"3 scenes generated, s", "written, s", "read, s"}


@pytest.mark.slow
def test_inference():
    expected = {"one scene, ms", "3 scenes, s", "XLA: one scene, ms", "1000x1000 pixels, 100 digits, s"}
    assert expected <= set(speed.inference(MODEL, scenes=3, calls=2))


def test_a_large_canvas_has_a_digit_in_each_tile():
    tiles = speed.large_canvas()[0].reshape(10, 100, 10, 100).max(axis=(1, 3))
    assert tiles.shape == (10, 10)
    assert (tiles > 100).all()


def test_the_table_shows_all_rounds(monkeypatch, capsys):
    rounds = iter([3.0, 1.0, 2000.0])
    monkeypatch.setattr(speed, "take_round", lambda settings: [("inference", {"one scene, ms": next(rounds)})])
    monkeypatch.setattr(sys, "argv", ["speed.py", "--model", str(MODEL)])
    speed.main()
    row = capsys.readouterr().out.splitlines()[-1]
    assert [cell.strip() for cell in row.split("|")[1:-1]] == ["inference: one scene, ms", "3", "1", "2,000"]
    monkeypatch.setattr(sys, "argv", ["speed.py", "--repeats", "0"])
    with pytest.raises(AIRError, match="repeats: 0 is not allowed"):
        speed.main()


def test_growth_finds_the_exponent(monkeypatch, capsys, tmp_path):
    curve = growth.Curve("inference", "objects", (1, 2, 8), lambda value, repeats: repeats * 3.0 * value**2)
    monkeypatch.setattr(growth, "CURVES", (curve,))
    monkeypatch.setattr(sys, "argv", ["growth.py", "--output", str(tmp_path / "growth.png"), "--repeats", "2"])
    growth.main()
    assert [cell.strip() for cell in capsys.readouterr().out.splitlines()[-2].split("|")[1:-1]] == [
        "ms",
        "6.0",
        "24.0",
        "384.0",
        "2.00",
    ]
    assert (tmp_path / "growth.png").stat().st_size > 1000


def test_the_profile_has_the_operations_of_xla_alone():
    from tensorflow.tsl.profiler.protobuf.xplane_pb2 import XSpace

    space = XSpace()
    plane = space.planes.add()
    plane.stat_metadata[1].name = "hlo_op"
    for number, name in enumerate(("MatMul.3", "add_fusion", "ThunkExecutor::Execute"), 1):
        plane.event_metadata[number].name = name
    for line in (plane.lines.add(), plane.lines.add()):  # two cores
        for number, milliseconds in ((2, 3), (1, 2), (3, 9)):
            event = line.events.add(metadata_id=number, duration_ps=milliseconds * 10**9)
            if number < 3:
                event.stats.add(metadata_id=1)
    add, product = profile.read(space.SerializeToString())
    assert (add.name, add.number, product.name, product.number) == ("add_fusion", 2, "MatMul.3", 2)
    assert (add.seconds, product.seconds) == (pytest.approx(0.006), pytest.approx(0.004))
    assert (profile.kind_of(add), profile.kind_of(product)) == (profile.OTHERS, "matrix products")


@pytest.mark.slow
def test_profile_of_a_training_step(tiny_config):
    training = speed.Training(Preset(tiny_config, TrainingConfig()), batch_size=4, scenes=8)
    seconds, operations = profile.profile(training, 2)
    assert 0 < seconds < 60
    assert "matrix products" in map(profile.kind_of, operations)
    assert min(operation.number for operation in operations) >= 1


@pytest.mark.slow
def test_demo_and_startup():
    assert min(speed.in_fresh_process(speed.demo, MODEL, 3).values()) > 0
    assert min(speed.in_fresh_process(speed.startup, MODEL).values()) > 0


@pytest.mark.slow
def test_growth_is_measured_in_new_processes():
    assert growth._over(growth.infer, "batch_size", max_steps=3)(2, 1) > 0
    assert growth.train_in_workers(2, repeats=1) > 0


@pytest.mark.slow
@pytest.mark.parametrize("controller", ["canvas", "convolutional"])
def test_only_concrete_is_biased(tiny_config, controller):
    config = tiny_config.replace(canvas_size=(50, 50), controller=controller, cell_size=10, z_pres_prior_odds=1.0)
    errors = gradients.measure(gradients.Settings(steps=10, draws=150), config)
    for name in ("nvil", "nvil, centred", "nvil, centred, baseline"):
        assert errors[name].bias < 2 * errors[name].spurious_bias
    assert errors["concrete"].bias > 2 * errors["concrete"].spurious_bias
