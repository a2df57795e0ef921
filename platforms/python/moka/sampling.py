"""How tokens are drawn."""

from __future__ import annotations

import ctypes
import secrets
from typing import TYPE_CHECKING, Any, Dict, Mapping, Optional

from . import _abi
from ._arrays import Numbers, Tokens, c_floats, c_tokens, float_array, token_array
from ._handle import Handle
from ._library import call, created, lib, options_of, saved
from ._object import Closing
from .errors import InvalidArgumentError

if TYPE_CHECKING:
    from .model import Model


def sampler_options(
    model: int,
    temperature: Optional[float] = None,
    top_k: Optional[int] = None,
    top_p: Optional[float] = None,
    min_p: Optional[float] = None,
    repeat_penalty: Optional[float] = None,
    repeat_window: Optional[int] = None,
    seed: Optional[int] = None,
    bias: Optional[Mapping[int, float]] = None,
) -> Any:
    """A moka_sampler_options with what the model's author recommends for what is None, except for
    the seed, which is a random one then."""
    options = options_of("sampler", model)
    given: Dict[str, Any] = {
        "temperature": temperature,
        "top_k": top_k,
        "top_p": top_p,
        "min_p": min_p,
        "repeat_penalty": repeat_penalty,
        "repeat_window": repeat_window,
    }
    for name, value in given.items():
        if value is not None:
            setattr(options, name, checked(name, value) if name in COUNTS else value)
    options.seed = secrets.randbits(32) if seed is None else checked("seed", seed, 64)
    if bias:
        entries = (_abi.LogitBias * len(bias))(*(_abi.LogitBias(token, added) for token, added in bias.items()))
        options.bias = entries
        options.bias_count = len(bias)
    return options


COUNTS = ("top_k", "repeat_window")


def checked(name: str, value: int, bits: int = 32) -> int:
    """The value, which ctypes would cut to its bits without a word."""
    if not 0 <= value < 1 << bits:
        raise InvalidArgumentError(f"{name} is {value}, must be 0 to 2^{bits} - 1")
    return value


def no_nul(name: str, text: str) -> bytes:
    """The text for a `const char*`, which ends at its first NUL."""
    if "\0" in text:
        raise InvalidArgumentError(f"{name} has a character NUL in it")
    return text.encode()


class Sampler(Closing):
    """Draws tokens from scores. Equal scores, options and seed draw equal tokens everywhere.

    model            whose scores, model.info.outputs of them, and whose recommendations for what is
                     None here
    temperature      0: always the likeliest token
    top_k            draw from the k likeliest; 0: from all
    top_p            from the fewest that have this probability together; 1: from all
    min_p            from those at least min_p times as likely as the likeliest
    repeat_penalty   above 1 makes the last repeat_window tokens less likely
    seed             None: a random one, see the attribute
    bias             token id -> what is added to its score; -inf bans it

    InvalidArgumentError for a value out of its range. One thread at a time.
    """

    def __init__(
        self,
        model: "Model",
        temperature: Optional[float] = None,
        *,
        top_k: Optional[int] = None,
        top_p: Optional[float] = None,
        min_p: Optional[float] = None,
        repeat_penalty: Optional[float] = None,
        repeat_window: Optional[int] = None,
        seed: Optional[int] = None,
        bias: Optional[Mapping[int, float]] = None,
    ) -> None:
        with model._handle.use() as pointer:
            options = sampler_options(
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
            made = created("sampler_create", pointer, ctypes.byref(options))
        self._handle = Handle(made, "sampler", exclusive=True)
        self.seed: int = options.seed
        """What the draws began from."""

    def sample(self, logits: Numbers) -> int:
        """Draws a token from [outputs] scores, such as session.logits().

        FailedPreconditionError when all are banned; InvalidArgumentError for a NaN.
        """
        scores = float_array(logits, "logits")
        token = _abi.Token()
        with self._handle.use() as pointer:
            call("sampler_sample", pointer, c_floats(scores), len(scores), ctypes.byref(token))
        return token.value

    def accept(self, tokens: Tokens) -> None:
        """Tells of tokens that were not drawn here, such as those of a prompt, for repeat_penalty."""
        ids = token_array(tokens)
        with self._handle.use() as pointer:
            call("sampler_accept", pointer, c_tokens(ids), len(ids))

    def reset(self) -> None:
        """Forgets recent tokens and starts again from the seed."""
        with self._handle.use() as pointer:
            lib.moka_sampler_reset(pointer)

    def save(self) -> bytes:
        """Generator and recent tokens."""
        with self._handle.use() as pointer:
            return saved("sampler_save", pointer)

    def restore(self, state: bytes) -> None:
        """What save() gave, into a sampler of equal options. CorruptError for anything else."""
        with self._handle.use() as pointer:
            call("sampler_restore", pointer, state, len(state))
