# SPDX-License-Identifier: Apache-2.0
"""A progress bar: tqdm's where it is installed (also in notebooks), else one line on standard error."""
from __future__ import annotations

import sys
import threading
import time
from typing import Any, Optional, Union

WIDTH = 30


class _Line:
    """A bar of our own. Redrawn ten times a second at most, and at the end."""

    def __init__(self, total: int, text: str, out: Any):
        self.total, self.text, self.out = total, text, out
        self.done, self.drawn, self.began = 0, 0.0, time.monotonic()
        self._lock = threading.Lock()

    def update(self, n: int = 1) -> None:
        with self._lock:
            self.done += n
            now = time.monotonic()
            if now - self.drawn >= 0.1 or self.done >= self.total:
                self.drawn = now
                self._draw(now)

    def _draw(self, now: float) -> None:
        share = self.done / self.total if self.total else 1.0
        rate = self.done / max(now - self.began, 1e-9)
        left = (self.total - self.done) / rate if rate else 0.0
        self.out.write("\r%s |%s| %d/%d  %.0f/s  %s " % (
            self.text, ("#" * int(WIDTH * share)).ljust(WIDTH, "."), self.done, self.total, rate,
            "%d s left" % round(left) if self.done < self.total else "%.1f s" % (now - self.began)))
        self.out.flush()

    def close(self) -> None:
        with self._lock:
            self.out.write("\n")
            self.out.flush()


class _Nothing:
    def update(self, n: int = 1) -> None:
        pass

    def close(self) -> None:
        pass


def bar(total: int, show: Optional[Union[bool, str]], out: Any = None) -> Any:
    """An object with ``update(n)`` and ``close()``. show: True, or the text before the bar; None: only where a person is looking
    (a terminal) and it is worth it; False: never."""
    out = out or sys.stderr
    if show is None:
        show = total >= 100 and getattr(out, "isatty", lambda: False)()
    if not show:
        return _Nothing()
    text = show if isinstance(show, str) else "tasks"
    try:
        from tqdm.auto import tqdm
    except ImportError:
        return _Line(total, text, out)
    return tqdm(total=total, desc=text, file=out)
