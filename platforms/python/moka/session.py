"""One sequence that a model reads and writes."""

from __future__ import annotations

import ctypes
import os
import weakref
from typing import TYPE_CHECKING, Any, Mapping, Optional, Sequence, Tuple, Union

from . import _abi
from ._arrays import Floats, Rows, c_tokens, floats_at, token_array
from ._handle import Handle
from ._library import call, created, lib, options_of, saved, sized
from ._object import Closing
from ._reply import Ended, Reply, end_name
from ._run import Run, interruptible
from .sampling import Sampler, checked, no_nul

if TYPE_CHECKING:
    from .executor import Executor
    from .model import Model
    from .tasks import Input

Stops = Sequence[Union[str, int]]


def generate_options(
    max_tokens: int,
    max_ms: Optional[int],
    stop: Stops,
    stop_at_end: bool,
    loop_tokens: Optional[int],
    lookup: int,
) -> Any:
    """A moka_generate_options, which keeps what it points at."""
    if isinstance(stop, str):
        stop = [stop]
    options = options_of("generate")
    options.max_tokens = checked("max_tokens", max_tokens, 64)
    options.max_ms = checked("max_ms", max_ms or 0, 64)
    options.stop_at_end = int(stop_at_end)
    if loop_tokens is not None:
        options.loop_tokens = checked("loop_tokens", loop_tokens, 64)
    options.lookup = checked("lookup", lookup, 64)
    texts = [text.encode() for text in stop if isinstance(text, str)]
    tokens = token_array([token for token in stop if not isinstance(token, str)], "stop")
    if texts:
        options.stop_texts = (ctypes.c_char_p * len(texts))(*texts)
        options.stop_text_count = len(texts)
    if tokens:
        options.stop_tokens = ctypes.cast(c_tokens(tokens), _abi.TokenPointer)
        options.stop_token_count = len(tokens)
    options.kept = (texts, tokens)
    return options


def end_run(run: "Optional[weakref.ref[Run]]") -> None:
    """Ends a reply that was begun and has not ended."""
    open_run = None if run is None else run()
    if open_run is not None and open_run.started and not open_run.ended:
        open_run.stop()


