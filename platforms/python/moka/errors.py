"""What goes wrong, one class per status code of moka.h. Branch on classes, never on words."""

from __future__ import annotations

from typing import ClassVar, Dict, Type


class MokaError(Exception):
    """Base of all errors of a model, session, chat or sampler.

    `code` is the status of moka.h; str() is a message for people that names what was wrong and what
    would be right.
    """

    code: ClassVar[int] = 0


class InvalidArgumentError(MokaError, ValueError):
    """Something was passed that can never work."""

    code = 1


class NotFoundError(MokaError):
    """There is no such file, turn, ..."""

    code = 2


class IoError(MokaError):
    """The operating system failed to read or write."""

    code = 3


class CorruptError(MokaError):
    """The bytes are not what they claim to be."""

    code = 4


class VersionError(MokaError):
    """A version of the format that this library does not know."""

    code = 5


class UnsupportedError(MokaError):
    """Valid, but not for this build or this model."""

    code = 6


class OutOfMemoryError(MokaError, MemoryError):
    """There is not enough memory."""

    code = 7


class OutOfRangeError(MokaError, ValueError):
    """An index, position or size beyond its bound."""

    code = 8


class FailedPreconditionError(MokaError):
    """The right call at the wrong moment."""

    code = 9


class ClosedError(FailedPreconditionError):
    """The object was closed before."""


class BusyError(FailedPreconditionError):
    """Another thread, or a reply that has not ended, uses the object."""


class CancelledError(MokaError):
    """Ended by cancel(), or by a callback. Not asyncio.CancelledError, which asyncio raises itself."""

    code = 10


class InternalError(MokaError):
    """A defect of Moka."""

    code = 11


class LibraryError(ImportError):
    """libmoka was not found, or is not one that this package can use."""


BY_CODE: Dict[int, Type[MokaError]] = {
    kind.code: kind
    for kind in (
        InvalidArgumentError,
        NotFoundError,
        IoError,
        CorruptError,
        VersionError,
        UnsupportedError,
        OutOfMemoryError,
        OutOfRangeError,
        FailedPreconditionError,
        CancelledError,
        InternalError,
    )
}


def error_of(code: int, message: str) -> MokaError:
    """The exception of a status code; of one that is newer than this package, a MokaError."""
    kind = BY_CODE.get(code)
    return kind(message) if kind else MokaError(f"status {code}: {message}")
