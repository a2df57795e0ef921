"""Moka: Latte language models on the CPU, with a memory that does not grow.

    import moka

    with moka.load("stories.moka") as model, model.session() as session:
        for piece in session.reply("Once upon a time", max_tokens=60, temperature=0.8, seed=1):
            print(piece, end="", flush=True)

Everything that fails raises a MokaError; its class tells the kind. Model and Executor serve any number
of threads; a Session, Sampler or Chat one at a time, no matter which. Sizes are in bytes, times in
milliseconds, counts in tokens. How numbers come and go is in use_numpy() and README.md.
"""

from __future__ import annotations

from ._arrays import use_numpy
from ._library import format_version, version
from ._reply import Reply
from ._version import __version__
from .chat import Chat, Template, Turn
from .errors import (
    BusyError,
    CancelledError,
    ClosedError,
    CorruptError,
    FailedPreconditionError,
    InternalError,
    InvalidArgumentError,
    IoError,
    LibraryError,
    MokaError,
    NotFoundError,
    OutOfMemoryError,
    OutOfRangeError,
    UnsupportedError,
    VersionError,
)
from .executor import Executor
from .info import ModelInfo, Snapshot
from .model import Limits, Model, load, load_bytes, load_fd
from .sampling import Sampler
from .session import Session
from .tasks import Classification, Score, cosine

__all__ = [
    "BusyError",
    "CancelledError",
    "Chat",
    "Classification",
    "ClosedError",
    "CorruptError",
    "Executor",
    "FailedPreconditionError",
    "InternalError",
    "InvalidArgumentError",
    "IoError",
    "LibraryError",
    "Limits",
    "Model",
    "ModelInfo",
    "MokaError",
    "NotFoundError",
    "OutOfMemoryError",
    "OutOfRangeError",
    "Reply",
    "Sampler",
    "Score",
    "Session",
    "Snapshot",
    "Template",
    "Turn",
    "UnsupportedError",
    "VersionError",
    "__version__",
    "cosine",
    "format_version",
    "load",
    "load_bytes",
    "load_fd",
    "use_numpy",
    "version",
]
