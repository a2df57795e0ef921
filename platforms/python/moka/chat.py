"""A conversation, or a text written in turns, which form a tree."""

from __future__ import annotations

import ctypes
import os
import weakref
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Callable, List, Mapping, Optional, Tuple, Union

from . import _abi
from ._arrays import Floats, floats_at
from ._handle import Handle
from ._library import call, created, lib, options_of, saved, sized
from ._object import Closing
from ._reply import Ended, Reply, end_name
from ._run import Run, interruptible
from .errors import CancelledError, InvalidArgumentError
from .sampling import checked, no_nul, sampler_options
from .session import Stops, end_run, generate_options

if TYPE_CHECKING:
    from .executor import Executor
    from .model import Model

ROLES = ("system", "user", "model")
START = 0
"""Where nothing was read: the parent of first turns."""

ChatProgress = Callable[[int, int, bool], Any]
"""Told before tokens are read, and every few of them: done, total, and whether they were read before.
What it raises ends the call and comes out of it."""


@dataclass(frozen=True)
class Template:
    """What stands around the text of a turn of each role. Special tokens in these are themselves, those
    in a text that is given are plain text. A saved chat is opened with an equal `id` only."""

    id: str = ""
    system_prefix: str = ""
    system_suffix: str = ""
    user_prefix: str = ""
    user_suffix: str = ""
    model_prefix: str = ""
    model_suffix: str = ""


@dataclass(frozen=True)
class Turn:
    """A turn of a chat."""

    id: int
    parent: int
    """Of the turn before it; 0 for first turns."""
    role: str
    """ "system", "user" or "model"."""
    text: str
    """As it was given, or what the model wrote."""
    end: Optional[str]
    """Why the model's writing ended, as Reply.end; None of a text that was given."""
    kept: bool
    """Going to it has nothing to read again."""
    position: int
    """Tokens from the start of the chat to the end of this turn."""
    tokens: Tuple[int, ...]
    """All that were read: template_head, those of the text, template_tail."""
    template_head: int
    template_tail: int


