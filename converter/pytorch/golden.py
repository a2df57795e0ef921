"""Golden cases: models with their outputs in one JSON file each (tests/data/golden/README.md has the layout).

    python golden.py ../../tests/data/golden        # writes the cases of make_cases() again, bit for bit

Their names differ from those of model.safetensors, and matrices are (in, out); `names` translates.
"""
import json
import os
import re
import sys

import numpy as np
import torch

import parts
from config import LatteConfig
from latte import LatteModel

CONFIG = {"block": "block_type", "D": "hidden_size", "layers": "num_hidden_layers", "heads": "num_attention_heads",
          "L": "num_latents", "vocab": "vocab_size", "classes": "num_labels", "pad_id": "pad_token_id",
          "ff": "intermediate_size", "act": "hidden_act", "max_seq_len": "max_position_embeddings",
          "memory_layers": "num_memory_layers", "features": "num_features", "outputs": "num_outputs"}
SAME = ("mixer", "prenorm", "norm", "positions", "window", "window_extent", "recurrent", "recurrent_feeds",
        "local_input", "unit_offset", "norm_eps", "score_scale", "key_eps", "memory_mixer", "shared_layers",
        "input_mean", "input_deviation", "quantiles", "forecast_steps", "output_mean", "output_deviation",
        "unit_length")
VALUES = {"embed": ("input", {"token": "tokens", "dense": "pixels", "conv": "pixels_conv", "values": "values"}),
          "task": ("head", {"lm": "language", "classifier": "classifier", "retrieval": "pair",
                            "regression": "regression", "embedding": "embedding"}),
          "pool": ("pooling", {"mean": "mean", "last": "last", "cls": "first"})}
LEAVES = [(r"mixer\.(low_rank)_k$", r"mixer.\1_E"), (r"(mixer|cross)\.([qkvo])\.weight$", r"\1.W\2"),
          (r"mixer\.gate\.weight$", "mixer.Wg"), (r"mixer\.local_([qk])\.weight$", r"mixer.W\1_local"),
          (r"conv1d\.weight$", "conv1d.w"), (r"conv1d\.bias$", "conv1d.b"),
          (r"norm(1|2|_cross)?\.weight$", r"norm\1.scale"),
          (r"embed\.conv\.(\d)", r"embed.conv\1"), (r"blocks\.(\d+)", r"block\1"), (r"\.weight$", ".kernel")]


def config_of(case):
    """LatteConfig of a whole model."""
    given, out = case["config"], {"tie_word_embeddings": False, "head_bias": True}
    for key, value in given.items():
        if key in VALUES:
            out[VALUES[key][0]] = VALUES[key][1][value]
        elif key == "rope":
            out["rope_theta"], out["rope_style"] = (value["theta"], value["style"]) if value else (None, "half")
        elif key == "conv_dims":
            out["image_size"] = [int(len(case["inputs"]["pixels"]["data"]) ** 0.5)] * 2
        elif key != "causal":
            out[CONFIG.get(key, key if key in SAME else None)] = value
    if "pixels" in case["inputs"]:
        side = int(case["inputs"]["pixels"]["shape"][1] ** 0.5)
        out["image_size"] = [side, side]
    return LatteConfig.from_dict(out)


def golden_name(name, cfg):
    if name == "embed.weight" and cfg.input == "tokens":
        return "embed.embedding"
    if cfg.head == "pair":
        name = re.sub(r"^head\.", "logits.", re.sub(r"^hidden\.", "mlp.", name))
    for pattern, other in LEAVES:
        name = re.sub(pattern, other, name)
    return re.sub(r"\.W([qkvo])$", r".W\1", name)


def turned(name, a):
    """Between (out, in) and (in, out); its own inverse but for convolutions, which only come in."""
    if re.search(r"embed\.conv\d\.kernel", name):
        return a.transpose(3, 2, 0, 1)
    is_matrix = a.ndim == 2 and not name.endswith(("embedding", "conv1d.w"))
    return a.T if is_matrix else a


def array(t):
    dtype = {"f32": np.float32, "f64": np.float64, "i32": np.int64}[t["dtype"]]
    return np.array(t["data"], dtype=dtype).reshape(t["shape"])


