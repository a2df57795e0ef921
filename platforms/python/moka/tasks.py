"""What models do with a whole sequence that is at hand, causal or not."""

from __future__ import annotations

import ctypes
from array import array
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Callable, List, Optional, Sequence, Tuple, Union

from . import _abi
from ._arrays import Floats, Numbers, Rows, Tokens, c_floats, c_tokens, float_array, floats_at
from ._arrays import sequence_of, shaped, token_array
from ._handle import Handle
from ._library import call, lib, options_of
from ._run import interruptible
from .errors import CancelledError, InvalidArgumentError
from .info import ModelInfo

if TYPE_CHECKING:
    from .executor import Executor

Input = Union[str, Tokens, Numbers]
"""Text or token ids for models that read tokens; else numbers, [steps][info.features] in the units of
the data, or grey values row by row."""

Progress = Callable[[float], Any]
"""Told the share of the work that is done, 0 to 1. What it raises ends the call and comes out of it."""

# Fewer steps than this are not worth a thread of their own.
LONG = 64


@dataclass(frozen=True)
class Classification:
    """A class and how likely it is."""

    best: int
    """The likeliest class, the first of equal ones."""
    label: str
    """Its name."""
    probabilities: Floats
    """[classes]"""
    logits: Floats
    """[classes]"""


@dataclass(frozen=True)
class Score:
    """How likely a language model finds a text."""

    log_likelihood: float
    """Natural logarithm of the probability of all scored tokens together."""
    log_likelihoods: List[float]
    """The same, token by token."""
    tokens: List[int]
    """Those that were scored."""
    most_likely: List[int]
    """The token that the model put in the place of each."""


class _Progress:
    """A moka_progress_fn that Python's progress, and cancel, end."""

    def __init__(self, told: Optional[Progress]) -> None:
        self.told = told
        self.stopped = False
        self.error: Optional[BaseException] = None
        self.callback = _abi.ProgressFn(self._tell)

    def _tell(self, user: Any, share: float) -> int:
        try:
            if self.told is not None:
                self.told(share)
        except BaseException as error:  # it has no way through the library
            self.error = error
            self.stopped = True
        return 1 if self.stopped else 0

    def cancel(self) -> None:
        self.stopped = True

    def run(self, handle: Handle, work: Callable[[int], Any], steps: int) -> Any:
        long = self.told is not None or steps >= LONG
        try:
            return interruptible(handle, work, self.cancel, long=long)
        except CancelledError:
            if self.error is not None:
                raise self.error from None
            raise


class _Reading(_Progress):
    """A moka_read_options and what it points at."""

    def __init__(
        self,
        executor: "Optional[Executor]",
        memory: Optional[_abi.Sequence],
        told: Optional[Progress],
    ) -> None:
        super().__init__(told)
        self.options = options_of("read")
        self._executor = executor
        if memory is not None:
            self.options.memory = ctypes.pointer(memory)

    def run(self, handle: Handle, work: Callable[[int], Any], steps: int) -> Any:
        if self.told is not None or steps >= LONG:
            self.options.progress = self.callback
        if self._executor is None:
            return super().run(handle, work, steps)
        with self._executor._handle.use() as pointer:
            self.options.executor = pointer
            return super().run(handle, work, steps)


