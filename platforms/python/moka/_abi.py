"""moka.h for ctypes: structs and prototypes, in the order of the headers. No behaviour.

Structs with struct_size may be smaller than those of a newer library, which then keeps to them.
"""

from __future__ import annotations

import ctypes
from ctypes import c_char, c_char_p, c_double, c_float, c_int32, c_size_t, c_uint32, c_uint64
from ctypes import CFUNCTYPE, POINTER, c_void_p
from typing import Any, Dict, List, Tuple

ABI_VERSION = 1

Token = c_int32
TokenPointer = POINTER(c_int32)
FloatPointer = POINTER(c_float)
Handle = c_void_p

ProgressFn = CFUNCTYPE(c_int32, c_void_p, c_double)
RowsFn = CFUNCTYPE(c_int32, c_void_p, c_size_t, c_size_t, FloatPointer, c_size_t)
# The text is no c_char_p: it does not end with NUL.
TextFn = CFUNCTYPE(c_int32, c_void_p, c_void_p, c_size_t)
ChatProgressFn = CFUNCTYPE(c_int32, c_void_p, c_uint64, c_uint64, c_int32)


class Error(ctypes.Structure):
    _fields_ = [("code", c_int32), ("message", c_char * 1020)]


class ExecutorOptions(ctypes.Structure):
    _fields_ = [("struct_size", c_uint32), ("threads", c_int32), ("chunk", c_uint32)]


class OpenOptions(ctypes.Structure):
    _fields_ = [
        ("struct_size", c_uint32),
        ("threads", c_int32),
        ("chunk", c_uint32),
        ("check_data", c_int32),
        ("kernels", c_char_p),
        ("progress", ProgressFn),
        ("progress_user", c_void_p),
        ("limit_header_bytes", c_uint64),
        ("limit_tensors", c_uint64),
        ("limit_vocab_size", c_uint64),
        ("limit_memory_bytes", c_uint64),
    ]


class ModelInfo(ctypes.Structure):
    _fields_ = [
        ("struct_size", c_uint32),
        ("input", c_int32),
        ("output", c_int32),
        ("causal", c_int32),
        ("reads_memory", c_int32),
        ("has_tokenizer", c_int32),
        ("width", c_uint32),
        ("layers", c_uint32),
        ("vocab_size", c_uint32),
        ("features", c_uint32),
        ("image_width", c_uint32),
        ("image_height", c_uint32),
        ("outputs", c_uint32),
        ("classes", c_uint32),
        ("forecast_steps", c_uint32),
        ("forecast_outputs", c_uint32),
        ("forecast_quantiles", c_uint32),
        ("threads", c_int32),
        ("padding", c_int32),
        ("begin_token", c_int32),
        ("end_token", c_int32),
        ("unknown_token", c_int32),
        ("parameters", c_uint64),
        ("weight_bytes", c_uint64),
        ("state_bytes", c_uint64),
        ("state_bytes_per_token", c_uint64),
        ("position_limit", c_uint64),
        ("fingerprint", c_uint64),
        ("name", c_char_p),
        ("architecture", c_char_p),
        ("kernels", c_char_p),
    ]


class Snapshot(ctypes.Structure):
    _fields_ = [
        ("struct_size", c_uint32),
        ("usable", c_int32),
        ("position", c_uint64),
        ("bytes", c_uint64),
        ("name", c_char_p),
        ("text", c_void_p),
        ("text_size", c_size_t),
    ]


class LogitBias(ctypes.Structure):
    _fields_ = [("token", c_int32), ("bias", c_float)]


class SamplerOptions(ctypes.Structure):
    _fields_ = [
        ("struct_size", c_uint32),
        ("temperature", c_float),
        ("top_k", c_uint32),
        ("top_p", c_float),
        ("min_p", c_float),
        ("repeat_penalty", c_float),
        ("repeat_window", c_uint32),
        ("bias_count", c_uint32),
        ("seed", c_uint64),
        ("bias", POINTER(LogitBias)),
    ]


class Sequence(ctypes.Structure):
    _fields_ = [
        ("tokens", TokenPointer),
        ("token_count", c_size_t),
        ("values", FloatPointer),
        ("value_count", c_size_t),
    ]


class GenerateOptions(ctypes.Structure):
    _fields_ = [
        ("struct_size", c_uint32),
        ("stop_at_end", c_int32),
        ("max_tokens", c_uint64),
        ("max_ms", c_uint64),
        ("loop_tokens", c_uint64),
        ("stop_tokens", TokenPointer),
        ("stop_texts", POINTER(c_char_p)),
        ("stop_token_count", c_uint32),
        ("stop_text_count", c_uint32),
        ("on_text", TextFn),
        ("user", c_void_p),
        ("lookup_tokens", TokenPointer),
        ("lookup_token_count", c_size_t),
        ("lookup", c_uint64),
    ]


class GenerateResult(ctypes.Structure):
    _fields_ = [
        ("struct_size", c_uint32),
        ("end", c_int32),
        ("tokens", c_uint64),
        ("drafted", c_uint64),
        ("accepted", c_uint64),
    ]