class Chat(Closing):
    """Turns of a tree: what is undone, edited or written anew stays in it until it is removed.

    model               a causal language model with a tokenizer, else UnsupportedError
    template            what stands around texts; None: nothing
    saved               what save() gave, or save_file() wrote (a path): the chat goes on there.
                        CorruptError, VersionError; FailedPreconditionError: of another model or template
    snapshot            a prefix snapshot of the model (info.snapshots), behind which the chat begins as if
                        it had read that prefix; a saved chat names its own. Errors as of
                        Session.restore_snapshot()
    temperature, ...    as in Session.reply(), for all turns; a saved chat brings its own, which one
                        that is given here does not change
    executor            None: that of the model
    state_budget_bytes  memory for states at the ends of turns; going to a turn whose state was let go
                        reads again what follows its nearest kept ancestor, with the same bits
    saved_states        that a file has beside the current one
    progress            told of reading, for as long as the chat lives

    One thread at a time, else BusyError; cancel() comes from any thread. Every call is a transaction: one
    that fails or is cancelled leaves the chat as it was. A turn that was ended by leaving the loop is kept
    with what it has. Besides the common failures: OutOfRangeError beyond the model's position limit,
    NotFoundError for a turn that is not there.
    """

    def __init__(
        self,
        model: "Model",
        template: Optional[Template] = None,
        *,
        saved: "Union[None, bytes, str, os.PathLike[str]]" = None,
        snapshot: Optional[str] = None,
        executor: "Optional[Executor]" = None,
        state_budget_bytes: Optional[int] = None,
        saved_states: Optional[int] = None,
        progress: Optional[ChatProgress] = None,
        temperature: Optional[float] = None,
        top_k: Optional[int] = None,
        top_p: Optional[float] = None,
        min_p: Optional[float] = None,
        repeat_penalty: Optional[float] = None,
        repeat_window: Optional[int] = None,
        seed: Optional[int] = None,
        bias: Optional[Mapping[int, float]] = None,
    ) -> None:
        self.model = model
        self._told = progress
        self._error: Optional[BaseException] = None
        self._run: "Optional[weakref.ref[Run]]" = None
        # No reference from the callback to this: it would never be collected.
        me = weakref.ref(self)
        self._progress = _abi.ChatProgressFn(lambda *told: _tell(me(), *told[1:]))
        options = options_of("chat")
        for field in fields(template) if template else ():
            text: str = getattr(template, field.name)
            name = "template_id" if field.name == "id" else field.name
            setattr(options, name, no_nul(name, text) if text else None)
        if snapshot is not None:
            setattr(options, "from", no_nul("snapshot", snapshot))
        if state_budget_bytes is not None:
            options.state_budget_bytes = checked("state_budget_bytes", state_budget_bytes, 64)
        if saved_states is not None:
            options.saved_states = checked("saved_states", saved_states)
        if progress is not None:
            options.progress = self._progress
        self.seed = 0
        """What the draws of a new chat began from."""
        with model._handle.use() as pointer:
            sampling = sampler_options(
                pointer,
                temperature,
                top_k,
                top_p,
                min_p,
                repeat_penalty,
                repeat_window,
                seed,
                bias,
            )
            self.seed = sampling.seed
            options.sampling = ctypes.pointer(sampling)
            if executor is None:
                made = _made(pointer, saved, options)
            else:
                with executor._handle.use() as of:
                    options.executor = of
                    made = _made(pointer, saved, options)
        self._handle = Handle(made, "chat", exclusive=True, kept=model._handle.kept)

    def close(self) -> None:
        """Frees it. A reply, or a call of another thread, is ended first."""
        end_run(self._run)
        if not self._handle.closed:
            self._handle.close()
            self._handle.signal("chat_cancel")

    # ---- turns that are given ----

    def append(self, text: str, role: str = "user") -> int:
        """Puts a turn behind the current one: its id."""
        data = text.encode()
        return self._step(
            lambda chat, step: call("chat_append", chat, _role(role), data, len(data), step)
        )

    def branch(self, after: int, text: str, role: str = "user") -> int:
        """Puts a turn behind any turn, or behind 0, the start: its id."""
        data = text.encode()
        return self._step(
            lambda chat, step: call(
                "chat_branch", chat, checked("after", after, 64), _role(role), data, len(data), step
            )
        )

    def edit(self, turn: int, text: str) -> int:
        """Puts a turn beside one, with its role: its id."""
        data = text.encode()
        return self._step(
            lambda chat, step: call("chat_edit", chat, checked("turn", turn, 64), data, len(data), step)
        )

    # ---- turns that the model writes ----

    def reply(
        self,
        text: Optional[str] = None,
        *,
        max_tokens: int = 512,
        max_ms: Optional[int] = None,
        stop: Stops = (),
        stop_at_end: bool = True,
        loop_tokens: Optional[int] = None,
        lookup: int = 0,
        **sampling: Any,
    ) -> Reply:
        """Appends the user's text, if there is one, and lets the model write the next turn: iterate over
        what this gives. Arguments as in Session.reply(); temperature and its like, when any is given,
        hold from this turn on."""
        options = generate_options(max_tokens, max_ms, stop, stop_at_end, loop_tokens, lookup)
        return self._reply("chat_generate", text, options, sampling)

    def retry(
        self,
        *,
        max_tokens: int = 512,
        max_ms: Optional[int] = None,
        stop: Stops = (),
        stop_at_end: bool = True,
        loop_tokens: Optional[int] = None,
        lookup: int = 0,
        **sampling: Any,
    ) -> Reply:
        """The same beside the current turn, when the model wrote that one."""
        options = generate_options(max_tokens, max_ms, stop, stop_at_end, loop_tokens, lookup)
        return self._reply("chat_regenerate", None, options, sampling)

    def _reply(self, name: str, text: Optional[str], options: Any, sampling: Any) -> Reply:
        draws = None
        if sampling:
            with self.model._handle.use() as pointer:
                draws = sampler_options(pointer, **sampling)
        data = None if text is None else text.encode()

        def work(run: Run, chat: int) -> Ended:
            step = sized(_abi.ChatStep)
            if data is not None:
                call("chat_append", chat, ROLES.index("user"), data, len(data), ctypes.byref(step))
            options.on_text = run.on_text
            given = None if draws is None else ctypes.byref(draws)
            call(name, chat, ctypes.byref(options), given, ctypes.byref(step))
            turn = _find(chat, step.turn)
            count = len(turn.tokens) - turn.template_head - turn.template_tail
            return Ended(turn.end, count, step.drafted, step.accepted, turn.id)

        def make() -> Run:
            run = Run(self._handle, self._telling(work), self.cancel, self._absorb)
            self._run = weakref.ref(run)
            return run

        return Reply(make, self.seed if draws is None else draws.seed)

    # ---- other turns ----

    def undo(self) -> int:
        """Goes to the parent of the current turn: its id. FailedPreconditionError at the start."""
        return self._step(lambda chat, step: call("chat_undo", chat, step))

    def switch_to(self, turn: int) -> int:
        """Goes to any turn, or to 0, the start."""
        return self._step(
            lambda chat, step: call("chat_switch_to", chat, checked("turn", turn, 64), step)
        )

    def remove(self, turn: int) -> None:
        """Removes a turn and all that follow it; FailedPreconditionError when the current one is of
        them."""
        with self._handle.use() as chat:
            call("chat_remove", chat, checked("turn", turn, 64))

    @property
    def turns(self) -> List[Turn]:
        """All of the tree, ids rising."""
        with self._handle.use() as chat:
            raw = sized(_abi.Turn)
            found = []
            for place in range(lib.moka_chat_turn_count(chat)):
                call("chat_turn_at", chat, place, ctypes.byref(raw))
                found.append(_turn(raw))
            return found

    def turn(self, id: int) -> Turn:
        """One of them. NotFoundError."""
        with self._handle.use() as chat:
            return _find(chat, checked("id", id, 64))

    @property
    def current(self) -> int:
        """The id of the current turn; 0 at the start."""
        with self._handle.use() as chat:
            return int(lib.moka_chat_current(chat))

    @property
    def path(self) -> List[Turn]:
        """From the first turn to the current one."""
        needed = ctypes.c_size_t()
        with self._handle.use() as chat:
            call("chat_path", chat, None, 0, ctypes.byref(needed))
            ids = (ctypes.c_uint64 * max(1, needed.value))()
            call("chat_path", chat, ids, len(ids), ctypes.byref(needed))
            return [_find(chat, id) for id in ids[: needed.value]]

    def logits(self) -> Floats:
        """The output at the end of the current turn, [info.outputs]; empty at the start."""
        row, count = _abi.FloatPointer(), ctypes.c_size_t()
        with self._handle.use() as chat:
            call("chat_logits", chat, ctypes.byref(row), ctypes.byref(count))
            return floats_at(row, (count.value,))

    @property
    def snapshot(self) -> Optional[str]:
        """The prefix snapshot that it began from."""
        with self._handle.use() as chat:
            name: bytes = lib.moka_chat_from(chat)
        return name.decode("utf-8", "replace") or None

    @property
    def kept_state_bytes(self) -> int:
        with self._handle.use() as chat:
            return int(lib.moka_chat_kept_state_bytes(chat))

    def save(self) -> bytes:
        """All turns, and the states of some: see saved_states."""
        with self._handle.use() as chat:
            return saved("chat_save", chat)

    def save_file(self, path: "Union[str, os.PathLike[str]]") -> None:
        """The same in a file, which is written under another name, synced and renamed."""
        with self._handle.use() as chat:
            call("chat_save_file", chat, os.fsencode(os.fspath(path)))

    def cancel(self) -> None:
        """Ends the running call with CancelledError, the chat as it was before it; if none runs, the
        next call. Any thread."""
        self._handle.signal("chat_cancel")

    def _absorb(self, chat: int) -> None:
        """Uses up a cancel that came too late, by going to where it is."""
        error = _abi.Error()
        lib.moka_chat_switch_to(chat, lib.moka_chat_current(chat), None, ctypes.byref(error))

    def _step(self, work: Callable[[int, Any], None]) -> int:
        step = sized(_abi.ChatStep)
        told = self._telling(lambda run, chat: work(chat, ctypes.byref(step)))
        interruptible(self._handle, lambda chat: told(None, chat), self.cancel, self._absorb)
        return int(step.turn)

    def _telling(self, work: Any) -> Any:
        """The work, from which comes what progress raised."""

        def told(run: Any, chat: int) -> Any:
            self._error = None
            try:
                return work(run, chat)
            except CancelledError:
                if self._error is not None:
                    raise self._error from None
                raise

        return told