class Session(Closing):
    """One sequence, with a state of constant size; made by Model.session().

    One thread at a time, no matter which, else BusyError; cancel() comes from any thread. A call that
    fails or is cancelled leaves the session as it was. Ctrl-C ends a call at its next token or chunk.
    """

    def __init__(self, model: "Model", executor: "Optional[Executor]" = None) -> None:
        self.model = model
        with model._handle.use() as pointer:
            if executor is None:
                made = created("session_create", pointer, None)
            else:
                with executor._handle.use() as of:
                    made = created("session_create", pointer, of)
        self._handle = Handle(made, "session", exclusive=True, kept=model._handle.kept)
        self._run: "Optional[weakref.ref[Run]]" = None  # of the last reply

    def close(self) -> None:
        """Frees the state. A reply, or a call of another thread, is ended first."""
        end_run(self._run)
        if not self._handle.closed:
            self._handle.close()
            self._handle.signal("session_cancel")

    # ---- reading ----

    def _steps(self, given: "Input", name: str) -> _abi.Sequence:
        """What it reads. Text at the start of a language model begins with info.start_token."""
        info = self.model.info
        if isinstance(given, str) and info.output == "language" and info.start_token is not None:
            if self.position == 0:
                given = [info.start_token, *self.model.encode(given)]
        return self.model._sequence(given, name)

    def append(self, input: "Input") -> None:
        """Reads on: token ids, text, or values [steps][info.features] in the units of the data.

        Where nothing was read yet, a language model reads info.start_token before a text, as `moka
        run` does; token ids are read as they are. OutOfRangeError: a token outside the vocabulary, or
        beyond info.position_limit. InvalidArgumentError: not what this model reads.
        """
        steps = self._steps(input, "input")
        self._call(lambda session: _append(session, steps), steps)

    def append_rows(self, input: "Input") -> Floats:
        """The same, and gives the output after every step: [steps][info.outputs]."""
        steps = self._steps(input, "input")
        rows = Rows(self.model.info.outputs)

        def work(session: int) -> None:
            call("session_append_rows", session, ctypes.byref(steps), rows.callback, None)

        interruptible(self._handle, work, self.cancel, self._absorb)
        return rows.array()

    def append_memory(self, input: "Input") -> None:
        """Reads the sequence that the model answers from, if info.reads_memory; before all else."""
        steps = self.model._sequence(input, "input")
        self._call(lambda s: call("session_append_memory", s, ctypes.byref(steps)), steps)

    def _call(self, work: Any, steps: _abi.Sequence) -> None:
        long = max(steps.token_count, steps.value_count) >= 64
        interruptible(self._handle, work, self.cancel, self._absorb, long)

    def cancel(self) -> None:
        """Ends the running call with CancelledError at its next chunk or token; if none runs, the next
        call. Any thread."""
        self._handle.signal("session_cancel")

    def _absorb(self, session: int) -> None:
        """Uses up a cancel that came too late, by reading a step that is undone."""
        info = self.model.info
        step = _step_of_nothing(info.features, info.input == "tokens")
        refuse = _abi.RowsFn(lambda *_: 1)
        error = _abi.Error()
        lib.moka_session_append_rows(session, ctypes.byref(step), refuse, None, ctypes.byref(error))

    # ---- what it says ----

    def logits(self) -> Floats:
        """The output for everything read so far, [info.outputs]; empty where nothing was read."""
        row, count = _abi.FloatPointer(), ctypes.c_size_t()
        with self._handle.use() as session:
            call("session_logits", session, ctypes.byref(row), ctypes.byref(count))
            return floats_at(row, (count.value,))

    def step(self, sampler: Sampler) -> int:
        """Draws a token, reads it, and gives it. FailedPreconditionError before anything was read."""
        token = _abi.Token()
        with self._handle.use() as session, sampler._handle.use() as draws:
            call("session_step", session, draws, ctypes.byref(token))
        return token.value

    def reply(
        self,
        prompt: "Optional[Input]" = None,
        *,
        max_tokens: int = 512,
        max_ms: Optional[int] = None,
        stop: Stops = (),
        stop_at_end: bool = True,
        loop_tokens: Optional[int] = None,
        lookup: int = 0,
        sampler: Optional[Sampler] = None,
        temperature: Optional[float] = None,
        top_k: Optional[int] = None,
        top_p: Optional[float] = None,
        min_p: Optional[float] = None,
        repeat_penalty: Optional[float] = None,
        repeat_window: Optional[int] = None,
        seed: Optional[int] = None,
        bias: Optional[Mapping[int, float]] = None,
    ) -> Reply:
        """Reads the prompt, as append() does, and lets the model write; iterate over what this gives.

        max_tokens     at least 1
        max_ms         of writing, in milliseconds; None: no limit
        stop           texts and token ids that end it and are not given out
        stop_at_end    info.begin_token and info.end_token end it
        loop_tokens    so many tokens that are one cycle, again and again, end it; 0: never; None: 256
        lookup         guesses of what comes next that are tried in one pass with a token, at most 16;
                       they are looked up in the prompt and in what is written. The text is the same to
                       the bit; one that repeats itself, or the prompt, is written in fewer passes
        sampler        goes on drawing with it; None: a new one of the arguments that follow, see
                       Sampler, which knows the prompt for repeat_penalty

        UnsupportedError: no language model with a tokenizer. FailedPreconditionError: nothing was
        read, and there is no prompt.
        """
        options = generate_options(max_tokens, max_ms, stop, stop_at_end, loop_tokens, lookup)
        draws = sampler or Sampler(
            self.model,
            temperature,
            top_k=top_k,
            top_p=top_p,
            min_p=min_p,
            repeat_penalty=repeat_penalty,
            repeat_window=repeat_window,
            seed=seed,
            bias=bias,
        )
        if prompt is not None and not isinstance(prompt, str):
            prompt = token_array(prompt, "prompt")  # now: it may be an iterator

        def make() -> Run:
            steps = None if prompt is None else self._steps(prompt, "prompt")

            def work(run: Run, session: int) -> Ended:
                if steps is not None and steps.token_count:
                    # Of a reply that cannot begin the prompt is not read.
                    call("session_check_generate", session, ctypes.byref(options))
                    _append(session, steps)
                    with draws._handle.use() as pointer:
                        call("sampler_accept", pointer, steps.tokens, steps.token_count)
                    options.lookup_tokens = steps.tokens
                    options.lookup_token_count = steps.token_count
                result = sized(_abi.GenerateResult)
                options.on_text = run.on_text
                with draws._handle.use() as pointer:
                    given = (ctypes.byref(options), ctypes.byref(result))
                    call("session_generate", session, pointer, *given)
                return Ended(end_name(result.end), result.tokens, result.drafted, result.accepted)

            run = Run(self._handle, work, self.cancel, self._absorb)
            self._run = weakref.ref(run)
            return run

        return Reply(make, draws.seed)

    # ---- places ----

    @property
    def position(self) -> int:
        """Steps that it has read."""
        with self._handle.use() as session:
            return int(lib.moka_session_position(session))

    @property
    def memory_position(self) -> int:
        """Steps of the second sequence that it has read."""
        with self._handle.use() as session:
            return int(lib.moka_session_memory_position(session))

    def fork(self) -> "Session":
        """An independent copy; costs a copy of the state."""
        copy = Session.__new__(Session)
        with self._handle.use() as session:
            made = created("session_fork", session)
        copy.model, copy._run = self.model, None
        copy._handle = Handle(made, "session", exclusive=True, kept=self._handle.kept)
        return copy

    def reset(self) -> None:
        """Goes to where nothing was read."""
        with self._handle.use() as session:
            lib.moka_session_reset(session)

    def save(self) -> bytes:
        """The session as bytes, which are the same on every platform."""
        with self._handle.use() as session:
            return saved("session_save", session)

    def restore(self, data: bytes) -> None:
        """What save() gave; the bits of all that follows are the same as if it had never ended.
        CorruptError: damaged; FailedPreconditionError: of another model."""
        with self._handle.use() as session:
            call("session_restore", session, bytes(data), len(data))

    def save_file(self, path: "Union[str, os.PathLike[str]]") -> None:
        """The same in a file, which is written under another name, synced and renamed."""
        with self._handle.use() as session:
            call("session_save_file", session, os.fsencode(os.fspath(path)))

    def restore_file(self, path: "Union[str, os.PathLike[str]]") -> None:
        """What save_file() wrote. NotFoundError, IoError, and what restore() says."""
        with self._handle.use() as session:
            call("session_restore_file", session, os.fsencode(os.fspath(path)))


    def restore_snapshot(self, name: str) -> None:
        """Becomes a session that has read the prefix of a snapshot of the model (info.snapshots); where
        many sessions begin there, restore one and fork it. NotFoundError names the snapshots that there
        are; FailedPreconditionError: it was made with other weights; CorruptError."""
        with self._handle.use() as session:
            call("session_restore_snapshot", session, no_nul("name", name))


def _append(session: int, steps: _abi.Sequence) -> None:
    if steps.value_count:
        call("session_append_values", session, steps.values, steps.value_count)
    else:
        call("session_append", session, steps.tokens, steps.token_count)


def _step_of_nothing(features: int, tokens: bool) -> _abi.Sequence:
    from ._arrays import sequence_of
    from array import array

    if tokens:
        return sequence_of(array("i", [0]), None)
    return sequence_of(None, array("f", [0.0] * max(1, features)))


__all__: Tuple[str, ...] = ("Session",)
