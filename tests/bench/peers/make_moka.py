#!/usr/bin/env python3
"""Writes a Latte checkpoint of random weights, for `moka convert`, as the peer of a GGUF model.

    make_moka.py PRESET FOLDER

Needs numpy. FOLDER gets config.json, model.safetensors (float32), tokenizer.json with as many
pieces as the GGUF models have, and facts.json: parameters, and how many of them a generated token
reads (all but an input table that is not the output matrix too).

A preset reads as many weights per token as the llama model of its name's size: what the attention
of Macchiato has more of (local queries and keys, gates), its feed-forward has less of.
"""
import json
import os
import struct
import sys

import numpy as np

SMALL = dict(width=288, layers=6, heads=6, vocab=32000, tied=True)
LARGE = dict(width=768, layers=12, heads=12, vocab=32000, tied=False)
PRESETS = {
    "macchiato-15m": dict(SMALL, mixer="macchiato", hidden=576),
    "latte-15m": dict(SMALL, mixer="latte_causal", hidden=768),
    "macchiato-134m": dict(LARGE, mixer="macchiato", hidden=1536),
    "latte-134m": dict(LARGE, mixer="latte_causal", hidden=2048),
}
WINDOW = 128  # tokens that Macchiato's local part sees


def config(p):
    return {
        "model_type": "latte", "architectures": ["LatteForCausalLM"], "torch_dtype": "float32",
        "vocab_size": p["vocab"], "hidden_size": p["width"], "num_hidden_layers": p["layers"],
        "num_attention_heads": p["heads"], "num_latents": p["width"], "mixer": p["mixer"],
        "block_type": "rms_swiglu", "intermediate_size": p["hidden"], "positions": "none",
        "window": WINDOW, "rope_theta": 10000.0, "tie_word_embeddings": p["tied"],
        "bos_token_id": 1, "eos_token_id": 2,
    }


def tensors(p):
    """(name, shape) of every tensor; as many latents as channels."""
    d, f = p["width"], p["hidden"]
    yield "embed.weight", (p["vocab"], d)
    for i in range(p["layers"]):
        b = f"blocks.{i}."
        mixer = ["q", "k", "v", "o"]
        if p["mixer"] == "macchiato":
            mixer += ["local_q", "local_k"]
            yield b + "mixer.gate.weight", (p["heads"], d)
        for name in mixer:
            yield f"{b}mixer.{name}.weight", (d, d)
        yield b + "norm1.weight", (d,)
        yield b + "norm2.weight", (d,)
        yield b + "gate.weight", (f, d)
        yield b + "up.weight", (f, d)
        yield b + "down.weight", (d, f)
    yield "final_norm.weight", (d,)
    if not p["tied"]:
        yield "head.weight", (p["vocab"], d)


def elements(shape):
    return int(np.prod(shape, dtype=np.int64))


def facts(name, p):
    every = list(tensors(p))
    read = [(n, s) for n, s in every if p["tied"] or n != "embed.weight"]
    return {
        "model": name,
        "parameters": sum(elements(s) for _, s in every),
        "weights_read": sum(elements(s) for _, s in read),
    }


def write_weights(p, path):
    header, offset = {}, 0
    for name, shape in tensors(p):
        size = 4 * elements(shape)
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(header).encode("ascii")
    text += b" " * (-len(text) % 8)
    rng = np.random.default_rng(1)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for name, shape in tensors(p):  # one in memory at a time
            x = np.ones(shape, np.float32)
            if len(shape) == 2:
                x = rng.standard_normal(shape, dtype=np.float32)
                if name != "embed.weight" or p["tied"]:
                    x *= np.float32(shape[1] ** -0.5)  # an output has the spread of the inputs
            file.write(x.astype("<f4").tobytes())


def tokenizer(vocab):
    """The vocabulary of make_gguf.py: three specials, a piece for each byte, invented words."""
    special = ["<unk>", "<s>", "</s>"]
    byte = [f"<0x{i:02X}>" for i in range(256)]
    words = [f"\u2581w{i}" for i in range(vocab - len(special) - len(byte))]
    metaspace = {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "always",
                 "split": False}
    return {
        "version": "1.0", "truncation": None, "padding": None, "normalizer": None,
        "added_tokens": [{"id": i, "content": text, "single_word": False, "lstrip": False,
                          "rstrip": False, "normalized": False, "special": True}
                         for i, text in enumerate(special)],
        "pre_tokenizer": metaspace, "post_processor": None, "decoder": metaspace,
        "model": {"type": "Unigram", "unk_id": 0, "byte_fallback": True,
                  "vocab": [[piece, 0.0] for piece in special + byte] +
                           [[word, -1.0 - i] for i, word in enumerate(words)]},
    }


def write_json(folder, name, value):
    with open(os.path.join(folder, name), "w", encoding="ascii") as file:
        json.dump(value, file)
        file.write("\n")


def main():
    if len(sys.argv) != 3 or sys.argv[1] not in PRESETS:
        sys.exit("usage: make_moka.py PRESET FOLDER, with PRESET one of " + ", ".join(PRESETS))
    name, folder = sys.argv[1:]
    p = PRESETS[name]
    os.makedirs(folder, exist_ok=True)
    write_weights(p, os.path.join(folder, "model.safetensors"))
    write_json(folder, "config.json", config(p))
    write_json(folder, "tokenizer.json", tokenizer(p["vocab"]))
    write_json(folder, "facts.json", facts(name, p))  # last: says that all is complete
    print(json.dumps(facts(name, p)))


if __name__ == "__main__":
    main()
