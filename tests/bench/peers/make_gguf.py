#!/usr/bin/env python3
"""Writes a GGUF model of random weights, to measure the speed of llama.cpp with.

    make_gguf.py PRESET OUT.gguf

Needs python3-gguf and numpy, so it runs inside the chroot. Matrices are float16 and vectors
float32, as llama.cpp's own converters leave them; llama-quantize makes the smaller forms. Beside
the model goes OUT.json with its number of parameters and how many of them a generated token reads:
all but an input table that is not the output matrix too (of that it reads one row).

What such a model writes is noise. Its speed is that of a trained model of the same shape.
"""
import json
import os
import sys

import gguf
import numpy as np

# Sizes are those of the peers of one class: about the same number of weights read per token.
PRESETS = {
    "llama-15m": dict(arch="llama", width=288, layers=6, heads=6, hidden=768, vocab=32000,
                      tied=True, context=32768),
    "llama-134m": dict(arch="llama", width=768, layers=12, heads=12, hidden=2048, vocab=32000,
                       tied=False, context=65536),
    "mamba-130m": dict(arch="mamba", width=768, layers=24, state=16, taps=4, inner=1536, rank=48,
                       vocab=50280, tied=True, context=1 << 20),
    "rwkv7-190m": dict(arch="rwkv7", width=768, layers=12, hidden=3072, head=64, vocab=65536,
                       tied=False, context=1 << 20,
                       ranks=dict(w=64, a=64, v=32, g=128)),
}


class Model:
    """Tensors in file order: (name, shape with outputs first, filler, float32 or not)."""

    def __init__(self):
        self.tensors = []

    def matrix(self, name, *shape, spread=None, wide=False):
        """Random normal numbers; by default an output has the spread of the inputs."""
        spread = shape[-1] ** -0.5 if spread is None else spread

        def fill(rng):
            return rng.standard_normal(shape, dtype=np.float32) * np.float32(spread)
        self.tensors.append((name + ".weight", shape, fill, wide))

    def vector(self, name, *shape, fill=1.0):
        """Constants, or what fill(rng, shape) gives."""
        make = fill if callable(fill) else lambda rng, s: np.full(s, fill, np.float32)
        self.tensors.append((name, shape, lambda rng: make(rng, shape), True))

    def norm(self, name, width, bias=False):
        self.vector(name + ".weight", width)
        if bias:
            self.vector(name + ".bias", width, fill=0.0)


def normal(spread):
    return lambda rng, shape: rng.standard_normal(shape, dtype=np.float32) * np.float32(spread)


def uniform(rng, shape):
    return rng.random(shape, dtype=np.float32)


def ends(m, p, bias=False):
    """Input table, output norm, output matrix."""
    m.matrix("token_embd", p["vocab"], p["width"], spread=1.0)
    m.norm("output_norm", p["width"], bias)
    if not p["tied"]:
        m.matrix("output", p["vocab"], p["width"])


def llama(m, p):
    d, f = p["width"], p["hidden"]
    ends(m, p)
    for i in range(p["layers"]):
        b = f"blk.{i}."
        m.norm(b + "attn_norm", d)
        for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
            m.matrix(b + name, d, d)
        m.norm(b + "ffn_norm", d)
        m.matrix(b + "ffn_gate", f, d)
        m.matrix(b + "ffn_up", f, d)
        m.matrix(b + "ffn_down", d, f)


def mamba_steps(rng, shape):
    """Inverse softplus of time steps between 0.001 and 0.1."""
    steps = np.exp(rng.uniform(np.log(1e-3), np.log(1e-1), shape))
    return np.log(np.expm1(steps))


def mamba(m, p):
    d, inner, n = p["width"], p["inner"], p["state"]
    ends(m, p)
    for i in range(p["layers"]):
        b = f"blk.{i}."
        m.norm(b + "attn_norm", d)
        m.matrix(b + "ssm_in", 2 * inner, d)
        m.matrix(b + "ssm_conv1d", inner, p["taps"], wide=True)
        m.vector(b + "ssm_conv1d.bias", inner, fill=0.0)
        m.matrix(b + "ssm_x", p["rank"] + 2 * n, inner)
        m.matrix(b + "ssm_dt", inner, p["rank"], spread=0.1 * p["rank"] ** -0.5)
        m.vector(b + "ssm_dt.bias", inner, fill=mamba_steps)
        m.vector(b + "ssm_a", inner, n,
                 fill=lambda rng, s: np.tile(-np.arange(1, s[1] + 1, dtype=np.float32), (s[0], 1)))
        m.vector(b + "ssm_d", inner)
        m.matrix(b + "ssm_out", d, inner)


