"""Text that comes piece by piece, for `for` and for `async for`."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Any, Callable, NamedTuple, Optional, Type

from ._run import Run
from .errors import CancelledError

_ENDS = (None, "stop_token", "stop_text", "tokens", "time", "closed", "position", "loop")


def end_name(end: int) -> Optional[str]:
    """The name of a MOKA_END_..."""
    return _ENDS[end] if end < len(_ENDS) else f"end {end}"


class Ended(NamedTuple):
    """What is known at the end; the fields of Reply."""

    end: Optional[str]
    tokens: int
    drafted: int
    accepted: int
    turn: Optional[int] = None


class Reply:
    """What the model writes: an iterator, and an asynchronous one, of texts in whole characters.

    Nothing happens before the first piece is asked for, and between two pieces nothing does: closing
    the iterator, leaving the loop, Ctrl-C and the cancellation of a task end the writing behind the
    piece that was given last (when none was given yet, the call is undone). `async for` works on a
    thread of its own and leaves the event loop free. One thread, or task, at a time.

    While it is open, session or chat serve nothing else: BusyError.
    """

    def __init__(self, make: Callable[[], Run], seed: int) -> None:
        self._make = make
        self._run: Optional[Run] = None
        self._over = False
        self.seed = seed
        """What the draws began from: with it the same text is written again."""
        self.end: Optional[str] = None
        """Why it ended: "stop_token", "stop_text", "tokens" (max_tokens), "time" (max_ms), "closed"
        (by you), "position" (the model reads no more) or "loop"; None before, and after an error."""
        self.tokens = 0
        """How many were written; known at the end."""
        self.drafted = 0
        """Guesses that were tried (see lookup); known at the end, as is:"""
        self.accepted = 0
        """How many of them came true."""
        self.turn: Optional[int] = None
        """In a chat the id of the turn that was written; known at the end."""

    def _started(self) -> Run:
        if self._run is None:
            run = self._run = self._make()
            try:
                run.start()
            except Exception:
                self._run = None
                raise
        return self._run

    def _finish(self) -> None:
        self._over = True
        run = self._run
        if run is not None and run.result is not None:
            self.end, self.tokens, self.drafted, self.accepted, self.turn = run.result
        elif run is None or isinstance(run.error, CancelledError):
            self.end = "closed"

    def __iter__(self) -> "Reply":
        return self

    def __next__(self) -> str:
        if self._over:
            raise StopIteration
        try:
            run = self._started()
            with run.cond:
                run.want()
                while run.piece is None and not run.ended:
                    run.cond.wait()
                piece = run.take()
        except BaseException:
            if self._run is not None:  # else it has not begun, and still may
                self.close()
            raise
        if piece is None:
            self._finish()
            raise StopIteration
        return piece

    def text(self) -> str:
        """All of it, or all that is left."""
        return "".join(self)

    def close(self) -> None:
        """Ends the writing and waits for that: a token, or a chunk of the prompt. Can be repeated."""
        if self._over:
            return
        if self._run is not None:
            self._run.stop()
        self._finish()

    def __aiter__(self) -> "Reply":
        return self

    async def __anext__(self) -> str:
        if self._over:
            raise StopAsyncIteration
        try:
            run = self._started()
            await _until(run, run.want)
            with run.cond:
                piece = run.take()
        except BaseException:
            if self._run is not None:
                await self.aclose()
            raise
        if piece is None:
            self._finish()
            raise StopAsyncIteration
        return piece

    async def aclose(self) -> None:
        """As close(), and leaves the event loop free meanwhile."""
        if self._over:
            return
        run = self._run
        if run is not None:
            run.ask_to_stop()
            await _ended(run)
        self._finish()

    def __enter__(self) -> "Reply":
        return self

    def __exit__(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        self.close()

    async def __aenter__(self) -> "Reply":
        return self

    async def __aexit__(self, *error: Any) -> None:
        await self.aclose()

    def __del__(self) -> None:
        # The thread knows the run and not this object: who leaves a loop early lets go of it.
        if not getattr(self, "_over", True):
            self.close()


async def _ended(run: Run) -> None:
    """As Run.stop() waits."""
    while not run.ended:
        try:
            await asyncio.wait_for(_until(run, lambda: run.ended), 1)
        except asyncio.TimeoutError:
            run.cancel()


def _set(happened: "asyncio.Future[None]") -> None:
    if not happened.done():
        happened.set_result(None)


async def _until(run: Run, there: Callable[[], bool]) -> None:
    """Waits in the event loop until the run says that something happened and `there` holds."""
    loop = asyncio.get_running_loop()
    while True:
        happened = loop.create_future()

        def wake() -> None:
            try:
                loop.call_soon_threadsafe(_set, happened)
            except RuntimeError:
                pass  # the loop is closed: nobody waits

        with run.cond:
            if there():
                return
            run.wake = wake
        await happened
