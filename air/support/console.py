"""Progress bars, tables in Markdown, and silence."""

import contextlib
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from tqdm import tqdm


@contextlib.contextmanager
def stage(title: str, total: int = 0) -> Iterator[Callable[[int], Any]]:
    """Show a progress bar of `total` items, or only the title if that is 0, and erase it at the end."""
    form = "{desc} {n}/{total} {bar:20} {remaining} left" if total else "{desc} ..."
    with tqdm(total=total, desc=title, bar_format=form, file=sys.stderr, leave=False, disable=None) as bar:
        yield bar.update


@contextlib.contextmanager
def hidden_notes() -> Iterator[None]:
    """Hide what libraries that are imported write to standard error, C++ code included, unless an import fails."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # for TensorFlow's notes after its import
    sys.stderr.flush()
    with tempfile.TemporaryFile() as notes:
        stderr = os.dup(2)
        os.dup2(notes.fileno(), 2)
        try:
            yield
        except ImportError:
            notes.seek(0)
            os.write(stderr, notes.read())
            raise
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table with an aligned source; all columns but the first are right-aligned."""
    cells = [list(head), *map(list, rows)]
    widths = [max(3, *(len(row[i]) for row in cells)) for i in range(len(head))]

    def line(row: Sequence[str]) -> str:
        first, *others = zip(row, widths, strict=True)
        return "| " + " | ".join([first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in others)]) + " |"

    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    return "\n".join(map(line, [cells[0], rule, *cells[1:]]))
