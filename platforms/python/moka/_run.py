"""A call of the library on a thread of its own, so that who waits for it can be interrupted, and so
that text can be had piece by piece: the call stands still in its callback until the next is asked for.
"""

from __future__ import annotations

import ctypes
import threading
from typing import Any, Callable, Optional, Union

from . import _abi
from ._handle import Handle
from .errors import CancelledError

# Told of a text; gives the value that a moka_text_fn gives.
OnText = Callable[[Any, int, int], int]


class Run:
    """`work(run)` on another thread, in which it may use `handle`. All state is under `cond`."""

    def __init__(
        self,
        handle: "Union[Handle, NoHandle]",
        work: Callable[["Run", int], Any],
        cancel: Callable[[], None],
        absorb: Callable[[int], None],
    ) -> None:
        self.cond = threading.Condition()
        self.piece: Optional[str] = None
        self.wanted = False  # someone waits for the next piece
        self.stopped = False  # nobody wants more
        self.started = False
        self.ended = False
        self.result: Any = None
        self.error: Optional[BaseException] = None
        self.wake: Optional[Callable[[], None]] = None  # of the event loop that waits
        self.on_text = _abi.TextFn(self._on_text)
        self._thread = threading.Thread(target=self._main, name="moka", daemon=True)
        self._pointer = 0
        self._talked = False
        self._working = True
        self._cancelled = False
        self._handle = handle
        self._work = work
        self._cancel = cancel
        self._absorb = absorb

    def start(self) -> None:
        """BusyError and ClosedError come from here."""
        self._pointer = self._handle.enter()
        try:
            self.started = True
            self._thread.start()
        except RuntimeError:  # no more threads; after a KeyboardInterrupt it may be running
            self.started = False
            self._handle.leave()
            raise

    def _main(self) -> None:
        pointer = self._pointer
        try:
            self.result = self._work(self, pointer)
        except BaseException as error:  # goes to who waits
            self.error = error
        with self.cond:
            self._working = False  # from here on nothing is cancelled
        # A cancel that came too late would end the next call.
        if self._cancelled and not isinstance(self.error, CancelledError):
            try:
                self._absorb(pointer)
            except Exception:
                pass  # the next call says it, too
        self._handle.leave()
        with self.cond:
            self.ended = True
            self._tell()

    def _tell(self) -> None:
        self.cond.notify_all()
        wake, self.wake = self.wake, None
        if wake is not None:
            wake()

    # Called by the library; an exception has nowhere to go.
    def _on_text(self, user: Any, text: int, size: int) -> int:
        piece = ctypes.string_at(text, size).decode("utf-8", "replace")
        with self.cond:
            self._talked = True
            self.piece = piece
            self.wanted = False
            self._tell()
            while not self.wanted and not self.stopped:
                self.cond.wait()
            return 1 if self.stopped else 0

    def want(self) -> bool:
        """Asks for the next piece; true when it, or the end, is there. Under `cond`."""
        if self.piece is None and not self.ended:
            self.wanted = True
            self.cond.notify_all()
        return self.piece is not None or self.ended

    def take(self) -> Optional[str]:
        """The piece; None at the end, where an error is raised. Under `cond`."""
        piece, self.piece = self.piece, None
        if piece is None and self.error is not None:
            error, self.error = self.error, None
            if not (self.stopped and isinstance(error, CancelledError)):
                raise error
        return piece

    def ask_to_stop(self) -> None:
        """Lets the call end where it is: behind the last piece, if it gave any."""
        with self.cond:
            self.stopped = True
            self.cond.notify_all()
            # A call that writes hears of it at its next piece, which is no error.
            if not self._talked:
                self.cancel()

    def cancel(self) -> None:
        with self.cond:
            if self._working:
                self._cancelled = True
                self._cancel()

    def stop(self) -> None:
        """The same, and waits until the call has ended: a token or a chunk later."""
        self.ask_to_stop()
        # The collector of garbage may call this from anywhere, the thread itself included.
        if not self.started or threading.current_thread() is self._thread:
            return
        with self.cond:
            while not self.cond.wait_for(lambda: self.ended, timeout=1):
                self.cancel()

    def wait(self) -> Any:
        """The result of the work, or its error. Whatever interrupts the waiting ends the call."""
        try:
            with self.cond:
                while not self.ended:
                    self.cond.wait()
        except BaseException:
            self.stop()
            raise
        if self.error is not None:
            raise self.error
        return self.result


def _nothing(pointer: int) -> None:
    pass


class NoHandle:
    """For calls that make a handle."""

    def enter(self) -> int:
        return 0

    def leave(self) -> None:
        pass


def interruptible(
    handle: "Union[Handle, NoHandle]",
    work: Callable[[int], Any],
    cancel: Callable[[], None],
    absorb: Callable[[int], None] = _nothing,
    long: bool = True,
) -> Any:
    """work(pointer), so that Ctrl-C ends it when it is `long`, or calls back: Python hears of signals
    on its main thread, which must not be inside of the library, nor in a callback, then."""
    if not long or threading.current_thread() is not threading.main_thread():
        pointer = handle.enter()
        try:
            return work(pointer)
        finally:
            handle.leave()
    run = Run(handle, lambda run, pointer: work(pointer), cancel, absorb)
    try:
        run.start()
    except KeyboardInterrupt:
        run.stop()
        raise
    return run.wait()
