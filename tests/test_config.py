"""Configurations survive JSON and refuse impossible values in one line; presets have the numbers of their sources."""

import json

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import ValidationError

from air import presets
from air.config import AIRConfig, TrainingConfig
from air.errors import ConfigError, UsageError
from air.presets import PRESETS, Preset
from air.schedules import Schedule

CONFIGS = [config for preset in PRESETS.values() for config in preset()]
SIZES = st.tuples(st.integers(50, 256), st.integers(50, 256))
UNITS = st.lists(st.integers(1, 8192), max_size=4)
SCHEDULED = st.floats(1e-6, 1e6) | st.builds("linear({}, {}, steps={})".format, *[st.floats(1e-6, 1e6)] * 3)


def refusal(cls, **fields):
    with pytest.raises(ConfigError) as caught:
        cls(**fields)
    assert isinstance(caught.value, UsageError)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: type(config).__name__)
def test_json_round_trip(config):
    copy = type(config).from_dict(json.loads(config.to_json()))
    assert copy == config
    assert copy.to_json() == config.to_json()
    assert set(config.to_dict()) == set(type(config).model_fields)


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "canvas_size": SIZES,
            "max_steps": st.integers(1, 16),
            "head_units": UNITS,
            "controller": st.sampled_from(["convolutional", "canvas", "latents", "residual", "dense"]),
            "cell_size": st.integers(2, 64),
            "cell_filters": st.lists(st.integers(1, 8192), min_size=1, max_size=4),
            "cell_certainty": st.floats(0, 1e6),
            "estimator": st.sampled_from(["concrete", "nvil", "enumerated"]),
            "likelihood": st.sampled_from(["cross_entropy", "normal"]),
            "likelihood_std": SCHEDULED,
            "learn_count_prior_after": st.integers(0, 10**9),
            "baseline_units": UNITS,
            "refinement": SCHEDULED,
            "looks": st.sampled_from([1, 2]),
            "encoder_units": UNITS,
            "activation": st.sampled_from(["relu", "softplus", "elu", "tanh", "silu", "gelu"]),
            "decoder_bias": st.floats(-1e9, 1e9),
            "scale_prior_variance": st.floats(1e-6, 1e6),
            "z_pres_prior_odds": SCHEDULED,
            "temperature": SCHEDULED,
            "stop_threshold": st.floats(0.01, 0.99),
        },
    )
)
@example({"decoder_noise": "cosine(1, 0, steps=5, start=2)"})
def test_json_round_trip_of_any_model(fields):
    config = AIRConfig(**fields)
    assert AIRConfig.from_dict(json.loads(config.to_json())) == config
    for name, value in fields.items():
        ours = getattr(config, name)
        assert ours == (Schedule.parse(value) if isinstance(ours, Schedule) else type(ours)(value))


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "iterations": st.integers(1, 2**31 - 1),
            "learning_rate": SCHEDULED | st.just("cosine(1, 0.5)"),
            "clip_norm": st.floats(1e-6, 1e6),
            "seed": st.integers(0, 2**31 - 1),
            "xla": st.booleans(),
        },
    )
)
def test_json_round_trip_of_any_training(fields):
    config = TrainingConfig(**fields)
    assert TrainingConfig.from_dict(json.loads(config.to_json())) == config


