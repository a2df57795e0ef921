"""Opening models; text and tokens."""

from __future__ import annotations

import ctypes
import os
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Callable, List, Optional, Union

from . import _abi
from ._arrays import Tokens, c_tokens, token_array
from ._handle import Handle
from ._library import call, options_of
from ._object import Closing
from ._run import NoHandle, interruptible
from .errors import CancelledError
from .executor import Executor
from .info import ModelInfo, read_info
from .sampling import Sampler, checked
from .session import Session
from .tasks import Progress, Tasks, _Progress

if TYPE_CHECKING:
    from .chat import Chat, Template

Path = Union[str, "os.PathLike[str]"]


@dataclass(frozen=True)
class Limits:
    """What a file may ask of this process, for models that nobody vouches for; 0: what the format itself
    allows. Above one, opening fails with OutOfRangeError before anything of that size is read or
    allocated."""

    header_bytes: int = 0
    """0: 64 MiB."""
    tensors: int = 0
    vocab_size: int = 0
    memory_bytes: int = 0
    """Packed weights, one session's state and the working rows, but no mapped pages; 0: no limit."""


def load(
    path: Path,
    *,
    threads: int = 0,
    chunk: int = 0,
    check_data: bool = False,
    kernels: Optional[str] = None,
    limits: Limits = Limits(),
    progress: Optional[Progress] = None,
) -> "Model":
    """Opens a .moka file: it is mapped, checked, and its weights made ready.

    threads      0: one per core, at most 4; else 1 to 256
    chunk        tokens of a prompt that are read at once, 1 to 1024; 0: 128
    check_data   read the whole file and compare it with its checksums first; else the header alone
    kernels      "scalar", "avx2", "avx512" or "neon"; None: the best of this CPU
    limits       what the file may ask, OutOfRangeError
    progress     told the share of check_data that is done

    The file may be renamed or deleted meanwhile, but must not be overwritten in place. NotFoundError,
    IoError, CorruptError, VersionError, UnsupportedError; the message names the part.
    """
    name = os.fsencode(os.fspath(path))
    options = _options(threads, chunk, check_data, kernels, limits)
    return _opened(options, progress, None, lambda *rest: call("model_open", name, *rest))


def load_bytes(
    data: Any,
    *,
    threads: int = 0,
    chunk: int = 0,
    check_data: bool = False,
    kernels: Optional[str] = None,
    limits: Limits = Limits(),
    progress: Optional[Progress] = None,
) -> "Model":
    """A model in memory, bytes or anything like them, which are copied. As load() else."""
    options = _options(threads, chunk, check_data, kernels, limits)
    memory = _aligned(data)
    address, size, _ = memory
    return _opened(
        options, progress, memory, lambda *rest: call("model_open_memory", address, size, *rest)
    )


def load_fd(
    fd: int,
    offset: int = 0,
    length: int = 0,
    *,
    threads: int = 0,
    chunk: int = 0,
    check_data: bool = False,
    kernels: Optional[str] = None,
    limits: Limits = Limits(),
    progress: Optional[Progress] = None,
) -> "Model":
    """From `length` bytes at `offset` of an open file, or from all of its rest with length 0: a model
    inside of another file. The descriptor may be closed afterwards, and is neither closed nor moved here.
    The model is mapped if `offset` is a multiple of 64, else read into memory. As load() else."""
    options = _options(threads, chunk, check_data, kernels, limits)
    place = (fd, checked("offset", offset, 64), checked("length", length, 64))
    return _opened(options, progress, None, lambda *rest: call("model_open_fd", *place, *rest))


def _options(
    threads: int, chunk: int, check_data: bool, kernels: Optional[str], limits: Limits
) -> Any:
    options = options_of("open")
    options.threads = threads
    options.chunk = chunk or options.chunk
    options.check_data = int(check_data)
    options.kernels = kernels.encode() if kernels else None
    for field in fields(limits):
        name = "limit_" + field.name
        setattr(options, name, checked(f"limits.{field.name}", getattr(limits, field.name), 64))
    return options


