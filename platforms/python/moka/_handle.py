"""Handles of the C interface: closed once, never in use while they are freed."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import Any, Iterator

from ._library import lib
from .errors import BusyError, ClosedError


class Handle:
    """A pointer that moka_`kind`_free takes. `exclusive`: one call at a time may use it.

    close() may come from any thread; while calls use the pointer, the last of them frees it. `kept`
    is memory that the library uses in place.
    """

    def __init__(self, pointer: int, kind: str, exclusive: bool, kept: Any = None) -> None:
        self.kept = kept
        self._pointer = pointer
        self._kind = kind
        self._exclusive = exclusive
        self._free = getattr(lib, f"moka_{kind}_free")
        self._lock = threading.Lock()
        self._users = 0
        self._closed = False

    def enter(self) -> int:
        """The pointer, until leave()."""
        with self._lock:
            if self._closed:
                raise ClosedError(f"the {self._kind} is closed")
            if self._exclusive and self._users:
                raise BusyError(
                    f"the {self._kind} is in use: by another thread, or by a reply that has not "
                    "ended; read that to its end or close() it"
                )
            self._users += 1
            return self._pointer

    def leave(self) -> None:
        with self._lock:
            self._users -= 1
            last = self._closed and self._users == 0
        if last:
            self._free(self._pointer)

    @contextmanager
    def use(self) -> Iterator[int]:
        pointer = self.enter()
        try:
            yield pointer
        finally:
            self.leave()

    def signal(self, name: str) -> None:
        """Calls moka_`name`, which may come at any time, unless the handle is closed and unused."""
        with self._lock:
            if not self._closed or self._users:
                getattr(lib, f"moka_{name}")(self._pointer)

    @property
    def closed(self) -> bool:
        return self._closed

    def close(self) -> None:
        with self._lock:
            if self._closed:
                return
            self._closed = True
            last = self._users == 0
        if last:
            self._free(self._pointer)

    def __del__(self) -> None:
        if hasattr(self, "_closed"):
            self.close()
