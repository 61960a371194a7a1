"""Hypothesis strategies that damage files, and the outcome that is expected of reading them."""

import io
import zipfile

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from air.errors import AIRError


def scaled(number, most):
    """Return `number`, or `most` in the fuzz profile."""
    return most if settings.default.max_examples > settings().get_profile("default").max_examples else number


def cases(number):
    """Return the settings of a test with this many cases, fifty times as many in the fuzz profile."""
    checks = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large]
    return settings(max_examples=scaled(number, 50 * number), deadline=None, suppress_health_check=checks)


def outcome(load, *arguments):
    """Return what a reader makes of a file, or the message of its AIRError; any other exception fails the test."""
    try:
        return load(*arguments)
    except AIRError as error:
        message = str(error)
        assert message
        assert message.isprintable(), message
        assert len(message) <= 1500
        return message


def _flip(draw, content):
    content[draw(st.integers(0, len(content) - 1))] ^= 1 << draw(st.integers(0, 7))


def _truncate(draw, content):
    del content[draw(st.integers(0, len(content) - 1)) :]


def _overwrite(draw, content):
    start = draw(st.integers(0, len(content) - 1))
    new = draw(
        st.sampled_from([b"\0\0\0\0", b"\xff\xff\xff\xff", b"-1", b"1e999", b"NaN"]) | st.binary(min_size=1, max_size=64)
    )
    content[start : start + len(new)] = new


def _insert(draw, content):
    at = draw(st.integers(0, len(content)))
    content[at:at] = draw(st.binary(min_size=1, max_size=64) | st.sampled_from([b"9" * 5000, b"\n\n", b"((("]))


def _delete(draw, content):
    start = draw(st.integers(0, len(content) - 1))
    del content[start : start + draw(st.integers(1, 200))]


@st.composite
def damaged(draw, content):
    """Draw bytes of which some are changed, lost or too many."""
    content = bytearray(content)
    for change in draw(st.lists(st.sampled_from([_flip, _truncate, _overwrite, _insert, _delete]), max_size=3, min_size=1)):
        if content:
            change(draw, content)
    return bytes(content)


@st.composite
def damaged_zip(draw, content):
    """Draw an archive that is damaged, or an intact one in which a member is damaged or missing."""
    kind = draw(st.sampled_from(["archive", "member", "missing"]))
    if kind == "archive":
        return draw(damaged(content))
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    name = draw(st.sampled_from(sorted(members)))
    member = members.pop(name)
    if kind == "member":
        members[name] = draw(damaged(member))
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, member in members.items():
            archive.writestr(name, member)
    return file.getvalue()


_VALUES = st.sampled_from([None, True, -1, 0, 2**64, 1.5, float("inf"), float("nan"), "", "\0", "x" * 3000, [], {}])


@st.composite
def changed_json(draw, tree):
    """Draw a copy of a JSON value in which one value, anywhere, is different, missing or new."""
    if isinstance(tree, (dict, list)) and tree and draw(st.integers(0, 5)):
        copy = tree.copy()
        key = draw(st.sampled_from(list(tree) if isinstance(tree, dict) else range(len(tree))))
        change = draw(st.sampled_from(["deeper", "deeper", "deeper", "missing", "new"]))
        if change == "missing":
            del copy[key]
        elif change == "new" and isinstance(tree, dict):
            copy[draw(st.text(max_size=8))] = draw(_VALUES)
        else:
            copy[key] = draw(changed_json(tree[key]))
        return copy
    return draw(_VALUES)