def _opened(
    options: Any, told: Optional[Progress], memory: Any, open_with: Callable[..., None]
) -> "Model":
    progress = _Progress(told)
    options.progress = progress.callback
    out = _abi.Handle()

    def work(_: int) -> None:
        open_with(ctypes.byref(options), ctypes.byref(out))

    try:
        interruptible(NoHandle(), work, progress.cancel)
    except CancelledError:
        if progress.error is not None:
            raise progress.error from None
        raise
    return Model(out.value or 0, memory)


def _aligned(data: Any) -> Any:
    """(address, size, owner) of a copy that is aligned to 64 bytes."""
    view = memoryview(data).cast("B")
    owner = ctypes.create_string_buffer(view.nbytes + 64)
    address = (ctypes.addressof(owner) + 63) & ~63
    ctypes.memmove(address, bytes(view), view.nbytes)
    return address, view.nbytes, owner


class Model(Tasks, Closing):
    """An opened model, which never changes; made by load(). Any number of threads may use it, and
    sessions, samplers and executors of it; calls on one executor wait for each other.

    Close what was made from it first: after close() sessions still read tokens, but no text.
    """

    def __init__(self, pointer: int, memory: Any = None) -> None:
        self._handle = Handle(pointer, "model", exclusive=False, kept=memory)
        self.info: ModelInfo = read_info(pointer)

    def __repr__(self) -> str:
        return f"<moka.Model {self.info.name!r}, {self.info.architecture}>"

    # ---- text ----

    def encode(self, text: str, special: bool = False) -> List[int]:
        """The ids of a text. special: special tokens that stand in it, such as <|endoftext|>, become
        their ids; else they are plain text, as they should be in what a stranger wrote. No begin_token
        or end_token is added. UnsupportedError: the model has no tokenizer."""
        data = text.encode("utf-8", "surrogateescape")
        # A byte is a token at most, except for what a tokenizer puts in front.
        capacity = len(data) + 16
        needed = ctypes.c_size_t()
        with self._handle.use() as model:
            while True:
                ids = (ctypes.c_int32 * capacity)()
                out = (ids, capacity, ctypes.byref(needed))
                try:
                    call("model_tokenize", model, data, len(data), int(special), *out)
                    return ids[: needed.value]
                except ValueError:
                    if needed.value <= capacity:
                        raise
                    capacity = needed.value

    def decode(self, tokens: Tokens) -> str:
        """The text of a sequence of ids; control tokens have none, and bytes that are no whole
        character become U+FFFD. OutOfRangeError: no such id."""
        ids = token_array(tokens)
        needed = ctypes.c_size_t()
        with self._handle.use() as model:
            head = (model, c_tokens(ids), len(ids))
            call("model_detokenize", *head, None, 0, ctypes.byref(needed))
            text = ctypes.create_string_buffer(max(1, needed.value))
            call("model_detokenize", *head, text, needed.value or 1, ctypes.byref(needed))
        return text.raw[: needed.value].decode("utf-8", "replace")

    def token_bytes(self, token: int) -> bytes:
        """The bytes of one token, of a special one its name; they need not be whole characters."""
        text, size = ctypes.c_void_p(), ctypes.c_size_t()
        with self._handle.use() as model:
            call("model_token_text", model, token, ctypes.byref(text), ctypes.byref(size))
            return ctypes.string_at(text, size.value) if size.value else b""

    # ---- what is made from it ----

    def session(self, executor: Optional[Executor] = None) -> Session:
        """A sequence that is read and written step by step. FailedPreconditionError: a model that sees
        ahead, or that compares two sequences, has none."""
        return Session(self, executor)

    def executor(self, threads: int = 0, chunk: int = 0) -> Executor:
        """More threads that run this model; arguments as in load()."""
        return Executor(self, threads, chunk)

    def sampler(self, temperature: Optional[float] = None, **options: Any) -> Sampler:
        """Sampler(self, ...)."""
        return Sampler(self, temperature, **options)

    def chat(self, template: "Optional[Template]" = None, **options: Any) -> "Chat":
        """Chat(self, ...): a conversation, or a text written in turns."""
        from .chat import Chat

        return Chat(self, template, **options)