def put_weights(module, case, cfg, prefix=""):
    """Fills a model, block or mixer (float64) with the weights of a case; every weight must be used."""
    left = set(case["weights"])
    for name, p in module.named_parameters():
        key = golden_name(prefix + name, cfg)[len(golden_name(prefix, cfg)):]
        p.data = torch.from_numpy(turned(key, array(case["weights"][key])).astype(np.float64))
        left.remove(key)
    assert not left, left
    return module


def read_case(path):
    with open(path) as f:
        return json.load(f)


def model_of(case):
    cfg = config_of(case)
    model = LatteModel(cfg)
    if cfg.input == "pixels_conv":
        model.embed = parts.ConvEmbedding(cfg, case["config"]["conv_dims"][1:-1])
    return put_weights(model.double().eval(), case, cfg)


@torch.no_grad()
def outputs(model, inputs):
    """What a case expects, from its inputs as tensors."""
    kind = model.cfg.head
    x = next(inputs[k] for k in ("ids", "values", "pixels") if k in inputs)
    x = x.double() if x.is_floating_point() else x
    if "memory_ids" in inputs:
        return {"logits": model(x, model.read(inputs["memory_ids"]))[0]}
    y, _ = model(x)
    if kind == "regression":
        return {"outputs": y, "values": parts.forecast(model.cfg, y).flatten(2)}
    if kind == "embedding":
        return {"vectors": y}
    if kind == "classifier":
        return {"logits": y, "pooled": parts.pool(model.encode(x)[0], model.mask_of(x), model.cfg.pooling)}
    return {"logits": y}


# ---- new cases ---------------------------------------------------------------------------------------------------

SMALL = {"D": 8, "heads": 2, "L": 4}
TOKENS = {**SMALL, "embed": "token", "vocab": 15}
LAYER = {"block": "transformer", "prenorm": True, "norm": "layernorm", "positions": "sinusoidal"}
RMS = {"block": "rms_swiglu", "prenorm": True, "ff": 12, "act": "silu", "unit_offset": False, "norm_eps": 1e-6,
       "positions": "none", "window": 4, "window_extent": "w", "rope": {"theta": 10000.0, "style": "half"}}


def make_cases():
    """(kind, name, about, config, inputs as shapes or 'pads')"""
    yield ("cross", "cross_bid_transformer_pre", "a bidirectional encoder's memory, read by every layer",
           {"task": "lm", **TOKENS, **LAYER, "layers": 2, "mixer": "latte_causal", "memory_layers": 2,
            "memory_mixer": "latte_bid"}, {"memory_ids": (2, 7), "ids": (2, 9)})
    yield ("cross", "cross_causal_glu_post", "causal memory of another length than the text, GLU blocks, post-norm",
           {"task": "lm", **TOKENS, **LAYER, "block": "glu", "prenorm": False, "layers": 2, "mixer": "latte_causal",
            "memory_layers": 1, "memory_mixer": "latte_causal"}, {"memory_ids": (2, 12), "ids": (2, 6)})
    yield ("cross", "cross_bid_transformer_post_scaled", "post-norm, scaled scores and key_eps in every latent mixer",
           {"task": "lm", **TOKENS, **LAYER, "prenorm": False, "layers": 1, "mixer": "latte_causal",
            "memory_layers": 1, "memory_mixer": "latte_bid", "score_scale": 0.5, "key_eps": 0.125},
           {"memory_ids": (1, 5), "ids": (1, 8)})
    yield ("cross", "cross_bid_macchiato_rms", "Macchiato decoder with RMS/SwiGLU blocks, memory of one token",
           {"task": "lm", **TOKENS, **RMS, "layers": 2, "mixer": "macchiato", "memory_layers": 1,
            "memory_mixer": "latte_bid"}, {"memory_ids": (2, 1), "ids": (2, 11)})
    yield ("regression", "regression_quantiles", "two scaled features, three quantiles of one output, two steps ahead",
           {"task": "regression", **SMALL, **LAYER, "embed": "values", "features": 2, "layers": 2,
            "mixer": "latte_causal", "input_mean": [1.5, -20.0], "input_deviation": [0.25, 8.0], "outputs": 1,
            "quantiles": [0.125, 0.5, 0.875], "forecast_steps": 2, "output_mean": [1.5], "output_deviation": [0.25]},
           {"values": (2, 10, 2)})
    yield ("regression", "regression_means", "one feature in, two outputs without quantiles, three steps ahead",
           {"task": "regression", **SMALL, **RMS, "embed": "values", "features": 1, "layers": 1, "mixer": "macchiato",
            "recurrent": "conv", "recurrent_feeds": "qkv", "local_input": "recurrent", "input_mean": [0.5],
            "input_deviation": [2.0], "outputs": 2, "forecast_steps": 3, "output_mean": [0.5, 100.0],
            "output_deviation": [2.0, 16.0]}, {"values": (1, 9, 1)})
    for pool, mixer, extra in (("mean", "latte_bid", {"unit_length": True}), ("last", "latte_causal", {}),
                               ("cls", "latte_bid", {"prenorm": False, "unit_length": True})):
        yield ("embedding", "embedding_" + pool, "one vector per text, right padding; final norm with pre-norm only",
               {"task": "embedding", **TOKENS, **LAYER, "layers": 1, "mixer": mixer, "pool": pool, "pad_id": 12,
                **extra}, {"ids": (3, 9)})
    yield ("lm", "lm_shared_layers", "four layers with the weights of two",
           {"task": "lm", **TOKENS, **LAYER, "layers": 4, "mixer": "latte_causal", "shared_layers": [0, 0, 2, 2]},
           {"ids": (2, 9)})


