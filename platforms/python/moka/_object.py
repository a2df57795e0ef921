"""What models, sessions, samplers, executors and chats have in common."""

from __future__ import annotations

from typing import Any, TypeVar

from ._handle import Handle

Self = TypeVar("Self", bound="Closing")


class Closing:
    """Closed by close(), at the end of a `with` block, or when nothing refers to it any more.

    Any call on it after that raises ClosedError; close() itself can be repeated.
    """

    _handle: Handle

    def close(self) -> None:
        """Frees what it holds. A call of another thread that is under way ends first."""
        self._handle.close()

    @property
    def closed(self) -> bool:
        return self._handle.closed

    def __enter__(self: Self) -> Self:
        self._handle.enter()  # ClosedError here, and not at the first call
        self._handle.leave()
        return self

    def __exit__(self, *error: Any) -> None:
        self.close()
