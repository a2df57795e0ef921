"""Trains a ListOps classifier on expressions made while it trains; README.md has the recipe of the shipped model.

    python train_listops.py --out ../../models/listops-hf --max-seconds 500

Every step reads expressions that no step has read before.  Besides the value of the whole expression the model is
asked for the value at every bracket, which teaches it how expressions are built; what it answers there is not used
afterwards.  The figure at the end is of expressions of another seed than any in training.
"""
import argparse
import multiprocessing
import os
import random

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F

import fit
import folder
import listops
from config import LatteConfig
from latte import LatteModel, parameter_count

NO_TARGET = 255


def arguments():
    a = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    fit.add_arguments(a)
    a.add_argument("--mixer", default="latte_bid", choices=["latte_bid", "macchiato", "latte_causal", "linformer"])
    a.add_argument("--block", default="transformer", choices=["transformer", "glu", "rms_swiglu"])
    a.add_argument("--pooling", default="mean", choices=["mean", "last"])
    a.add_argument("--positions", default="sinusoidal", choices=["sinusoidal", "none"])
    a.add_argument("--width", type=int, default=128)
    a.add_argument("--layers", type=int, default=6)
    a.add_argument("--heads", type=int, default=4)
    a.add_argument("--latents", type=int, default=40)
    a.add_argument("--ff", type=int, default=0)
    a.add_argument("--window", type=int, default=64)
    a.add_argument("--conv", action="store_true")
    a.add_argument("--tokens", type=int, default=65536, help="in a batch, pads included")
    a.add_argument("--lengths", type=int, nargs="+", default=[768, 1024, 1408, 2048], help="rows are padded to one")
    a.add_argument("--brackets", type=float, default=1.0, help="weight of the loss at brackets")
    a.add_argument("--workers", type=int, default=max(1, (os.cpu_count() or 2) - 2), help="that make expressions")
    a.add_argument("--test-count", type=int, default=2000)
    a.add_argument("--test-seed", type=int, default=20261125)
    return a.parse_args()


def padded(rows, length):
    """Expressions to arrays (ids, values at brackets or NO_TARGET, results)."""
    ids = np.full((len(rows), length), listops.PAD, np.uint8)
    at_brackets = np.full((len(rows), length), NO_TARGET, np.uint8)
    for i, (words, values, _) in enumerate(rows):
        words = np.array(words, np.uint8)
        ids[i, :len(words)] = words + listops.FIRST
        at_brackets[i, :len(words)] = np.where(words >= 10, np.array(values, np.uint8), NO_TARGET)
    return ids, at_brackets, np.array([r[2] for r in rows], np.uint8)


def produce(seed, lengths, tokens, queue):
    """Process that puts batches into a queue, each of expressions of about one length."""
    rng = random.Random(seed)
    waiting = {n: [] for n in lengths}
    while True:
        made = listops.expression(rng)
        length = min(n for n in lengths if n >= len(made[0]))
        waiting[length].append(made)
        if len(waiting[length]) == tokens // length:
            queue.put(padded(waiting[length], length))
            waiting[length] = []


def start_producers(a):
    context = multiprocessing.get_context("fork")
    queue = context.Queue(maxsize=4 * a.workers)
    for i in range(a.workers):
        context.Process(target=produce, args=(10 ** 9 * a.seed + i, a.lengths, a.tokens, queue), daemon=True).start()
    return queue


def config(a):
    conv = dict(recurrent="conv", recurrent_feeds="qkv", local_input="recurrent") if a.conv else {}
    words = len(listops.SPECIAL) + len(listops.WORDS)
    return LatteConfig(
        vocab_size=words, hidden_size=a.width, num_hidden_layers=a.layers, num_attention_heads=a.heads,
        num_latents=a.latents, mixer=a.mixer, block_type=a.block, intermediate_size=a.ff, positions=a.positions,
        max_position_embeddings=2048, window=a.window, head="classifier", num_labels=10,
        labels=[str(i) for i in range(10)], pooling=a.pooling, pad_token_id=listops.PAD, final_norm=True, **conv)


