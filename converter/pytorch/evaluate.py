"""Bits per byte of a text, the way `moka eval` counts it, and the effect of int8 weights.

    python evaluate.py FOLDER TEXT [--int8] [--window N] [--device cuda]

Streaming (default): every document starts from an empty state, `<|endoftext|>` is fed first, then the whole document
with the state carried from end to end; every token and the final `<|endoftext|>` are scored.  --window N scores
pieces of N tokens that each start from nothing, for comparison with models that cannot stream.
Bits per byte = total negative log-likelihood / ln 2 / bytes of document text.
"""
import argparse
import copy
import math
import os

import numpy as np
import torch
import torch.nn.functional as F

import data
import folder


def pieces_of(ids, eot, length, stride=None):
    """Rows (inputs, targets, first scored index) that each start from an empty state."""
    rows = []
    for d in ids:
        seq = np.concatenate([[eot], d, [eot]]).astype(np.int64)
        if length is None:
            rows.append((seq[:-1], seq[1:], 0))
            continue
        step = stride or length
        for end in range(min(length, len(seq) - 1), len(seq) - 1 + step, step):
            end = min(end, len(seq) - 1)
            begin = max(0, end - length) if stride else (end - 1) // length * length
            scored = rows[-1][3] - begin if rows and stride and begin > 0 else 0
            rows.append((seq[begin:end], seq[begin + 1:end + 1], scored, end))
    return [r[:3] for r in rows]


@torch.no_grad()
def negative_log_likelihood(model, rows, chunk=1024, batch=64):
    """Total nats over rows; rows of like length go together, each with its state carried from chunk to chunk."""
    device, total, tokens = model.embed.weight.device, 0.0, 0
    rows = sorted(rows, key=lambda r: -len(r[0]))
    for first in range(0, len(rows), batch):
        group = rows[first:first + batch]
        state = model.initial_state(len(group), device)
        for at in range(0, len(group[0][0]), chunk):
            live = sum(len(r[0]) > at for r in group)           # sorted, so finished rows are the last ones
            if live < state["position"].shape[0]:
                state = {"position": state["position"][:live], "layers": [tuple(t[:live] for t in s)
                                                                          for s in state["layers"]]}
            width = min(chunk, len(group[0][0]) - at)
            x, y = np.zeros((live, width), np.int64), np.full((live, width), -100, np.int64)
            for i, (inputs, targets, scored) in enumerate(group[:live]):
                n = min(width, len(inputs) - at)
                x[i, :n], y[i, :n] = inputs[at:at + n], targets[at:at + n]
                y[i, :max(0, scored - at)] = -100
            y = torch.from_numpy(y).to(device)
            logits, state = model(torch.from_numpy(x).to(device), state)
            loss = F.cross_entropy(logits.float().flatten(0, 1), y.flatten(), ignore_index=-100, reduction="none")
            total += float(loss.double().sum())
            tokens += int((y != -100).sum())
    return total, tokens


def bits_per_byte(model, ids, eot, size, length=None, stride=None):
    model.eval()
    nats, tokens = negative_log_likelihood(model, pieces_of(ids, eot, length, stride))
    return nats / math.log(2) / size, tokens


@torch.no_grad()
def fake_int8(model):
    """A copy whose matrices hold what int8 storage with one scale per output channel would give back."""
    model = copy.deepcopy(model)
    for name, p in model.named_parameters():
        if p.dim() == 2 and "conv1d" not in name:
            scale = p.abs().amax(dim=1, keepdim=True).clamp(min=1e-30) / 127
            p.copy_((p / scale).round().clamp(-127, 127) * scale)
    return model


def main():
    a = argparse.ArgumentParser()
    a.add_argument("folder")
    a.add_argument("text")
    a.add_argument("--int8", action="store_true")
    a.add_argument("--window", type=int)
    a.add_argument("--stride", type=int)
    a.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    a = a.parse_args()
    model, _ = folder.load(a.folder, a.device)
    model = fake_int8(model) if a.int8 else model
    tokenizer = os.path.join(a.folder, "tokenizer.json")
    ids, eot, size = data.load_corpus([a.text], tokenizer if os.path.exists(tokenizer) else None, None)
    bpb, tokens = bits_per_byte(model, ids, eot, size, a.window, a.stride)
    print(f"{bpb:.5f} bits per byte over {size} bytes, {tokens} tokens, {len(ids)} documents")


if __name__ == "__main__":
    main()
