"""What may have happened to a file: strategies of hypothesis that turn good content into bad, and what is expected of it."""

import io
import resource
import signal
import struct
import sys
import warnings
import zipfile

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from air.errors import AIRError

PATIENCE = 60  # seconds after which a file hangs
MAX_MEMORY = 400 << 20  # bytes that no small file may take; the code of libraries that are loaded on first use included
HOSTILE_NAMES = [
    "../../evil.npy",
    "/etc/evil.npy",
    "images.npy",
    "config.json",
    "model.weights.h5",
    "\u202e.npy",
    "a" * 300,
    "",
]


def scaled(number, most):
    """`number`, or `most` in the fuzz profile."""
    return most if settings.default.max_examples > settings().get_profile("default").max_examples else number


def cases(number):
    """Settings of a test with this many cases, fifty times as many in the fuzz profile."""
    checks = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large]
    return settings(max_examples=scaled(number, 50 * number), deadline=None, suppress_health_check=checks)


def outcome(load, *arguments):
    """What a reader makes of a file; the message of its error, which must be one line and a user's.

    Whatever else it raises, and more time or memory than a small file can need, is a failure.
    """
    unit = 1 if sys.platform == "darwin" else 1024

    def expired(*_):
        raise TimeoutError(f"more than {PATIENCE} s")

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    previous = signal.signal(signal.SIGALRM, expired)
    signal.alarm(PATIENCE)
    try:
        result = load(*arguments)
    except AIRError as error:
        result = str(error)
        assert result
        assert result.isprintable(), result
        assert len(result) <= 1500
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, previous)
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * unit < MAX_MEMORY
    return result


def _flip(draw, content):
    for _ in range(draw(st.integers(1, 8))):
        content[draw(st.integers(0, len(content) - 1))] ^= 1 << draw(st.integers(0, 7))


def _truncate(draw, content):
    del content[draw(st.integers(0, len(content) - 1)) :]


def _overwrite(draw, content):
    start = draw(st.integers(0, len(content) - 1))
    values = [b"\0\0\0\0", b"\xff\xff\xff\xff", b"\xff\xff\xff\x7f", b"\0\0\0\x80", b"-1", b"1e999", b"NaN", b'"\\ud800"']
    new = draw(st.sampled_from(values) | st.binary(min_size=1, max_size=64))
    content[start : start + len(new)] = new


def _insert(draw, content):
    at = draw(st.integers(0, len(content)))
    content[at:at] = draw(st.binary(min_size=1, max_size=64) | st.sampled_from([b"[" * 3000, b"9" * 5000, b"\n\n", b"((("]))


def _delete(draw, content):
    start = draw(st.integers(0, len(content) - 1))
    del content[start : start + draw(st.integers(1, 200))]


def _repeat(draw, content):
    start = draw(st.integers(0, len(content) - 1))
    content[start:start] = content[start : start + draw(st.integers(1, 200))] * draw(st.integers(1, 3))


@st.composite
def damaged(draw, content):
    """Bytes of which some are changed, lost or too many."""
    content = bytearray(content)
    for change in draw(
        st.lists(st.sampled_from([_flip, _truncate, _overwrite, _insert, _delete, _repeat]), max_size=3, min_size=1)
    ):
        if content:
            change(draw, content)
    return bytes(content)


@st.composite
def damaged_zip(draw, content):
    """An archive that is damaged as a whole, or whole but with other members, or whose directory lies."""
    kind = draw(st.sampled_from(["bytes", "members", "members", "directory"]))
    if kind == "bytes":
        return draw(damaged(content))
    if kind == "directory":
        return draw(_lying(content))
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = [(name, archive.read(name)) for name in archive.namelist()]
    which = draw(st.integers(0, len(members) - 1))
    name, member = members[which]
    change = draw(st.sampled_from(["content", "content", "content", "drop", "duplicate", "rename", "add", "bomb"]))
    if change == "content":
        members[which] = name, draw(damaged(member))
    elif change == "drop":
        del members[which]
    elif change == "duplicate":
        members.append((name, draw(damaged(member))))
    elif change == "rename":
        members[which] = draw(st.sampled_from(HOSTILE_NAMES)), member
    elif change == "add":
        members.append((draw(st.sampled_from(HOSTILE_NAMES)), draw(st.binary(max_size=100))))
    else:
        members[which] = name, member[:100] + bytes(1 << 22)
    file = io.BytesIO()
    methods = [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA]
    with zipfile.ZipFile(file, "w", draw(st.sampled_from(methods))) as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about names that are there twice
        for name, member in members:
            archive.writestr(zipfile.ZipInfo(name), member, archive.compression)
    return file.getvalue()


@st.composite
def _lying(draw, content):
    """An archive with impossible numbers in an entry of its directory: sizes, checksums, methods, flags, places."""
    content = bytearray(content)
    entries = [i for i in range(len(content) - 46) if content[i : i + 4] == b"PK\x01\x02"]
    entry = draw(st.sampled_from(entries))
    offset, form = draw(
        st.sampled_from([(8, "H"), (10, "H"), (16, "I"), (20, "I"), (24, "I"), (28, "H"), (30, "H"), (42, "I")])
    )
    most = 2 ** (8 * struct.calcsize(form)) - 1
    struct.pack_into(f"<{form}", content, entry + offset, draw(st.sampled_from([0, 1, most, most - 1]) | st.integers(0, most)))
    return bytes(content)


_SCALARS = st.sampled_from(
    [None, True, -1, 0, 1, 2**31, 2**64, 10**400, 1.5, float("inf"), float("nan"), "", "\0", "\ud800", "x" * 3000, [], {}]
)
_VALUES = st.recursive(
    _SCALARS | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@st.composite
def changed_json(draw, tree):
    """A copy of a JSON value in which one value, anywhere, is another, or missing, or has a stranger beside it."""
    if isinstance(tree, (dict, list)) and tree and draw(st.integers(0, 5)):
        copy = tree.copy()
        key = draw(st.sampled_from(list(tree) if isinstance(tree, dict) else range(len(tree))))
        change = draw(st.sampled_from(["deeper", "deeper", "deeper", "drop", "add"]))
        if change == "drop":
            del copy[key]
        elif change == "add" and isinstance(tree, dict):
            copy[draw(st.text(max_size=8) | st.sampled_from(["self", "cls", "class_name", "module"]))] = draw(_VALUES)
        else:
            copy[key] = draw(changed_json(tree[key]))
        return copy
    return draw(_VALUES)
