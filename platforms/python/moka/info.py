"""What a model is."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import Optional, Tuple

from . import _abi
from ._library import call, lib, sized

INPUTS = ("tokens", "values", "pixels")
OUTPUTS = ("hidden", "language", "classifier", "pair", "regression", "embedding")


@dataclass(frozen=True)
class Snapshot:
    """A prefix snapshot: the state behind a text that the file ships, so that sessions and chats begin
    there without reading."""

    name: str
    text: str
    """What was read."""
    position: int
    """Tokens that were read."""
    bytes: int
    """Of its state in the file."""
    usable: bool
    """False: it was made with other weights, or does not say which tokens were read."""


@dataclass(frozen=True)
class ModelInfo:
    """What a model reads and tells, and what it needs. Tokens that it has not are None."""

    name: str
    architecture: str
    kernels: str
    """Those in use: "scalar", "avx2", "avx512" or "neon"."""
    input: str
    """What a step is: "tokens" (an id), "values" (`features` floats), "pixels" (a grey value)."""
    output: str
    """What a row of output is: "hidden", "language" (scores of the next token), "classifier",
    "pair" (scores of classes), "regression", "embedding"."""
    causal: bool
    """Sessions read it; others read whole sequences only."""
    reads_memory: bool
    """It answers from a second sequence, which is read first."""
    has_tokenizer: bool
    """It reads text."""
    width: int
    layers: int
    vocab_size: int
    """Ids are 0 to vocab_size - 1; 0: it reads no tokens."""
    features: int
    image_width: int
    image_height: int
    outputs: int
    """Floats in a row of output."""
    classes: Tuple[str, ...]
    """Names of the classes of a classifier or pair model, "0", "1", ... where the file has none."""
    forecast_steps: int
    """Steps that a regression head tells at once."""
    forecast_outputs: int
    """Numbers per step."""
    forecast_quantiles: int
    """Quantiles of each number; 1 when it is the mean."""
    quantiles: Tuple[float, ...]
    """Their levels, rising; none when the head tells the mean."""
    threads: int
    padding: Optional[int]
    """Left out by a pooling head."""
    begin_token: Optional[int]
    end_token: Optional[int]
    unknown_token: Optional[int]
    parameters: int
    weight_bytes: int
    state_bytes: int
    """Memory of a session's state, whatever it has read."""
    state_bytes_per_token: int
    """What each token adds to it: 0, except for softmax attention."""
    position_limit: Optional[int]
    """Tokens that a session may read; None: no limit."""
    fingerprint: int
    """Of the file; sessions are restored into an equal one only."""
    snapshots: Tuple[Snapshot, ...]
    """For Session.restore_snapshot() and Chat(snapshot=...)."""

    @property
    def start_token(self) -> Optional[int]:
        """What a text begins with: begin_token, else end_token."""
        return self.end_token if self.begin_token is None else self.begin_token


def read_info(model: int) -> ModelInfo:
    """The info of an opened model."""
    raw = sized(_abi.ModelInfo)
    call("model_get_info", model, ctypes.byref(raw))
    values = {name: getattr(raw, name) for name, *_ in raw._fields_ if name != "struct_size"}
    for name in ("name", "architecture", "kernels"):
        values[name] = values[name].decode("utf-8", "replace")
    for name in ("causal", "reads_memory", "has_tokenizer"):
        values[name] = bool(values[name])
    for name in ("padding", "begin_token", "end_token", "unknown_token"):
        values[name] = None if values[name] < 0 else values[name]
    values["input"] = INPUTS[raw.input] if raw.input < len(INPUTS) else f"input {raw.input}"
    values["output"] = OUTPUTS[raw.output] if raw.output < len(OUTPUTS) else f"output {raw.output}"
    values["position_limit"] = raw.position_limit or None
    values["classes"] = tuple(
        lib.moka_model_class_name(model, i).decode("utf-8", "replace") for i in range(raw.classes)
    )
    values["quantiles"] = _quantiles(model) if raw.forecast_quantiles else ()
    count = lib.moka_model_snapshot_count(model)
    values["snapshots"] = tuple(_snapshot(model, place) for place in range(count))
    return ModelInfo(**values)


def _snapshot(model: int, place: int) -> Snapshot:
    raw = sized(_abi.Snapshot)
    call("model_snapshot_at", model, place, ctypes.byref(raw))
    text = ctypes.string_at(raw.text, raw.text_size) if raw.text_size else b""
    return Snapshot(
        raw.name.decode("utf-8", "replace"),
        text.decode("utf-8", "replace"),
        raw.position,
        raw.bytes,
        bool(raw.usable),
    )


def _quantiles(model: int) -> Tuple[float, ...]:
    needed = ctypes.c_size_t()
    call("model_quantiles", model, None, 0, ctypes.byref(needed))
    if not needed.value:
        return ()
    levels = (ctypes.c_float * needed.value)()
    call("model_quantiles", model, levels, len(levels), ctypes.byref(needed))
    # As they were written, not as the nearest float32 is.
    return tuple(float(f"{level:.6g}") for level in levels)
