"""Finds libmoka, checks that it is one that this package was written for, and calls it."""

from __future__ import annotations

import ctypes
import ctypes.util
import os
import sys
from typing import Any, List

from . import _abi
from .errors import LibraryError, error_of

_NAMES = {
    "darwin": [f"libmoka.{_abi.ABI_VERSION}.dylib", "libmoka.dylib"],
    "win32": ["moka.dll"],
}.get(sys.platform, [f"libmoka.so.{_abi.ABI_VERSION}", "libmoka.so"])


def candidates() -> List[str]:
    """Where the library may be, the first choice first: what MOKA_LIBRARY names and nothing else;
    beside this package, as wheels have it; where the system looks."""
    named = os.environ.get("MOKA_LIBRARY")
    if named:
        return [named]
    here = os.path.dirname(os.path.abspath(__file__))
    found = [os.path.join(here, name) for name in _NAMES] + list(_NAMES)
    known = ctypes.util.find_library("moka")
    return found + ([known] if known and known not in found else [])


def _load() -> Any:
    tried: List[str] = []
    for path in candidates():
        if os.path.isabs(path) and not os.path.exists(path):
            tried.append(f"{path}: no such file")
            continue
        try:
            library = ctypes.CDLL(path)
        except OSError as error:
            tried.append(f"{path}: {error}")
            continue
        _check(library, path)
        return library
    raise LibraryError(
        "libmoka was not found. Install a wheel that has it, or let MOKA_LIBRARY name the file. "
        "Tried: " + "; ".join(tried)
    )


def _check(library: Any, path: str) -> None:
    """Declares all functions and refuses a library that this package would call wrongly."""
    try:
        library.moka_abi_version.restype = ctypes.c_uint32
        abi = library.moka_abi_version()
    except AttributeError:
        raise LibraryError(f"{path} is not Moka's: it has no moka_abi_version") from None
    if abi != _abi.ABI_VERSION:
        raise LibraryError(
            f"{path} has the ABI version {abi}, this package needs {_abi.ABI_VERSION}; install the "
            "package that came with the library, or unset MOKA_LIBRARY"
        )
    for name, (result, arguments) in _abi.PROTOTYPES.items():
        try:
            function = getattr(library, "moka_" + name)
        except AttributeError:
            raise LibraryError(
                f"{path} has no moka_{name}: it is older than this package; install them together"
            ) from None
        function.restype = result
        function.argtypes = arguments
    # Options are filled in by the library, which stores the size that both sides agreed on.
    for name in ("open", "executor", "generate", "read", "chat"):
        _check_size(library, path, name, [])
    _check_size(library, path, "sampler", [None])


def _check_size(library: Any, path: str, name: str, more: List[Any]) -> None:
    kind = _abi.STRUCTS[f"moka_{name}_options"]
    options = kind()
    size = ctypes.sizeof(kind)
    getattr(library, f"moka_{name}_options_init")(ctypes.byref(options), size, *more)
    if options.struct_size != size:
        raise LibraryError(
            f"{path}: moka_{name}_options has {options.struct_size} bytes, this package expects {size}"
        )


lib: Any = _load()


def call(name: str, *arguments: Any) -> None:
    """Calls moka_`name`, which gives a status, and raises the error that it reports."""
    error = _abi.Error()
    if getattr(lib, "moka_" + name)(*arguments, ctypes.byref(error)) != 0:
        raise error_of(error.code, error.message.decode("utf-8", "replace"))


def created(name: str, *arguments: Any) -> int:
    """The handle that moka_`name` gives."""
    out = _abi.Handle()
    call(name, *arguments, ctypes.byref(out))
    return out.value or 0


def options_of(name: str, *more: Any) -> Any:
    """The options struct of moka_`name`_options_init, with the defaults."""
    options = _abi.STRUCTS[f"moka_{name}_options"]()
    init = getattr(lib, f"moka_{name}_options_init")
    init(ctypes.byref(options), ctypes.sizeof(options), *more)
    return options


def sized(kind: Any) -> Any:
    """A struct for the library to fill in."""
    return kind(struct_size=ctypes.sizeof(kind))


def saved(name: str, handle: int) -> bytes:
    """The bytes that moka_`name` writes."""
    needed = ctypes.c_size_t()
    call(name, handle, None, 0, ctypes.byref(needed))
    buffer = ctypes.create_string_buffer(max(1, needed.value))
    call(name, handle, buffer, len(buffer), ctypes.byref(needed))
    return buffer.raw[: needed.value]


def version() -> str:
    """The version of the library that runs, "1.2.3"."""
    text: bytes = lib.moka_version()
    return text.decode()


def format_version() -> int:
    """The version of the model files that it reads."""
    return int(lib.moka_format_version())