class Loss:
    """Draws a batch and gives its loss.  With last pooling the head itself answers at closing brackets, whose value a
    causal model knows there; else a head of its own answers at opening and closing ones."""

    def __init__(self, model, queue, a):
        self.model, self.queue, self.a, self.read = model, queue, a, 0
        self.own = None
        if a.pooling == "mean":
            self.own = nn.Linear(a.width, 10).to(a.device)
            nn.init.zeros_(self.own.weight)

    def batch(self):
        ids, at_brackets, result = (torch.from_numpy(z) for z in self.queue.get())
        if self.a.device != "cpu":
            ids, at_brackets, result = (z.pin_memory().to(self.a.device, non_blocking=True)
                                        for z in (ids, at_brackets, result))
        self.read += len(ids)
        return ids.long(), at_brackets.long(), result.long()

    def __call__(self):
        ids, at_brackets, result = self.batch()
        h, _ = self.model.encode(ids)
        real = ids != listops.PAD
        if self.own is None:
            close = ids == listops.FIRST + listops.CLOSE
            scores = self.model.head(h)
            at = torch.where(close, at_brackets, torch.full_like(at_brackets, NO_TARGET))
            whole = scores[torch.arange(len(ids), device=ids.device), real.sum(1) - 1]
        else:
            scores, at = self.own(h), at_brackets
            mean = (h * real.unsqueeze(-1)).sum(1) / real.sum(1, keepdim=True)
            whole = self.model.head(mean)
        loss = F.cross_entropy(whole, result)
        inner = F.cross_entropy(scores.transpose(1, 2), at, ignore_index=NO_TARGET)
        right = (whole.argmax(1) == result).float().mean()
        return loss + self.a.brackets * inner, {"whole": loss.detach(), "brackets": inner.detach(), "right": right,
                                                "expressions": self.read}


@torch.no_grad()
def measure(model, count, seed, device):
    """Accuracy on fresh expressions in float32, overall and by the outermost operator."""
    rng = random.Random(seed)
    rows = [listops.expression(rng) for _ in range(count)]
    right = np.zeros(count, bool)
    order = sorted(range(count), key=lambda i: len(rows[i][0]))
    for at in range(0, count, 32):
        part = order[at:at + 32]
        ids, _, result = padded([rows[i] for i in part], max(len(rows[i][0]) for i in part))
        scores, _ = model(torch.from_numpy(ids).long().to(device))
        right[part] = scores.argmax(1).cpu().numpy() == result
    by = {name: float(right[[i for i in range(count) if rows[i][0][0] == 10 + k]].mean())
          for k, name in enumerate(listops.OPERATORS)}
    return float(right.mean()), by


def main():
    a = arguments()
    torch.manual_seed(a.seed)
    queue = start_producers(a)
    log = fit.logger(os.path.join(a.out, "training_log.jsonl"))
    model = fit.prepare(LatteModel(config(a)), a, torch.full((1, max(a.lengths)), listops.PAD + 1))
    log(settings=vars(a), parameters=parameter_count(model), torch=torch.__version__,
        device=torch.cuda.get_device_name() if a.device != "cpu" else "cpu")
    loss = Loss(model, queue, a)
    steps = fit.fit(model, loss, a, log, extra=loss.own.parameters() if loss.own else ())
    folder.save(model, a.out)
    folder.write_json(os.path.join(a.out, "tokenizer.json"), listops.tokenizer())
    torch.backends.cuda.matmul.allow_tf32 = False
    plain = folder.load(a.out, a.device)[0]
    right, by = measure(plain, a.test_count, a.test_seed, a.device)
    log(steps=steps, expressions=loss.read, test_count=a.test_count, test_seed=a.test_seed, accuracy=right, by=by)


if __name__ == "__main__":
    main()