def sized(name, shape, cfg, g):
    """A weight whose size makes every part of the model matter in the outputs."""
    noise = torch.randn(shape, generator=g)
    if "norm" in name:
        offset = 0.0 if name.endswith("bias") or (cfg.unit_offset and cfg.norm == "rmsnorm") else 1.0
        return offset + 0.2 * noise
    if "conv1d" in name:
        return 0.5 * noise
    if len(shape) == 1:
        return 0.1 * noise
    if name == "embed.weight":
        return noise
    sharp = name.endswith((".q.weight", ".k.weight"))
    return (2.0 if sharp else 1.0) * noise / shape[1] ** 0.5


def random_input(key, shape, cfg, g):
    if key == "values":
        mean, deviation = torch.tensor(cfg.input_mean), torch.tensor(cfg.input_deviation)
        return mean + deviation * torch.randn(shape, generator=g)
    if cfg.pad_token_id is None:
        return torch.randint(0, cfg.vocab_size, shape, generator=g)
    ids = torch.randint(0, cfg.pad_token_id, shape, generator=g)
    for row, real in enumerate((shape[1], 5, 1)):
        ids[row, real:] = cfg.pad_token_id
    return ids


def tensor(a):
    a = a.detach().numpy()
    kind, form = {"i": ("i32", int), "f": ("f64", lambda v: float(f"{v:.13g}"))}[a.dtype.kind]
    if a.dtype == np.float32:
        kind, form = "f32", lambda v: float(f"{v:.9g}")
    return {"dtype": kind, "shape": list(a.shape), "data": [form(v) for v in a.ravel().tolist()]}


def write_case(folder, seed, kind, name, about, given, shapes):
    case = {"format": "moka-golden/1", "name": name, "kind": kind, "about": about, "seed": seed, "config": given,
            "tolerance": {"atol": 1e-4, "rtol": 1e-4}, "inputs": {}, "weights": {}}
    g = torch.Generator().manual_seed(seed)
    cfg = config_of(case)
    for key, p in LatteModel(cfg).named_parameters():
        other = golden_name(key, cfg)
        weight = sized(key, p.shape, cfg, g)
        case["weights"][other] = tensor(torch.from_numpy(np.ascontiguousarray(turned(other, weight.numpy()))))
    inputs = {key: random_input(key, shape, cfg, g) for key, shape in shapes.items()}
    case["inputs"] = {key: tensor(x) for key, x in inputs.items()}
    case["expected"] = {key: tensor(y) for key, y in outputs(model_of(case), inputs).items()}
    text = json.dumps(case, separators=(",", ":")) + "\n"
    with open(os.path.join(folder, name + ".json"), "w") as f:
        f.write(text)
    spread = {key: round(float(np.std(array(t))), 3) for key, t in case["expected"].items()}
    print(f"{name}: {len(text)} bytes, {len(case['weights'])} weights, spread {spread}")


if __name__ == "__main__":
    for number, made in enumerate(make_cases()):
        write_case(sys.argv[1], 2001 + number, *made)