@pytest.mark.parametrize(
    ("cls", "field", "value", "allowed"),
    [
        (AIRConfig, "canvas_size", (50,), "required"),
        (AIRConfig, "canvas_size", (50, 1025), "1024"),
        (AIRConfig, "window_size", "28x28", "tuple"),
        (AIRConfig, "max_steps", 17, "equal to 16"),
        (AIRConfig, "max_steps", 2.5, "integer"),
        (AIRConfig, "lstm_units", 8193, "equal to 8192"),
        (AIRConfig, "head_units", (64, 0), "equal to 1"),
        (AIRConfig, "cnn_kernels", (3, 3, 3), "cnn_filters"),
        (AIRConfig, "controller", "gru", "'convolutional', 'canvas', 'latents', 'residual' or 'dense'"),
        (AIRConfig, "cell_size", 1, "equal to 2"),
        (AIRConfig, "cell_filters", (), "at least 1 item"),
        (AIRConfig, "estimator", "reinforce", "'concrete', 'nvil' or 'enumerated'"),
        (AIRConfig, "learn_count_prior_after", -1, "equal to 0"),
        (AIRConfig, "refinement", -0.1, "at least 0"),
        (AIRConfig, "looks", 3, "1 or 2"),
        (AIRConfig, "decoder_bias", float("nan"), "finite"),
        (AIRConfig, "decoder_bias", "dark", "number"),
        (AIRConfig, "scale_prior_mean", float("-inf"), "finite"),
        (AIRConfig, "scale_prior_variance", 0.0, "above 0"),
        (AIRConfig, "z_pres_prior_odds", "linear(1, 0, steps=10)", "above 0"),
        (AIRConfig, "z_pres_prior_odds", "exponential(1, factor=0.1, every=3, limit=0)", "above 0"),
        (AIRConfig, "temperature", "linear(1, 0.5)", "needs its steps"),
        (AIRConfig, "temperature", "__import__('os')", "neither a number nor a schedule"),
        (AIRConfig, "stop_threshold", 1.0, "below 1"),
        (TrainingConfig, "iterations", 0, "equal to 1"),
        (TrainingConfig, "learning_rate", "cosine(1e-3, -1e-3)", "above 0"),
        (TrainingConfig, "seed", 2**31, str(2**31)),
        (TrainingConfig, "xla", "perhaps", "boolean"),
    ],
)
def test_refusals_name_field_value_and_what_is_allowed(cls, field, value, allowed):
    message = refusal(cls, **{field: value})
    assert message.startswith(field)
    assert allowed in message
    parts = value if isinstance(value, tuple) and value else (value,)
    shown = message.removeprefix(field).split(";")[0]
    if isinstance(value, str) and value.startswith(("linear", "cosine", "exponential")):
        parts = (value.split("(")[0],)
    assert any(str(part) in shown for part in parts)


@pytest.mark.parametrize(
    "odds", [1e-60, "exponential(1e4, factor=0.1, every=1)", "exponential(1, factor=0.1, every=1, limit=1e-60)"]
)
def test_positive_values_stay_positive_in_float32_or_are_refused(odds):
    try:
        config = AIRConfig(z_pres_prior_odds=odds)
    except ConfigError as error:
        assert "z_pres_prior_odds" in str(error)  # noqa: PT017
    else:
        assert float(config.z_pres_prior_odds(100_000)) > 0


@pytest.mark.parametrize("cls", [AIRConfig, TrainingConfig])
def test_unknown_fields_are_refused_with_the_known_ones(cls):
    message = refusal(cls, max_step=3)
    assert message.startswith("max_step:")
    for field in cls.model_fields:
        assert field in message


@pytest.mark.parametrize("fields", [3, None, [], "max_steps", {"max_steps": {}}, {"decoder_bias": float("nan")}])
def test_impossible_json(fields):
    with pytest.raises(ConfigError) as caught:
        AIRConfig.from_dict(fields)
    assert "\n" not in str(caught.value)


def test_old_names_of_fields():
    config = AIRConfig.from_dict({"presence": "nvil", "likelihood_deviation": 0.2})
    assert config == AIRConfig(estimator="nvil", likelihood_std=0.2)
    for old, new in (("presence", "estimator"), ("controller_input", "controller")):
        with pytest.raises(ConfigError, match=f"{old}: is now called {new}"):
            AIRConfig(**{old: "canvas"})


def test_controllers_of_an_older_version_choose_by_the_score_alone():
    fields = AIRConfig().to_dict()
    assert AIRConfig.from_dict(fields).cell_certainty == 5.0
    del fields["cell_certainty"]
    assert AIRConfig.from_dict(fields) == AIRConfig(cell_certainty=0.0)
    fields["controller"] = "canvas"
    assert AIRConfig.from_dict(fields) == AIRConfig(controller="canvas")  # an LSTM, which has none
    written_by_hand = {"controller": "convolutional", "cell_units": 64}
    assert AIRConfig.from_dict(written_by_hand) == AIRConfig(**written_by_hand)


def test_files_of_an_older_version_have_an_lstm():
    fields = {**AIRConfig(controller="latents").to_dict(), "canvas_size": [40, 40], "window_size": [20, 20]}
    fields["controller_input"] = fields.pop("controller")
    assert AIRConfig.from_dict(fields) == AIRConfig(controller="latents", canvas_size=(40, 40), window_size=(20, 20))
    for name in ("canvas_size", "window_size"):
        with pytest.raises(ConfigError, match=rf"^{name}: \[40, 30\] is not allowed in a file of an older version, ") as caught:
            AIRConfig.from_dict({**fields, name: [40, 30]})
        assert "\n" not in str(caught.value)
    assert AIRConfig.from_dict({"canvas_size": [40, 30]}).canvas_size == (40, 30)  # of this version


