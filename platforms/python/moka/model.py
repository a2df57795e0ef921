"""Opening models; text and tokens."""

from __future__ import annotations

import ctypes
import os
from typing import TYPE_CHECKING, Any, List, Optional, Union

from . import _abi
from ._arrays import Tokens, c_tokens, token_array
from ._handle import Handle
from ._library import call, options_of
from ._object import Closing
from ._run import NoHandle, interruptible
from .errors import CancelledError
from .executor import Executor
from .info import ModelInfo, read_info
from .sampling import Sampler
from .session import Session
from .tasks import Progress, Tasks, _Progress

if TYPE_CHECKING:
    from .chat import Chat, Template

Path = Union[str, "os.PathLike[str]"]


def load(
    path: Path,
    *,
    threads: int = 0,
    chunk: int = 0,
    check_data: bool = False,
    kernels: Optional[str] = None,
    progress: Optional[Progress] = None,
) -> "Model":
    """Opens a .moka file: it is mapped, checked, and its weights made ready.

    threads      0: one per core, at most 4; else 1 to 256
    chunk        tokens of a prompt that are read at once, 1 to 1024; 0: 128
    check_data   read the whole file and compare it with its checksums first; else the header alone
    kernels      "scalar", "avx2", "avx512" or "neon"; None: the best of this CPU
    progress     told the share of check_data that is done

    The file may be renamed or deleted meanwhile, but must not be overwritten in place. NotFoundError,
    IoError, CorruptError, VersionError, UnsupportedError; the message names the part.
    """
    name = os.fsencode(os.fspath(path))
    return _opened(_options(threads, chunk, check_data, kernels), progress, name, None)


def load_bytes(
    data: Any,
    *,
    threads: int = 0,
    chunk: int = 0,
    check_data: bool = False,
    kernels: Optional[str] = None,
    progress: Optional[Progress] = None,
) -> "Model":
    """A model in memory, bytes or anything like them, which are copied. As load() else."""
    return _opened(_options(threads, chunk, check_data, kernels), progress, None, data)


def _options(threads: int, chunk: int, check_data: bool, kernels: Optional[str]) -> Any:
    options = options_of("open")
    options.threads = threads
    options.chunk = chunk or options.chunk
    options.check_data = int(check_data)
    options.kernels = kernels.encode() if kernels else None
    return options


def _opened(options: Any, told: Optional[Progress], path: Optional[bytes], data: Any) -> "Model":
    progress = _Progress(told)
    options.progress = progress.callback
    out = _abi.Handle()
    memory: Any = None if data is None else _aligned(data)

    def work(_: int) -> None:
        if path is not None:
            call("model_open", path, ctypes.byref(options), ctypes.byref(out))
        else:
            address, size, _ = memory
            call("model_open_memory", address, size, ctypes.byref(options), ctypes.byref(out))

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

