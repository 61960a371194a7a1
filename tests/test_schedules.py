"""Schedules follow their formulas, and their text form is read back exactly or refused in one line."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from air.schedules import Schedule

FINITE = st.floats(-1e6, 1e6).filter(lambda value: value == 0 or abs(value) > 1e-30)  # float32 has no smaller ones
ABOVE_0 = st.floats(1e-6, 1e6)


@st.composite
def schedules(draw):
    """Draw any valid schedule."""
    kind = draw(st.sampled_from(["constant", "linear", "cosine", "exponential"]))
    if kind == "constant":
        return Schedule(kind, draw(FINITE))
    start = draw(st.just(0.0) | st.floats(0, 1e5))
    if kind != "exponential":
        return Schedule(kind, draw(FINITE), draw(FINITE), steps=draw(st.none() | ABOVE_0), start=start)
    initial, factor = draw(ABOVE_0), draw(st.floats(0.01, 0.99) | st.floats(1.01, 100))
    limit = draw(st.none() | (st.floats(1e-12, initial) if factor < 1 else st.floats(initial, 1e9, exclude_min=True)))
    return Schedule(kind, initial, factor=factor, every=draw(ABOVE_0), limit=limit, start=start)


def expected(schedule, step):
    """Compute the value at one step in float64."""
    s = schedule
    if s.kind == "constant":
        return s.initial
    if s.kind == "linear":
        return np.interp(step, [s.start, s.start + s.steps], [s.initial, s.final])
    elapsed = max(step - s.start, 0)
    if s.kind == "cosine":
        half_wave = (1 + np.cos(np.pi * min(elapsed / s.steps, 1))) / 2
        return s.final + (s.initial - s.final) * half_wave
    with np.errstate(over="ignore"):
        value = s.initial * np.float64(s.factor) ** (elapsed / s.every)
    bound = max if s.factor < 1 else min
    return value if s.limit is None else bound(value, s.limit)


@given(schedules())
@example(Schedule("linear", 1.0, final=0.0, steps=5.0, start=2.0))
@example(Schedule("exponential", 1.0, factor=0.1, every=10.0, limit=0.0))
def test_the_text_form_is_read_back_exactly(schedule):
    text = str(schedule)
    assert Schedule.parse(text) == schedule
    assert str(Schedule.parse(text)) == text


def test_forms_of_the_documentation():
    assert Schedule.parse("0.5") == Schedule.parse(0.5) == Schedule("constant", 0.5)
    assert Schedule.parse(3) == Schedule.parse(np.int64(3)) == Schedule.parse(np.float32(3)) == Schedule("constant", 3.0)
    assert Schedule.parse("linear(1, 0.1, steps=2000)") == Schedule("linear", 1.0, 0.1, steps=2000.0)
    assert Schedule.parse(" cosine(2e-3, 1e-4, 8000) ") == Schedule("cosine", 2e-3, 1e-4, steps=8000.0)
    exponential = Schedule.parse("exponential(1e4, factor=0.1, every=3000, limit=1e-9, start=5)")
    assert exponential == Schedule("exponential", 1e4, factor=0.1, every=3000.0, limit=1e-9, start=5.0)
    assert Schedule.parse(exponential) is exponential


@settings(max_examples=60, deadline=None)
@given(schedules(), st.lists(st.integers(0, 2_000_000), min_size=1, max_size=8))
@example(Schedule("exponential", 1589.0, factor=0.5, every=0.9375), [119])
def test_values_are_those_of_the_formula(schedule, steps):
    schedule = schedule.over(1000)
    # The step's own float32 rounding moves a value by less than a step of 1/8 does; all schedules are monotonic.
    values = np.asarray(schedule(np.array(steps)), np.float64)
    around = np.array([[expected(schedule, step + d) for d in (-0.125, 0.125)] for step in steps])
    around = around.clip(-3.4e38, 3.4e38)
    scale = max(abs(schedule.initial), abs(schedule.final or 0.0))
    tiny = 1e-37 * max(1.0, abs(schedule.initial))  # float32 powers below it are 0 before they are scaled
    slack = tiny + 2e-5 * np.abs(around).max(axis=1) + 1e-6 * (scale if schedule.final is not None else 0.0)
    if schedule.kind == "exponential":  # exp() multiplies the float32 error of its argument
        slack *= 1 + np.abs(np.log(schedule.factor)) * np.maximum(np.array(steps) - schedule.start, 0) / schedule.every
    finite = np.abs(around).max(axis=1) < 1e37
    assert (values >= around.min(axis=1) - slack)[finite].all()
    assert (values <= around.max(axis=1) + slack)[finite].all()


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("2.5", {0: 2.5, 10**6: 2.5}),
        ("linear(1, 0.2, steps=400)", {0: 1, 100: 0.8, 400: 0.2, 9999: 0.2}),
        ("linear(1, 0.2, steps=400, start=100)", {0: 1, 100: 1, 300: 0.6, 500: 0.2}),
        ("cosine(3, 1, steps=300)", {0: 3, 100: 2.5, 150: 2, 300: 1, 301: 1}),
        ("exponential(1e4, factor=0.1, every=3000, limit=1e-9)", {0: 1e4, 3000: 1e3, 1500: 1e4 / 10**0.5, 60_000: 1e-9}),
        ("exponential(2, factor=3, every=10, limit=54, start=5)", {4: 2, 15: 6, 25: 18, 35: 54, 36: 54}),
    ],
)
def test_known_values(text, values):
    answer = Schedule.parse(text)(np.array(list(values)))
    assert answer.dtype.name == "float32" if hasattr(answer.dtype, "name") else answer.dtype == "float32"
    np.testing.assert_allclose(answer, list(values.values()), rtol=1e-4)


def test_a_value_has_the_shape_of_the_step():
    schedule = Schedule.parse("linear(0, 1, steps=6)")
    assert schedule(3).shape == ()
    np.testing.assert_allclose(schedule(np.arange(6).reshape(2, 3)), np.arange(6).reshape(2, 3) / 6, rtol=1e-6)


@settings(max_examples=60, deadline=None)
@given(schedules())
def test_range(schedule):
    schedule = schedule.over(1000)
    end = schedule.start + (schedule.steps or 0)
    values = np.asarray(schedule(np.array([0, schedule.start, (schedule.start + end) / 2, end, 2 * end + 1, 1e15])), np.float64)
    slack = 1e-5 * max(abs(schedule.initial), abs(schedule.final or 0), abs(schedule.limit or 0))
    minimum, maximum = schedule.range
    assert minimum - slack <= values.min()
    assert values.max() <= maximum + slack
    if schedule.kind != "exponential" or schedule.limit is not None:
        assert [values.min(), values.max()] == pytest.approx([minimum, maximum], rel=1e-5, abs=slack)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "neither a number nor a schedule"),
        ("fast", "neither"),
        ("linear(1, 2, steps=5", "neither"),
        ("linear(1, 2)(3)", "neither"),
        ("linear(1, x)", "neither"),
        ("linear()", "neither"),
        ("1 + 1", "neither"),
        ("initial=3", "neither"),
        ("linear(__import__('os').getpid(), 1, steps=3)", "neither"),
        (None, "neither"),
        (True, "neither"),
        (b"1", "neither"),
        ("nan", "finite"),
        ("-inf", "finite"),
        (10**400, "finite"),
        ("linear(1, 2, steps=1e999)", "finite"),
        ("sawtooth(1, 2, steps=3)", "use one of constant, linear, cosine, exponential"),
        ("linear(1)", "needs final"),
        ("exponential(1, factor=0.1)", "needs every"),
        ("linear(final=1, steps=3)", "lacks its initial value"),
        ("linear(1, 2, 3, 4, 5, 6)", "takes \\(initial, final, steps, start\\)"),
        ("linear(1, 2, steps=5, every=3)", "takes"),
        ("linear(1, 2, initial=3)", "takes"),
        ("linear(1, 2, steps=3, steps=4)", "takes"),
        ("constant(1, start=5)", "takes"),
        ("linear(1, 2, steps=0)", "steps must be above 0, not 0"),
        ("exponential(1, factor=-0.1, every=3)", "factor must be above 0"),
        ("exponential(-1, factor=2, every=1)", "initial must be above 0"),
        ("exponential(1, 0.1, 10, limit=2)", "limit must be at most the initial"),
        ("exponential(1, 10, 10, limit=0.5)", "limit must be at least the initial"),
        ("linear(1, 2, steps=5, start=-1)", "start must be 0 or more"),
    ],
)
def test_refusals(text, words):
    with pytest.raises(ValueError, match=words) as caught:
        Schedule.parse(text)
    assert "\n" not in str(caught.value)


def test_fields_of_another_kind_are_refused():
    for fields in ({"steps": 3}, {"limit": 3}, {"start": 3}):
        with pytest.raises(ValueError, match="constant schedule has no"):
            Schedule("constant", 1.0, **fields)


@given(st.text(max_size=30) | st.text("linearcosexpt()=,.0123456789e-+ *'_", max_size=40))
def test_any_text_is_read_or_refused(text):
    try:
        schedule = Schedule.parse(text)
    except ValueError:
        return
    assert np.isfinite(schedule.initial)


@pytest.mark.parametrize("kind", ["linear", "cosine"])
def test_over(kind):
    schedule = Schedule.parse(f"{kind}(2, 1, start=100)")
    assert schedule.is_open_ended
    with pytest.raises(ValueError, match="over"):
        schedule(0)
    whole = schedule.over(500)
    assert not whole.is_open_ended
    np.testing.assert_allclose(whole(np.array([0, 100, 300, 500, 501])), [2, 2, 1.5, 1, 1], rtol=1e-6)
    assert whole.over(9) == whole
    assert float(schedule.over(50)(101)) == 1  # a run that ends before the start still has a schedule


@pytest.mark.parametrize("value", ["0.5", "exponential(1, factor=0.5, every=3)"])
def test_over_leaves_others_alone(value):
    schedule = Schedule.parse(value)
    assert not schedule.is_open_ended
    assert schedule.over(7) == schedule


def test_is_zero():
    assert Schedule.parse(0).is_zero
    assert not Schedule.parse("1e-9").is_zero
    assert not Schedule.parse("linear(0, 1, steps=5)").is_zero
