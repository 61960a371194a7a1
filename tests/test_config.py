"""Configurations survive JSON, don't change, and refuse impossible values with a line that helps."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from air import presets
from air.config import AIRConfig, TrainingConfig
from air.errors import ConfigError, UsageError
from air.presets import PRESETS, Preset
from air.schedules import Schedule

CONFIGS = [config for preset in PRESETS.values() for config in preset()]
SIZES = st.tuples(st.integers(50, 256), st.integers(50, 256))
UNITS = st.lists(st.integers(1, 1024), max_size=4)  # never more weights than are allowed
SCHEDULED = st.floats(1e-6, 1e6) | st.builds("linear({}, {}, steps={})".format, *[st.floats(1e-6, 1e6)] * 3)


def refusal(cls, **fields):
    with pytest.raises(ConfigError) as caught:
        cls(**fields)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: type(config).__name__)
def test_json_round_trip(config):
    copy = type(config).from_json(config.to_json())
    assert copy == config
    assert copy.to_json() == config.to_json()
    assert set(json.loads(config.to_json())) == set(type(config).model_fields)


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "canvas_size": SIZES,
            "max_steps": st.integers(1, 16),
            "head_units": UNITS,
            "controller_input": st.sampled_from(["canvas", "latents", "residual"]),
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
def test_json_round_trip_of_any_model(fields):
    config = AIRConfig(**fields)
    assert AIRConfig.from_json(config.to_json()) == config
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
    assert TrainingConfig.from_json(config.to_json()) == config


@pytest.mark.parametrize("text", ["cosine(1, 0, steps=5, start=2)", "exponential(1, factor=0.1, every=10, limit=0)"])
def test_json_round_trip_of_unusual_schedules(text):
    config = AIRConfig(decoder_noise=text)
    assert AIRConfig.from_json(config.to_json()) == config


@pytest.mark.parametrize(
    ("cls", "field", "value", "allowed"),
    [
        (AIRConfig, "canvas_size", (50,), "required"),
        (AIRConfig, "canvas_size", (50, 3), "equal to 4"),
        (AIRConfig, "canvas_size", (50, 1025), "1024"),
        (AIRConfig, "canvas_size", (50, 50, 1), "2 items"),
        (AIRConfig, "window_size", (0, 28), "equal to 4"),
        (AIRConfig, "window_size", "28x28", "tuple"),
        (AIRConfig, "max_steps", 0, "equal to 1"),
        (AIRConfig, "max_steps", 17, "equal to 16"),
        (AIRConfig, "max_steps", 2.5, "integer"),
        (AIRConfig, "max_steps", None, "integer"),
        (AIRConfig, "lstm_units", 0, "equal to 1"),
        (AIRConfig, "head_units", (64, 0), "equal to 1"),
        (AIRConfig, "cnn_kernels", (3, 3, 3, 3, 3), "cnn_filters"),
        (AIRConfig, "cnn_strides", (50, 50), "canvas_size"),
        (AIRConfig, "z_what_size", -1, "equal to 1"),
        (AIRConfig, "controller_input", "image", "'canvas', 'latents' or 'residual'"),
        (AIRConfig, "presence", "reinforce", "'concrete', 'nvil' or 'enumerated'"),
        (AIRConfig, "likelihood", "bernoulli", "'cross_entropy' or 'normal'"),
        (AIRConfig, "likelihood_std", 0.0, "above 0"),
        (AIRConfig, "learn_count_prior_after", -1, "equal to 0"),
        (AIRConfig, "refiner_units", (16, 0), "equal to 1"),
        (AIRConfig, "baseline_units", (0,), "equal to 1"),
        (AIRConfig, "refinement", -0.1, "at least 0"),
        (AIRConfig, "looks", 3, "1 or 2"),
        (TrainingConfig, "baseline_learning_rate", 0, "above 0"),
        (AIRConfig, "activation", "sigmoid", "softplus"),
        (AIRConfig, "decoder_bias", float("nan"), "finite"),
        (AIRConfig, "decoder_bias", float("inf"), "finite"),
        (AIRConfig, "decoder_bias", "dark", "number"),
        (AIRConfig, "decoder_noise", -0.1, "at least 0"),
        (AIRConfig, "scale_prior_mean", float("-inf"), "finite"),
        (AIRConfig, "scale_prior_variance", 0.0, "above 0"),
        (AIRConfig, "z_what_prior_variance", -1.0, "above 0"),
        (AIRConfig, "z_pres_prior_odds", 0, "above 0"),
        (AIRConfig, "z_pres_prior_odds", "linear(1, 0, steps=10)", "above 0"),
        (AIRConfig, "z_pres_prior_odds", "exponential(1, factor=0.1, every=3, limit=0)", "above 0"),
        (AIRConfig, "temperature", float("nan"), "finite"),
        (AIRConfig, "temperature", float("inf"), "finite"),
        (AIRConfig, "temperature", "linear(1, 0.5)", "needs its steps"),
        (AIRConfig, "temperature", "__import__('os')", "neither a number nor a schedule"),
        (AIRConfig, "temperature", True, "neither a number nor a schedule"),
        (AIRConfig, "stop_threshold", 0.0, "above 0"),
        (AIRConfig, "stop_threshold", 1.0, "below 1"),
        (AIRConfig, "z_what_kl_weight", -1, "at least 0"),
        (TrainingConfig, "iterations", 0, "equal to 1"),
        (TrainingConfig, "batch_size", -64, "equal to 1"),
        (TrainingConfig, "learning_rate", 0, "above 0"),
        (TrainingConfig, "learning_rate", "cosine(1e-3, -1e-3)", "above 0"),
        (TrainingConfig, "clip_norm", 0.0, "above 0"),
        (TrainingConfig, "seed", -1, "equal to 0"),
        (TrainingConfig, "seed", 2**31, str(2**31)),
        (TrainingConfig, "xla", "perhaps", "boolean"),
        (TrainingConfig, "keep_checkpoints", 0, "equal to 1"),
    ],
)
def test_refusals_name_field_value_and_what_is_allowed(cls, field, value, allowed):
    message = refusal(cls, **{field: value})
    assert message.startswith(field)
    assert allowed in message
    parts = value if isinstance(value, tuple) else (value,)
    shown = message.removeprefix(field).split(";")[0]
    if isinstance(value, str) and value.startswith(("linear", "cosine", "exponential")):
        parts = (value.split("(")[0],)
    assert any(str(part) in shown for part in parts)


def test_the_error_is_one_of_usage():
    assert issubclass(ConfigError, UsageError)
    assert issubclass(ConfigError, ValueError)


def test_numbers_beyond_floats_are_refused():
    assert "temperature" in refusal(AIRConfig, temperature=10**400)
    with pytest.raises(ConfigError, match="temperature"):
        AIRConfig.from_json(f'{{"temperature": {10**400}}}')


@pytest.mark.parametrize(
    "odds", [1e-60, "exponential(1e4, factor=0.1, every=1)", "exponential(1, factor=0.1, every=1, limit=1e-60)"]
)
def test_what_must_be_above_0_is_so_in_float32_or_refused(odds):
    try:
        config = AIRConfig(z_pres_prior_odds=odds)
    except ConfigError as error:
        assert "z_pres_prior_odds" in str(error)  # noqa: PT017
    else:
        assert float(config.z_pres_prior_odds(100_000)) > 0


def test_incomplete_cnn():
    message = refusal(AIRConfig, cnn_filters=(8,), cnn_kernels=(3, 3), cnn_strides=(1,), cnn_pools=(1,))
    assert "cnn_kernels" in message
    assert "(3, 3)" in message
    assert "cnn_filters" in message


@pytest.mark.parametrize("cls", [AIRConfig, TrainingConfig])
def test_unknown_fields_are_refused_with_the_known_ones(cls):
    message = refusal(cls, max_step=3)
    assert message.startswith("max_step:")
    for field in cls.model_fields:
        assert field in message


@pytest.mark.parametrize("text", ["", "{", "3", "null", "[]", '"max_steps"', '{"max_steps": NaN}', '{"max_steps": {}}', "\0"])
def test_bad_json(text):
    with pytest.raises(ConfigError) as caught:
        AIRConfig.from_json(text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("constant", ["NaN", "Infinity", "-Infinity"])
def test_json_numbers_are_finite(constant):
    for field in ("decoder_bias", "temperature"):
        with pytest.raises(ConfigError, match=field):
            AIRConfig.from_json(f'{{"{field}": {constant}}}')


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


def test_scheduled_fields():
    assert {"temperature", "z_pres_prior_odds", "decoder_noise"} <= set(AIRConfig().scheduled_fields)
    assert "max_steps" not in AIRConfig().scheduled_fields


def test_the_default_preset_is_the_defaults():
    assert PRESETS["default"]() == (AIRConfig(), TrainingConfig())


def test_the_original_preset_has_the_published_numbers():
    model, training = PRESETS["original"]()
    published = {
        "canvas_size": (50, 50),
        "window_size": (28, 28),
        "max_steps": 3,
        "lstm_units": 256,
        "head_units": (64,),
        "cnn_filters": (),
        "encoder_units": (512, 256),
        "decoder_units": (256, 512),
        "z_what_size": 50,
        "activation": "softplus",
        "decoder_bias": 0.0,
    }
    assert {name: getattr(model, name) for name in published} == published
    scheduled = {
        "decoder_noise": 0.3,
        "temperature": 1.0,
        "scale_prior_mean": -1.0,
        "scale_prior_variance": 0.05,
        "shift_prior_mean": 0.0,
        "shift_prior_variance": 1.0,
        "z_what_prior_mean": 0.0,
        "z_what_prior_variance": 1.0,
        "stop_threshold": 0.99,
        "z_pres_kl_weight": 1.0,
        "scale_kl_weight": 1.0,
        "shift_kl_weight": 1.0,
        "z_what_kl_weight": 1.0,
    }
    for name, value in scheduled.items():
        assert getattr(model, name) == Schedule("constant", value), name
    odds = model.z_pres_prior_odds
    assert odds == Schedule("exponential", initial=1e4, factor=0.1, every=3000, limit=1e-9, start=0)
    assert training.batch_size == 64
    assert training.clip_norm == Schedule.parse(1.0)
    assert training.learning_rate == Schedule("constant", 1e-4)
    assert training.iterations == 300 * 59_000 // 64


@pytest.mark.parametrize("presence", ["enumerated", "nvil"])
def test_the_default_preset_has_a_recipe_for_each_estimator(presence):
    """The posterior of the count is held to moderate odds at first; networks are those of the Concrete recipe."""
    model, training = presets.recipe("default", presence)
    assert model.estimator == presence
    assert 0.5 < float(model.z_pres_prior_odds(0)) < 5 < 50 <= float(model.z_pres_kl_weight(0))
    end = training.iterations
    assert float(model.z_pres_kl_weight(end)) == 1
    assert float(model.z_pres_prior_odds(end)) == pytest.approx(float(AIRConfig().z_pres_prior_odds(end)))
    counting = {name: getattr(AIRConfig(), name) for name in ("presence", "z_pres_prior_odds", "z_pres_kl_weight")}
    assert model.replace(**counting) == AIRConfig()


def test_another_estimator_of_another_preset_changes_nothing_else():
    model, training = presets.recipe("original", "nvil")
    assert (model.replace(estimator="concrete"), training) == PRESETS["original"]()
    assert presets.recipe("pyro") == PRESETS["pyro"]()


def test_changes_of_a_preset_outlive_another_estimator():
    changed = Preset(AIRConfig(lstm_units=9, z_pres_kl_weight=3), TrainingConfig(batch_size=5))
    assert presets.with_estimator("default", changed, "concrete") == changed
    model, training = presets.with_estimator("default", changed, "nvil")
    expected = presets.default("nvil")
    assert model == expected.model.replace(lstm_units=9, z_pres_kl_weight=3)
    assert training == expected.training.replace(batch_size=5)
    there_and_back = presets.with_estimator("default", Preset(model, training), "concrete")
    assert there_and_back == changed


@pytest.mark.parametrize("name", ["original", "paper", "pyro"])
def test_presets_of_others_have_nothing_of_ours(name):
    """Neither a refiner, nor a second look, nor another loss than the negative ELBO."""
    model, _ = PRESETS[name]()
    assert (model.looks, model.refiner_units, model.learn_count_prior_after) == (1, (), None)
    for field in ("z_pres", "scale", "shift", "z_what"):
        assert getattr(model, f"{field}_kl_weight") == Schedule("constant", 1.0), field


def test_the_paper_preset_has_the_published_numbers():
    model, training = PRESETS["paper"]()
    published = {
        "estimator": "nvil",
        "controller_input": "latents",
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
    assert (model.estimator, model.controller_input, model.likelihood) == ("nvil", "latents", "normal")
    assert training.baseline_learning_rate == Schedule("constant", 0.1)