class Tasks:
    """The calls of a Model that take a whole sequence. Each starts from an empty memory and keeps
    nothing; any thread may make them, and those on one executor wait for each other.

    All take executor (None: the model's own), progress, and memory for models with
    info.reads_memory. Text gets no token before or behind it. Tokens equal to info.padding are left
    out by pooling heads.

    InvalidArgumentError: a model with another head, what the model does not read, an empty sequence,
    values that are not finite or not whole steps. OutOfRangeError: a token outside the vocabulary, a
    sequence longer than the model allows, an image of another size.
    """

    info: ModelInfo
    _handle: Handle

    def encode(self, text: str, special: bool = False) -> List[int]:
        raise NotImplementedError

    def _sequence(self, given: Input, name: str) -> _abi.Sequence:
        if isinstance(given, str):
            return sequence_of(token_array(self.encode(given)), None)
        if self.info.input == "tokens":
            return sequence_of(token_array(given, name), None)
        return sequence_of(None, float_array(given, name))

    def _reading(
        self,
        executor: "Optional[Executor]",
        memory: Optional[Input],
        progress: Optional[Progress],
    ) -> _Reading:
        second = None if memory is None else self._sequence(memory, "memory")
        return _Reading(executor, second, progress)

    def read(
        self,
        input: Input,
        *,
        memory: Optional[Input] = None,
        executor: "Optional[Executor]" = None,
        progress: Optional[Progress] = None,
    ) -> Floats:
        """The output: [steps][info.outputs] of language models, regression and hidden states,
        [1][info.outputs] of classifiers and embeddings. Not for pair models."""
        sequence = self._sequence(input, "input")
        reading = self._reading(executor, memory, progress)
        rows = Rows(self.info.outputs)

        def work(model: int) -> None:
            options = ctypes.byref(reading.options)
            call("read", model, ctypes.byref(sequence), options, rows.callback, None)

        reading.run(self._handle, work, max(LONG, _steps(sequence)))  # rows call back
        return rows.array()

    def classify(
        self,
        input: Input,
        *,
        memory: Optional[Input] = None,
        executor: "Optional[Executor]" = None,
        progress: Optional[Progress] = None,
    ) -> Classification:
        """The class of a sequence; needs a classifier."""
        return self._classes("classify", [self._sequence(input, "input")], executor, memory, progress)

    def compare(
        self,
        first: Input,
        second: Input,
        *,
        memory: Optional[Input] = None,
        executor: "Optional[Executor]" = None,
        progress: Optional[Progress] = None,
    ) -> Classification:
        """The class of two sequences; needs a pair model."""
        pair = [self._sequence(first, "first"), self._sequence(second, "second")]
        return self._classes("compare", pair, executor, memory, progress)

    def _classes(
        self,
        name: str,
        sequences: Sequence[_abi.Sequence],
        executor: "Optional[Executor]",
        memory: Optional[Input],
        progress: Optional[Progress],
    ) -> Classification:
        count = len(self.info.classes)
        logits, probabilities = (ctypes.c_float * count)(), (ctypes.c_float * count)()
        best = ctypes.c_uint32()
        reading = self._reading(executor, memory, progress)

        def work(model: int) -> None:
            given = [ctypes.byref(sequence) for sequence in sequences]
            options = ctypes.byref(reading.options)
            call(name, model, *given, options, logits, probabilities, count, ctypes.byref(best))

        reading.run(self._handle, work, sum(_steps(sequence) for sequence in sequences))
        return Classification(
            best.value,
            self.info.classes[best.value],
            floats_at(probabilities, (count,)),
            floats_at(logits, (count,)),
        )

    def embed(
        self,
        input: Input,
        *,
        memory: Optional[Input] = None,
        executor: "Optional[Executor]" = None,
        progress: Optional[Progress] = None,
    ) -> Floats:
        """The vector of a sequence, [info.outputs]; needs an embedding head. See cosine()."""
        sequence = self._sequence(input, "input")
        reading = self._reading(executor, memory, progress)
        vector = (ctypes.c_float * self.info.outputs)()

        def work(model: int) -> None:
            options = ctypes.byref(reading.options)
            call("embed", model, ctypes.byref(sequence), options, vector, len(vector), None)

        reading.run(self._handle, work, _steps(sequence))
        return floats_at(vector, (len(vector),))

    def score(
        self,
        input: Union[str, Tokens],
        *,
        context: str = "",
        first: int = 1,
        executor: "Optional[Executor]" = None,
        progress: Optional[Progress] = None,
    ) -> Score:
        """How likely a language model finds a sequence.

        Text is scored as a whole, behind info.start_token and `context`, as `moka score` does; where
        there is neither, its first token is not scored. Of ids those from place `first` on are
        scored, each given all before it. OutOfRangeError: nothing to score.
        """
        if isinstance(input, str):
            before = [] if self.info.start_token is None else [self.info.start_token]
            before += self.encode(context) if context else []
            ids = token_array(before + self.encode(input))
            first = max(1, len(before))
        else:
            ids = token_array(input)
        count = max(0, len(ids) - max(0, first))
        total = ctypes.c_double()
        each, likely = array("d", bytes(8 * count)), array("i", bytes(4 * count))
        reading = self._reading(executor, None, progress)

        def work(model: int) -> None:
            call(
                *("score", model, c_tokens(ids), len(ids), max(0, first)),
                *(ctypes.byref(reading.options), ctypes.byref(total)),
                (ctypes.c_double * count).from_buffer(each) if count else None,
                *(c_tokens(likely), count),
            )

        reading.run(self._handle, work, len(ids))
        return Score(total.value, list(each), list(ids[len(ids) - count :]), list(likely))

    def forecast(
        self,
        history: Numbers,
        horizon: int,
        *,
        memory: Optional[Input] = None,
        executor: "Optional[Executor]" = None,
        progress: Optional[Progress] = None,
    ) -> Floats:
        """The `horizon` steps that follow `history`, [steps][info.features], in the units of the data:
        [horizon][info.forecast_outputs][info.forecast_quantiles], at the levels info.quantiles.

        Needs a regression head. A head that tells fewer steps at once reads its own medians for the
        rest, which needs as many outputs as features, else OutOfRangeError.
        """
        if horizon < 1:
            raise InvalidArgumentError(f"horizon is {horizon}, must be at least 1")
        values = float_array(history, "history")
        reading = self._reading(executor, memory, progress)
        shape = (horizon, self.info.forecast_outputs, self.info.forecast_quantiles)
        needed = ctypes.c_size_t()

        def work(model: int) -> "array[float]":
            head = (model, c_floats(values), len(values), horizon, ctypes.byref(reading.options))
            call("forecast", *head, None, 0, ctypes.byref(needed))  # refuses what cannot be
            flat = array("f", bytes(4 * needed.value))
            call("forecast", *head, c_floats(flat), len(flat), ctypes.byref(needed))
            return flat

        steps = len(values) // max(1, self.info.features) + max(0, horizon)
        return shaped(reading.run(self._handle, work, steps), shape)


def _steps(sequence: _abi.Sequence) -> int:
    return int(sequence.token_count or sequence.value_count)


def cosine(a: Numbers, b: Numbers) -> float:
    """Cosine of the angle between two vectors of one size; 0 when one is zero."""
    first, second = float_array(a, "a"), float_array(b, "b")
    if len(first) != len(second):
        raise InvalidArgumentError(f"a has {len(first)} numbers and b {len(second)}")
    return float(lib.moka_cosine_similarity(c_floats(first), c_floats(second), len(first)))


__all__: Tuple[str, ...] = ("Classification", "Score", "cosine")