class BatchAppend(ctypes.Structure):
    _fields_ = [("session", Handle), ("steps", Sequence)]


class BatchStep(ctypes.Structure):
    _fields_ = [
        ("session", Handle),
        ("sampler", Handle),
        ("token", c_int32),
        ("reserved", c_int32),
    ]


class ReadOptions(ctypes.Structure):
    _fields_ = [
        ("struct_size", c_uint32),
        ("reserved", c_uint32),
        ("executor", Handle),
        ("memory", POINTER(Sequence)),
        ("progress", ProgressFn),
        ("progress_user", c_void_p),
    ]


class ChatOptions(ctypes.Structure):
    _fields_ = [
        ("struct_size", c_uint32),
        ("saved_states", c_uint32),
        ("state_budget_bytes", c_uint64),
        ("template_id", c_char_p),
        ("system_prefix", c_char_p),
        ("system_suffix", c_char_p),
        ("user_prefix", c_char_p),
        ("user_suffix", c_char_p),
        ("model_prefix", c_char_p),
        ("model_suffix", c_char_p),
        ("sampling", POINTER(SamplerOptions)),
        ("executor", Handle),
        ("progress", ChatProgressFn),
        ("progress_user", c_void_p),
        ("from", c_char_p),
    ]


class ChatStep(ctypes.Structure):
    _fields_ = [
        ("struct_size", c_uint32),
        ("reserved", c_uint32),
        ("turn", c_uint64),
        ("tokens_read", c_uint64),
        ("tokens_read_again", c_uint64),
        ("drafted", c_uint64),
        ("accepted", c_uint64),
    ]


class Turn(ctypes.Structure):
    _fields_ = [
        ("struct_size", c_uint32),
        ("role", c_int32),
        ("end", c_int32),
        ("kept", c_int32),
        ("id", c_uint64),
        ("parent", c_uint64),
        ("position", c_uint64),
        ("text", c_void_p),
        ("text_size", c_size_t),
        ("tokens", TokenPointer),
        ("token_count", c_size_t),
        ("template_head", c_uint32),
        ("template_tail", c_uint32),
    ]


STRUCTS: Dict[str, Any] = {
    "moka_error": Error,
    "moka_executor_options": ExecutorOptions,
    "moka_open_options": OpenOptions,
    "moka_model_info": ModelInfo,
    "moka_snapshot": Snapshot,
    "moka_logit_bias": LogitBias,
    "moka_sampler_options": SamplerOptions,
    "moka_sequence": Sequence,
    "moka_generate_options": GenerateOptions,
    "moka_generate_result": GenerateResult,
    "moka_batch_append": BatchAppend,
    "moka_batch_step": BatchStep,
    "moka_read_options": ReadOptions,
    "moka_chat_options": ChatOptions,
    "moka_chat_step": ChatStep,
    "moka_turn": Turn,
}

_out = POINTER(Handle)
_size_out = POINTER(c_size_t)
_step = POINTER(ChatStep)
_generate = POINTER(GenerateOptions)
_sampling = POINTER(SamplerOptions)
_sequence = POINTER(Sequence)
_read = POINTER(ReadOptions)
_text_out = [POINTER(c_void_p), _size_out]
_bytes_out = [c_char_p, c_size_t, _size_out]
_floats_out = [FloatPointer, c_size_t, _size_out]
_tokens = [TokenPointer, c_size_t]
_text = [c_char_p, c_size_t]