def rwkv7(m, p):
    d, f, ranks = p["width"], p["hidden"], p["ranks"]
    m.norm("token_embd_norm", d, bias=True)
    ends(m, p, bias=True)
    for i in range(p["layers"]):
        b, t = f"blk.{i}.", f"blk.{i}.time_mix_"
        m.norm(b + "attn_norm", d, bias=True)
        m.norm(b + "attn_norm_2", d, bias=True)
        for part, rank in ranks.items():
            if part == "v" and i == 0:
                rank = ranks["a"]  # llama.cpp reads the first layer's at that rank
            if part != "g":
                m.vector(f"{t}{part}0.weight", d, fill=normal(1.0))
            m.matrix(f"{t}{part}1", rank, d, wide=part == "w")
            m.matrix(f"{t}{part}2", d, rank, wide=part == "w")
        m.vector(t + "lerp_fused.weight", 6, 1, 1, d, fill=uniform)
        m.vector(t + "k_k.weight", d)
        m.vector(t + "k_a.weight", d)
        m.vector(t + "r_k.weight", d, fill=normal(0.1))
        for name in ("receptance", "key", "value", "output"):
            m.matrix(t + name, d, d)
        m.norm(t + "ln", d, bias=True)
        m.vector(b + "channel_mix_lerp_k.weight", 1, 1, d, fill=uniform)
        m.matrix(b + "channel_mix_key", f, d)
        m.matrix(b + "channel_mix_value", d, f)


def write_settings(w, p):
    w.add_block_count(p["layers"])
    w.add_context_length(p["context"])
    w.add_embedding_length(p["width"])
    w.add_vocab_size(p["vocab"])
    w.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    if p["arch"] == "llama":
        w.add_feed_forward_length(p["hidden"])
        w.add_head_count(p["heads"])
        w.add_head_count_kv(p["heads"])
        w.add_rope_dimension_count(p["width"] // p["heads"])
        w.add_rope_freq_base(10000.0)
        w.add_layer_norm_rms_eps(1e-5)
    elif p["arch"] == "mamba":
        w.add_feed_forward_length(0)
        w.add_head_count(0)
        w.add_ssm_conv_kernel(p["taps"])
        w.add_ssm_inner_size(p["inner"])
        w.add_ssm_state_size(p["state"])
        w.add_ssm_time_step_rank(p["rank"])
        w.add_layer_norm_rms_eps(1e-5)
    else:
        w.add_feed_forward_length(p["hidden"])
        w.add_head_count(0)
        w.add_layer_norm_eps(1e-5)
        w.add_wkv_head_size(p["head"])
        w.add_decay_lora_rank(p["ranks"]["w"])
        w.add_iclr_lora_rank(p["ranks"]["a"])
        w.add_value_residual_mix_lora_rank(p["ranks"]["v"])
        w.add_gate_lora_rank(p["ranks"]["g"])
        w.add_token_shift_count(2)


def write_vocabulary(w, size):
    """Three specials, a piece for each byte, then invented words, best first."""
    special = ["<unk>", "<s>", "</s>"]
    byte = [f"<0x{i:02X}>" for i in range(256)]
    words = [f"\u2581w{i}" for i in range(size - len(special) - len(byte))]
    kind = gguf.TokenType
    kinds = ([kind.UNKNOWN, kind.CONTROL, kind.CONTROL] + [kind.BYTE] * len(byte) +
             [kind.NORMAL] * len(words))
    w.add_tokenizer_model("llama")
    w.add_token_list(special + byte + words)
    w.add_token_scores([0.0] * (len(special) + len(byte)) + [-1.0 - i for i in range(len(words))])
    w.add_token_types([int(k) for k in kinds])
    w.add_unk_token_id(0)
    w.add_bos_token_id(1)
    w.add_eos_token_id(2)


def elements(shape):
    return int(np.prod(shape, dtype=np.int64))


def write_model(name, p, out):
    m = Model()
    {"llama": llama, "mamba": mamba, "rwkv7": rwkv7}[p["arch"]](m, p)
    w = gguf.GGUFWriter(out, p["arch"])
    w.add_name("random-" + name)
    write_settings(w, p)
    write_vocabulary(w, p["vocab"])
    for tensor, shape, _, wide in m.tensors:
        dtype = np.dtype(np.float32 if wide else np.float16)
        w.add_tensor_info(tensor, shape, dtype, elements(shape) * dtype.itemsize)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_ti_data_to_file()
    rng = np.random.default_rng(1)
    for _, _, fill, wide in m.tensors:  # one in memory at a time
        w.write_tensor_data(np.ascontiguousarray(fill(rng), np.float32 if wide else np.float16))
    w.close()

    parameters = sum(elements(shape) for _, shape, _, _ in m.tensors)
    read = parameters - (0 if p["tied"] else p["vocab"] * p["width"])
    return {"model": name, "parameters": parameters, "weights_read": read}


def main():
    if len(sys.argv) != 3 or sys.argv[1] not in PRESETS:
        sys.exit("usage: make_gguf.py PRESET OUT.gguf, with PRESET one of " + ", ".join(PRESETS))
    name, out = sys.argv[1:]
    facts = write_model(name, PRESETS[name], out + ".part")
    with open(os.path.splitext(out)[0] + ".json", "w", encoding="ascii") as file:
        json.dump(facts, file)
        file.write("\n")
    os.replace(out + ".part", out)  # last: its presence says that all is complete
    print(json.dumps(facts))


if __name__ == "__main__":
    main()