@pytest.mark.parametrize("controller", ["convolutional", "canvas", "latents", "residual", "dense"])
def test_steps_on_other_canvases(controller):
    """In proportion to the area, rounded up, where a controller takes any canvas."""
    config = AIRConfig(controller=controller, canvas_size=(20, 30), max_steps=2)
    areas = {(20, 30): 2, (28, 28): 3, (4, 5): 2, (40, 30): 4, (60, 60): 12, (1000, 999): 3330}
    for size, steps in areas.items():
        assert config.steps_on(size) == (steps if controller == "convolutional" else 2), size
    assert config.takes_any_canvas == (controller == "convolutional")


def test_strides_leave_something_of_the_canvas():
    strides = {"cnn_strides": (50, 50)}
    assert refusal(AIRConfig, controller="canvas", **strides).startswith("cnn_strides: (50, 50) with cnn_pools (1, 1) is not ")
    assert AIRConfig(**strides).cnn_strides == (50, 50)  # which a convolutional controller doesn't have


def test_immutable():
    config = AIRConfig(max_steps=3, head_units=[4, 5])
    with pytest.raises(ValidationError):
        config.max_steps = 4
    with pytest.raises(ValidationError):
        del config.max_steps
    with pytest.raises(ValidationError):
        config.extra = 4
    with pytest.raises(AttributeError):
        config.temperature.initial = 2.0
    assert config.max_steps == 3
    assert config.head_units == (4, 5)


def test_replace_validates_and_leaves_the_rest():
    config = AIRConfig(max_steps=2, temperature="linear(1, 0.5, steps=10)")
    changed = config.replace(max_steps=4)
    assert (config.max_steps, changed.max_steps) == (2, 4)
    assert changed.temperature == config.temperature
    assert changed.replace(max_steps=2) == config
    with pytest.raises(ConfigError, match="max_steps"):
        config.replace(max_steps=0)
    with pytest.raises(ConfigError, match="cnn_kernels"):
        config.replace(cnn_filters=(1,), cnn_kernels=(), cnn_strides=(1,), cnn_pools=(1,))
    with pytest.raises(ConfigError, match="has no such field"):
        config.replace(steps=4)


def test_intervals():
    training = TrainingConfig()
    assert sorted(training.intervals) == sorted(value for name, value in training if name.endswith("_every"))


def test_the_default_preset_is_the_defaults():
    assert PRESETS["default"]() == (AIRConfig(), TrainingConfig())


