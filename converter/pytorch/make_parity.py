"""Writes what the trained models give for fixed inputs, small enough to keep beside the tests.

    python make_parity.py ../../models/stories-hf ../../tests/data valid.txt.xz
    python make_parity.py ../../models/listops-hf ../../tests/data
    python make_parity.py ../../models/forecaster-hf ../../tests/data ecg.csv

stories_parity_ids.npy     (1000,) int32: <|endoftext|> and the first tokens of the text's first document
stories_parity_logits.npy  (1000,33) float32: logits of 32 fixed tokens, then the logsumexp over the vocabulary
stories_parity.json        the 32 token ids (columns) and how the numbers were made
listops_parity_ids.npy     (3,T) int32: three expressions, right padding
listops_parity_logits.npy  (3,10) float32
forecaster_parity_values.npy   (1,600,1) float32: the first steps of the series' test part
forecaster_parity_numbers.npy  (1,6,540) float32: rows 99, 199, ... 599 of the regression head, not scaled

*_parity_int8.npy hold the same from the matrices rounded to int8 per output channel and widened again: the weights of
the shipped files, so that the tests need no others.  Computed in float64, so that a comparison shows the other side's
rounding only.
"""
import os
import random
import sys

import numpy as np
import torch

import data
import evaluate
import folder
import forecast
import listops
from train_listops import padded

COUNT, COLUMNS = 1000, 32
STEPS, EVERY = 600, 100


def kept_columns(logits, columns):
    kept = torch.cat([logits[:, columns], torch.logsumexp(logits, dim=-1, keepdim=True)], dim=1)
    return kept.numpy().astype(np.float32)


def stories(path, out, model, rounded, text):
    docs = data.read_documents([text])
    ids, eot = data.encode_all(os.path.join(path, "tokenizer.json"), docs[:1])
    ids = torch.from_numpy(np.concatenate([[eot], ids[0]])[:COUNT].astype(np.int64))[None]
    single = model(ids)[0][0]
    logits, int8_logits = model.double()(ids)[0][0], rounded.double()(ids)[0][0]
    columns = np.linspace(0, model.cfg.vocab_size - 1, COLUMNS).round().astype(int).tolist()
    np.save(os.path.join(out, "stories_parity_ids.npy"), ids[0].numpy().astype(np.int32))
    np.save(os.path.join(out, "stories_parity_logits.npy"), kept_columns(logits, columns))
    np.save(os.path.join(out, "stories_parity_int8.npy"), kept_columns(int8_logits, columns))
    folder.write_json(os.path.join(out, "stories_parity.json"), {
        "columns": columns, "last_column": "logsumexp", "positions": COUNT, "arithmetic": "float64",
        "float32_pytorch_max_abs_difference": float((single.double() - logits).abs().max())})
    nll = torch.nn.functional.cross_entropy(logits[:-1], ids[0, 1:])
    print(f"{nll:.4f} nats per token; largest climbs {[round(max(b.mixer.climbs), 1) for b in model.blocks]}")
    return single, logits, int8_logits


def listops_rows(out, model, rounded):
    rng = random.Random(1)
    rows = sorted((listops.expression(rng) for _ in range(40)), key=lambda r: len(r[0]))[:3]
    ids = torch.from_numpy(padded(rows, max(len(r[0]) for r in rows))[0]).long()
    np.save(os.path.join(out, "listops_parity_ids.npy"), ids.numpy().astype(np.int32))
    single = model(ids)[0]
    return single, model.double()(ids)[0], rounded.double()(ids)[0]


def forecaster_rows(out, model, rounded, series):
    x = forecast.read_series(series)
    start = forecast.parts_of(len(x))[1]
    values = torch.from_numpy(x[start:start + STEPS].astype(np.float32))[None, :, None]
    np.save(os.path.join(out, "forecaster_parity_values.npy"), values.numpy())
    kept = slice(EVERY - 1, None, EVERY)
    single = model(values)[0][:, kept]
    values = values.double()
    return single, model.double()(values)[0][:, kept], rounded.double()(values)[0][:, kept]


@torch.no_grad()
def main(path, out, source=None):
    model, cfg = folder.load(path)
    rounded = evaluate.fake_int8(model)
    if cfg.head == "language":
        single, exact, int8 = stories(path, out, model, rounded, source)
    else:
        name, last = ("listops", "logits") if cfg.head == "classifier" else ("forecaster", "numbers")
        more = () if cfg.head == "classifier" else (source,)
        single, exact, int8 = {"listops": listops_rows, "forecaster": forecaster_rows}[name](out, model, rounded, *more)
        np.save(os.path.join(out, f"{name}_parity_{last}.npy"), exact.numpy().astype(np.float32))
        np.save(os.path.join(out, f"{name}_parity_int8.npy"), int8.numpy().astype(np.float32))
    apart = [float((z - exact).abs().max()) for z in (single, int8)]
    print(f"float32 differs by at most {apart[0]:.2e}, int8 weights by {apart[1]:.2e}; spread {exact.std():.2f}")


if __name__ == "__main__":
    main(*sys.argv[1:])
