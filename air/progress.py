"""Progress bars on standard error, for people only: a log gets none."""

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import Any

from tqdm import tqdm


@contextlib.contextmanager
def stage(title: str, total: int = 0) -> Iterator[Callable[[int], Any]]:
    """A progress bar of `total` things, or just the title where that is 0; it leaves no line behind."""
    form = "{desc} {n}/{total} {bar:20} {remaining} left" if total else "{desc} ..."
    with tqdm(total=total, desc=title, bar_format=form, file=sys.stderr, leave=False, disable=None) as bar:
        yield bar.update