# Calls that give a status and take a moka_error last, which `_prototypes` adds.
_CHECKED: Dict[str, List[Any]] = {
    "model_open": [c_char_p, POINTER(OpenOptions), _out],
    "model_open_memory": [c_void_p, c_size_t, POINTER(OpenOptions), _out],
    "model_open_fd": [ctypes.c_int, c_uint64, c_uint64, POINTER(OpenOptions), _out],
    "model_snapshot_at": [Handle, c_size_t, POINTER(Snapshot)],
    "model_get_info": [Handle, POINTER(ModelInfo)],
    "model_tokenize": [Handle, *_text, c_int32, TokenPointer, c_size_t, _size_out],
    "model_detokenize": [Handle, *_tokens, *_bytes_out],
    "model_token_text": [Handle, Token, *_text_out],
    "model_quantiles": [Handle, *_floats_out],
    "text_stream_create": [Handle, _out],
    "text_stream_push": [Handle, Token, *_text_out],
    "text_stream_finish": [Handle, *_text_out],
    "executor_create": [Handle, POINTER(ExecutorOptions), _out],
    "executor_of_model": [Handle, _out],
    "executor_append": [Handle, POINTER(BatchAppend), c_size_t, _size_out],
    "executor_step": [Handle, POINTER(BatchStep), c_size_t, _size_out],
    "sampler_create": [Handle, _sampling, _out],
    "sampler_sample": [Handle, FloatPointer, c_size_t, POINTER(Token)],
    "sampler_accept": [Handle, *_tokens],
    "sampler_save": [Handle, *_bytes_out],
    "sampler_restore": [Handle, *_text],
    "session_create": [Handle, Handle, _out],
    "session_fork": [Handle, _out],
    "session_append": [Handle, *_tokens],
    "session_append_values": [Handle, FloatPointer, c_size_t],
    "session_append_rows": [Handle, _sequence, RowsFn, c_void_p],
    "session_append_memory": [Handle, _sequence],
    "session_logits": [Handle, POINTER(FloatPointer), _size_out],
    "session_step": [Handle, Handle, POINTER(Token)],
    "session_check_generate": [Handle, _generate],
    "session_generate": [Handle, Handle, _generate, POINTER(GenerateResult)],
    "session_save": [Handle, *_bytes_out],
    "session_restore": [Handle, *_text],
    "session_save_file": [Handle, c_char_p],
    "session_restore_file": [Handle, c_char_p],
    "session_restore_snapshot": [Handle, c_char_p],
    "read": [Handle, _sequence, _read, RowsFn, c_void_p],
    "classify": [Handle, _sequence, _read, FloatPointer, FloatPointer, c_size_t, POINTER(c_uint32)],
    "compare": [
        *[Handle, _sequence, _sequence, _read],
        *[FloatPointer, FloatPointer, c_size_t, POINTER(c_uint32)],
    ],
    "embed": [Handle, _sequence, _read, *_floats_out],
    "score": [
        *[Handle, TokenPointer, c_size_t, c_size_t, _read],
        *[POINTER(c_double), POINTER(c_double), TokenPointer, c_size_t],
    ],
    "forecast": [Handle, FloatPointer, c_size_t, c_size_t, _read, *_floats_out],
    "chat_create": [Handle, POINTER(ChatOptions), _out],
    "chat_open": [Handle, *_text, POINTER(ChatOptions), _out],
    "chat_open_file": [Handle, c_char_p, POINTER(ChatOptions), _out],
    "chat_save": [Handle, *_bytes_out],
    "chat_save_file": [Handle, c_char_p],
    "chat_append": [Handle, c_int32, *_text, _step],
    "chat_branch": [Handle, c_uint64, c_int32, *_text, _step],
    "chat_edit": [Handle, c_uint64, *_text, _step],
    "chat_generate": [Handle, _generate, _sampling, _step],
    "chat_regenerate": [Handle, _generate, _sampling, _step],
    "chat_undo": [Handle, _step],
    "chat_switch_to": [Handle, c_uint64, _step],
    "chat_remove": [Handle, c_uint64],
    "chat_turn_at": [Handle, c_size_t, POINTER(Turn)],
    "chat_find_turn": [Handle, c_uint64, POINTER(Turn)],
    "chat_path": [Handle, POINTER(c_uint64), c_size_t, _size_out],
    "chat_logits": [Handle, POINTER(FloatPointer), _size_out],
}
_PLAIN: Dict[str, Tuple[Any, List[Any]]] = {
    "version": (c_char_p, []),
    "abi_version": (c_uint32, []),
    "format_version": (c_uint32, []),
    "status_name": (c_char_p, [c_int32]),
    "open_options_init": (None, [POINTER(OpenOptions), c_uint32]),
    "executor_options_init": (None, [POINTER(ExecutorOptions), c_uint32]),
    "sampler_options_init": (None, [_sampling, c_uint32, Handle]),
    "generate_options_init": (None, [_generate, c_uint32]),
    "read_options_init": (None, [_read, c_uint32]),
    "chat_options_init": (None, [POINTER(ChatOptions), c_uint32]),
    "model_class_name": (c_char_p, [Handle, c_uint32]),
    "model_snapshot_count": (c_size_t, [Handle]),
    "model_free": (None, [Handle]),
    "executor_threads": (c_int32, [Handle]),
    "executor_scratch_bytes": (c_uint64, [Handle]),
    "executor_free": (None, [Handle]),
    "text_stream_free": (None, [Handle]),
    "sampler_reset": (None, [Handle]),
    "sampler_free": (None, [Handle]),
    "session_position": (c_uint64, [Handle]),
    "session_memory_position": (c_uint64, [Handle]),
    "session_reset": (None, [Handle]),
    "session_cancel": (None, [Handle]),
    "session_free": (None, [Handle]),
    "cosine_similarity": (c_double, [FloatPointer, FloatPointer, c_size_t]),
    "chat_cancel": (None, [Handle]),
    "chat_turn_count": (c_size_t, [Handle]),
    "chat_current": (c_uint64, [Handle]),
    "chat_kept_state_bytes": (c_uint64, [Handle]),
    "chat_from": (c_char_p, [Handle]),
    "chat_free": (None, [Handle]),
}

PROTOTYPES: Dict[str, Tuple[Any, List[Any]]] = {
    **{name: (c_int32, [*args, POINTER(Error)]) for name, args in _CHECKED.items()},
    **_PLAIN,
}