def _tell(chat: Optional[Chat], done: int, total: int, again: int) -> int:
    try:
        if chat is not None and chat._told is not None:
            chat._told(done, total, bool(again))
    except BaseException as error:  # it has no way through the library
        if chat is not None:
            chat._error = error
        return 1
    return 0


def _made(model: int, saved: Any, options: Any) -> int:
    given = ctypes.byref(options)
    if saved is None:
        return created("chat_create", model, given)
    if isinstance(saved, (bytes, bytearray, memoryview)):
        data = bytes(saved)
        return created("chat_open", model, data, len(data), given)
    return created("chat_open_file", model, os.fsencode(os.fspath(saved)), given)


def _role(role: str) -> int:
    if role not in ROLES:
        raise InvalidArgumentError(f"role is {role!r}, must be one of {', '.join(ROLES)}")
    return ROLES.index(role)


def _find(chat: int, id: int) -> Turn:
    raw = sized(_abi.Turn)
    call("chat_find_turn", chat, id, ctypes.byref(raw))
    return _turn(raw)


def _turn(raw: Any) -> Turn:
    text = ctypes.string_at(raw.text, raw.text_size) if raw.text_size else b""
    return Turn(
        raw.id,
        raw.parent,
        ROLES[raw.role],
        text.decode("utf-8", "replace"),
        end_name(raw.end),
        bool(raw.kept),
        raw.position,
        tuple(raw.tokens[: raw.token_count]),
        raw.template_head,
        raw.template_tail,
    )
