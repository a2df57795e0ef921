"""Numbers in and out, with numpy and without.

Out: float32 arrays. With numpy (and use_numpy not switched off) they are numpy.ndarray; without,
the last axis is an array.array('f') and the axes before it are lists, so x[i][j] reads both alike.
In: anything that holds numbers in order: numpy arrays, array.array, lists, nested as deep as wanted;
only the order counts.
"""

from __future__ import annotations

import ctypes
from array import array
from typing import Any, Iterable, List, Optional, Sequence, Tuple, Union, cast

from . import _abi
from .errors import InvalidArgumentError

# A numpy.ndarray of float32, or array('f') inside of lists: see above.
Floats = Any
Numbers = Union[Sequence[float], Sequence[Sequence[float]], Any]
Tokens = Iterable[int]

_wanted: Optional[bool] = None


def use_numpy(wanted: Optional[bool]) -> None:
    """Whether arrays that are given out are numpy's: None, the default, means where it is installed.

    Holds for the whole process. Raises ModuleNotFoundError for True where it is not installed.
    """
    global _wanted
    if wanted:
        import numpy  # noqa: F401  # to fail here and not later
    _wanted = wanted


def _numpy() -> Any:
    if _wanted is False:
        return None
    try:
        import numpy
    except ModuleNotFoundError:
        return None
    return numpy


def floats_at(pointer: Any, shape: Tuple[int, ...]) -> Floats:
    """A copy of the float32 numbers there, which must have been written."""
    count = 1
    for size in shape:
        count *= size
    flat = array("f")
    if count:
        flat.frombytes(ctypes.string_at(pointer, count * 4))
    return shaped(flat, shape)


def shaped(flat: "array[float]", shape: Tuple[int, ...]) -> Floats:
    """An array('f') in that shape; it may be used in place."""
    numpy = _numpy()
    if numpy is not None:
        return numpy.frombuffer(flat, dtype=numpy.float32).reshape(shape) if len(flat) else (
            numpy.zeros(shape, dtype=numpy.float32)
        )
    if len(shape) == 1:
        return flat
    step = len(flat) // shape[0] if shape[0] else 0
    return [shaped(flat[i * step : (i + 1) * step], shape[1:]) for i in range(shape[0])]


def token_array(given: Union[Tokens, Numbers], name: str = "tokens") -> "array[int]":
    """The ids as an array('i'). InvalidArgumentError for what is no int32."""
    tokens: Any = given
    if isinstance(tokens, array) and tokens.typecode == "i":
        return tokens
    if hasattr(tokens, "tolist"):
        tokens = tokens.tolist()
    try:
        return array("i", tokens)
    except (TypeError, OverflowError) as error:
        raise InvalidArgumentError(
            f"{name} must be token ids, one int after the other: {error}"
        ) from None


def float_array(given: Numbers, name: str = "values") -> "array[float]":
    """The numbers in order as an array('f'). InvalidArgumentError for what holds others."""
    if isinstance(given, array) and given.typecode == "f":
        return cast("array[float]", given)
    values: Any = given
    flat = array("f")
    if hasattr(values, "astype") and hasattr(values, "ravel"):
        flat.frombytes(values.astype("float32").ravel().tobytes())
        return flat
    if hasattr(values, "tolist"):
        values = values.tolist()
    try:
        _flatten(values, flat)
    except TypeError as error:
        raise InvalidArgumentError(f"{name} must be numbers, or sequences of them: {error}") from None
    except OverflowError:
        raise InvalidArgumentError(f"{name} has a number that float32 cannot hold") from None
    return flat


def _flatten(values: Any, flat: "array[float]") -> None:
    for value in values:
        if hasattr(value, "__float__") and not hasattr(value, "__len__"):  # numpy's numbers, too
            flat.append(value)
        elif isinstance(value, (str, bytes)):
            raise TypeError(f"{value!r} is text")
        else:
            _flatten(value, flat)


def c_tokens(tokens: "array[int]") -> Any:
    """Points into the array, which must live as long."""
    return (ctypes.c_int32 * len(tokens)).from_buffer(tokens) if tokens else None


def c_floats(values: "array[float]") -> Any:
    """Points into the array, which must live as long."""
    return (ctypes.c_float * len(values)).from_buffer(values) if values else None


def sequence_of(tokens: Optional["array[int]"], values: Optional["array[float]"]) -> _abi.Sequence:
    """A moka_sequence of one of the two, which it keeps alive."""
    sequence = _abi.Sequence()
    if tokens is not None and len(tokens):
        sequence.tokens = ctypes.cast(c_tokens(tokens), _abi.TokenPointer)
        sequence.token_count = len(tokens)
    if values is not None and len(values):
        sequence.values = ctypes.cast(c_floats(values), _abi.FloatPointer)
        sequence.value_count = len(values)
    sequence.kept = (tokens, values)
    return sequence


class Rows:
    """Collects what a moka_rows_fn is given; `callback` must live until the call ends."""

    def __init__(self, outputs: int) -> None:
        self.outputs = outputs
        self.flat = array("f")
        self.stopped = False
        self.callback = _abi.RowsFn(self._rows)

    def _rows(self, user: Any, first: int, rows: int, output: Any, stride: int) -> int:
        if self.stopped:
            return 1
        start = ctypes.addressof(output.contents)
        for row in range(rows):
            self.flat.frombytes(ctypes.string_at(start + row * stride * 4, self.outputs * 4))
        return 0

    def array(self) -> Floats:
        """[rows][outputs]"""
        return shaped(self.flat, (len(self.flat) // self.outputs, self.outputs))


def token_list(buffer: Any, count: int) -> List[int]:
    """The first ids of a buffer."""
    return list(buffer[:count])
