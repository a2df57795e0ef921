"""Threads and scratch memory that run a model, and several sessions through one read of weights."""

from __future__ import annotations

import ctypes
from contextlib import ExitStack
from typing import TYPE_CHECKING, Iterable, List, Tuple

from . import _abi
from ._handle import Handle
from ._library import call, created, lib, options_of
from ._object import Closing

if TYPE_CHECKING:
    from .model import Model
    from .sampling import Sampler
    from .session import Session
    from .tasks import Input


class Executor(Closing):
    """Made by Model.executor(). Calls on one wait for each other; make more to run side by side. They
    share the weights. Any number of threads."""

    def __init__(self, model: "Model", threads: int, chunk: int) -> None:
        options = options_of("executor")
        options.threads = threads
        options.chunk = chunk or options.chunk
        with model._handle.use() as pointer:
            made = created("executor_create", pointer, ctypes.byref(options))
        self._handle = Handle(made, "executor", exclusive=False, kept=model._handle.kept)

    @property
    def threads(self) -> int:
        with self._handle.use() as pointer:
            return int(lib.moka_executor_threads(pointer))

    @property
    def scratch_bytes(self) -> int:
        with self._handle.use() as pointer:
            return int(lib.moka_executor_scratch_bytes(pointer))

    def append(self, batch: "Iterable[Tuple[Session, Input]]") -> None:
        """Every session reads what stands beside it, all in one go, each with the bits that it would
        have alone. All move or none. InvalidArgumentError: one named twice, or one of another model.
        Cancel of one ends it for all: CancelledError."""
        pairs = list(batch)
        entries = (_abi.BatchAppend * len(pairs))()
        with ExitStack() as stack:
            kept = [session._steps(given, "steps") for session, given in pairs]
            for entry, steps in zip(entries, kept):
                entry.steps = steps
            pointer = stack.enter_context(self._handle.use())
            _enter(stack, [session._handle for session, _ in pairs], entries, "session")
            call("executor_append", pointer, entries, len(pairs), None)

    def step(self, batch: "Iterable[Tuple[Session, Sampler]]") -> List[int]:
        """Every session draws with the sampler beside it and reads that token: the tokens, in order.
        A sampler may serve several sessions."""
        pairs = list(batch)
        entries = (_abi.BatchStep * len(pairs))()
        with ExitStack() as stack:
            pointer = stack.enter_context(self._handle.use())
            _enter(stack, [session._handle for session, _ in pairs], entries, "session")
            _enter(stack, [sampler._handle for _, sampler in pairs], entries, "sampler")
            call("executor_step", pointer, entries, len(pairs), None)
        return [entry.token for entry in entries]


def _enter(stack: ExitStack, handles: List[Handle], entries: object, field: str) -> None:
    """Takes every handle once; that one is named twice is for the library to judge."""
    taken = {id(h): stack.enter_context(h.use()) for h in {id(h): h for h in handles}.values()}
    for entry, handle in zip(entries, handles):  # type: ignore[call-overload]
        setattr(entry, field, taken[id(handle)])
