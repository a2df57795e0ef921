"""Model folders: config.json, model.safetensors and, for text models, tokenizer.json and generation_config.json.

safetensors is simple enough to read and write here (8 bytes of header length, a JSON header, raw little-endian
data), which keeps this folder usable where the package is not installed.
"""
import json
import os
import struct

import numpy as np
import torch

from config import LatteConfig
from latte import LatteModel

DTYPES = {"F64": np.float64, "F32": np.float32, "F16": np.float16, "I64": np.int64, "I32": np.int32}


def write_safetensors(path, tensors):
    """tensors: name -> numpy array.  Written beside the target and renamed, so a crash leaves no half file."""
    names = {np.dtype(t): n for n, t in DTYPES.items()}
    header, offset = {"__metadata__": {"format": "pt"}}, 0
    for name, a in tensors.items():
        header[name] = {"dtype": names[a.dtype], "shape": list(a.shape), "data_offsets": [offset, offset + a.nbytes]}
        offset += a.nbytes
    head = json.dumps(header, separators=(",", ":")).encode()
    head += b" " * (-len(head) % 8)                 # data starts 8-byte aligned
    with open(path + ".part", "wb") as f:
        f.write(struct.pack("<Q", len(head)))
        f.write(head)
        for a in tensors.values():
            f.write(np.ascontiguousarray(a).tobytes())
    os.replace(path + ".part", path)


def read_safetensors(path):
    with open(path, "rb") as f:
        (n,) = struct.unpack("<Q", f.read(8))
        header = json.loads(f.read(n))
        data = f.read()
    out = {}
    for name, info in header.items():
        if name == "__metadata__":
            continue
        lo, hi = info["data_offsets"]
        out[name] = np.frombuffer(data[lo:hi], dtype=DTYPES[info["dtype"]]).reshape(info["shape"])
    return out


def write_json(path, value):
    with open(path, "w") as f:
        json.dump(value, f, indent=2)
        f.write("\n")


def save(model, path, dtype=np.float32):
    os.makedirs(path, exist_ok=True)
    write_json(os.path.join(path, "config.json"), model.cfg.to_dict())
    tensors = {n: p.detach().float().cpu().numpy().astype(dtype) for n, p in model.named_parameters()}
    write_safetensors(os.path.join(path, "model.safetensors"), tensors)


def fill(model, tensors):
    """Sets all parameters; a layer that shares weights has none of its own."""
    own = dict(model.named_parameters())
    if set(own) != set(tensors):
        missing, unknown = sorted(set(own) - set(tensors)), sorted(set(tensors) - set(own))
        raise ValueError(f"tensors: missing {missing}, unknown {unknown}")
    for name, p in own.items():
        if tuple(p.shape) != tensors[name].shape:
            raise ValueError(f"tensors: {name} is {tensors[name].shape}, expected {tuple(p.shape)}")
        p.data = torch.from_numpy(tensors[name].astype(np.float32)).to(p.device)


def load(path, device="cpu"):
    with open(os.path.join(path, "config.json")) as f:
        cfg = LatteConfig.from_dict(json.load(f))
    model = LatteModel(cfg)
    tensors = read_safetensors(os.path.join(path, "model.safetensors"))
    fill(model, tensors)
    return model.to(device).eval(), cfg