def test_the_original_preset_has_the_published_numbers():
    model, training = PRESETS["original"]()
    sizes = {"canvas_size": (50, 50), "window_size": (28, 28), "max_steps": 3, "lstm_units": 256, "head_units": (64,)}
    assert model.controller == "canvas"
    networks = {"cnn_filters": (), "encoder_units": (512, 256), "decoder_units": (256, 512), "z_what_size": 50}
    for name, value in {**sizes, **networks, "activation": "softplus", "decoder_bias": 0.0}.items():
        assert getattr(model, name) == value, name
    scheduled = {
        **{f"{name}_prior_mean": mean for name, mean in (("scale", -1.0), ("shift", 0.0), ("z_what", 0.0))},
        **{f"{name}_prior_variance": variance for name, variance in (("scale", 0.05), ("shift", 1.0), ("z_what", 1.0))},
        **{f"{name}_kl_weight": 1.0 for name in ("z_pres", "scale", "shift", "z_what")},
        **{"decoder_noise": 0.3, "temperature": 1.0, "stop_threshold": 0.99},
        "z_pres_prior_odds": "exponential(1e4, factor=0.1, every=3000, limit=1e-9)",
    }
    for name, value in scheduled.items():
        assert getattr(model, name) == Schedule.parse(value), name
    assert training == TrainingConfig(batch_size=64, clip_norm=1.0, learning_rate=1e-4, iterations=300 * 59_000 // 64)


@pytest.mark.parametrize("estimator", ["enumerated", "nvil"])
def test_the_default_preset_has_a_recipe_for_each_estimator(estimator):
    model, training = presets.recipe("default", estimator)
    assert model.estimator == estimator
    assert 0.5 < float(model.z_pres_prior_odds(0)) < 5 < 50 <= float(model.z_pres_kl_weight(0))
    end = training.iterations
    assert float(model.z_pres_kl_weight(end)) == 1
    assert float(model.z_pres_prior_odds(end)) == pytest.approx(float(AIRConfig().z_pres_prior_odds(end)))
    counting = {name: getattr(AIRConfig(), name) for name in ("estimator", "z_pres_prior_odds", "z_pres_kl_weight")}
    assert model.replace(**counting) == AIRConfig()


def test_another_estimator_of_another_preset_changes_nothing_else():
    model, training = presets.recipe("original", "nvil")
    assert (model.replace(estimator="concrete"), training) == PRESETS["original"]()
    assert presets.recipe("pyro") == PRESETS["pyro"]()


def test_colour_has_a_recipe_for_backgrounds():
    grey, colour = (presets.recipe("backgrounds", channels=channels) for channels in (1, 3))
    assert grey == PRESETS["backgrounds"]() == presets.recipe("backgrounds")
    assert colour.training == grey.training.replace(learning_rate="cosine(1e-3, final=5e-5)")
    assert colour.model == grey.model.replace(channels=3, likelihood_std=0.1)
    changed = Preset(colour.model.replace(looks=1), colour.training.replace(batch_size=5))
    assert presets.with_estimator("backgrounds", changed, "enumerated") == changed
    assert presets.recipe("pyro", channels=3) == PRESETS["pyro"]()


def test_changes_to_a_preset_survive_another_estimator():
    changed = Preset(AIRConfig(lstm_units=9, z_pres_kl_weight=3), TrainingConfig(batch_size=5))
    assert presets.with_estimator("default", changed, "concrete") == changed
    model, training = presets.with_estimator("default", changed, "nvil")
    expected = presets.default("nvil")
    assert model == expected.model.replace(lstm_units=9, z_pres_kl_weight=3)
    assert training == expected.training.replace(batch_size=5)
    there_and_back = presets.with_estimator("default", Preset(model, training), "concrete")
    assert there_and_back == changed


def test_presets_of_command_lines_before_they_are_parsed():
    assert presets.of_flags("pyro", None) == ("pyro", PRESETS["pyro"]())
    assert presets.of_flags(None, "nvil") == ("default", presets.default("nvil"))
    assert presets.of_flags("no such", "no such", "no such") == ("default", PRESETS["default"]())
    for channels in ("3", 3):
        assert presets.of_flags("backgrounds", None, channels) == ("backgrounds", presets.recipe("backgrounds", channels=3))


@pytest.mark.parametrize("name", ["original", "original_corrected", "paper", "kosiorek", "pyro"])
def test_published_presets_lack_this_projects_additions(name):
    model, _ = PRESETS[name]()
    assert (model.looks, model.refiner_units, model.learn_count_prior_after) == (1, (), None)
    for field in ("z_pres", "scale", "shift", "z_what"):
        assert getattr(model, f"{field}_kl_weight") == Schedule("constant", 1.0), field


def test_the_paper_preset_has_the_published_numbers():
    model, training = PRESETS["paper"]()
    published = {
        "estimator": "nvil",
        "controller": "latents",
        "lstm_units": 256,
        "z_what_size": 50,
        "likelihood": "normal",
        "likelihood_std": Schedule("constant", 0.3),
    }
    assert {name: getattr(model, name) for name in published} == published
    odds = [float(model.z_pres_prior_odds(step)) for step in (0, 100_000, 300_000)]
    assert odds == pytest.approx([1e4, 1e-5, 1e-5], rel=1e-3)
    assert (training.batch_size, training.iterations) == (64, 300_000)
    assert training.learning_rate == Schedule("constant", 1e-4)
    assert training.baseline_learning_rate == Schedule("constant", 1e-3)


def test_the_pyro_preset_has_pyros_prior_of_the_scale():
    """1 / scale is about Normal(3, 0.2)."""
    model, training = PRESETS["pyro"]()
    mean, variance = model.scale_prior_mean.initial, model.scale_prior_variance.initial
    inverse = 1 + np.exp(-np.random.default_rng(0).normal(mean, variance**0.5, 100_000))
    assert inverse.mean() == pytest.approx(3, abs=0.02)
    assert inverse.std() == pytest.approx(0.2, abs=0.005)
    assert (model.estimator, model.controller, model.likelihood) == ("nvil", "latents", "normal")
    assert training.baseline_learning_rate == Schedule("constant", 0.1)
