"""Writes logits of a trained model on held-out text, small enough to keep beside the tests.

    python make_parity.py ../../models/stories-hf valid.txt.xz ../../tests/data

stories_parity_ids.npy     (1000,) int32: <|endoftext|> and the first tokens of the text's first document
stories_parity_logits.npy  (1000,33) float32: logits of 32 fixed tokens, then the logsumexp over the vocabulary
stories_parity_int8.npy    the same from the matrices rounded to int8 per output channel and widened again: the
                           weights of the shipped model file, so that the test needs no other file
stories_parity.json        the 32 token ids (columns) and how the numbers were made

Computed in float64, so that the comparison shows the other side's rounding only.
"""
import json
import os
import sys

import numpy as np
import torch

import data
import folder

COUNT, COLUMNS = 1000, 32


def round_to_int8(model):
    """The converter's rule for matrices: scale = absmax / 127 per row, nearest integer, ties to even."""
    for name, weight in model.named_parameters():
        if weight.dim() != 2 or "conv1d" in name:
            continue
        scale = weight.abs().amax(dim=1, keepdim=True) / 127
        weight.copy_((weight / scale).round() * scale)


def kept_columns(logits, columns):
    kept = torch.cat([logits[:, columns], torch.logsumexp(logits, dim=-1, keepdim=True)], dim=1)
    return kept.numpy().astype(np.float32)


@torch.no_grad()
def main(path, text, out):
    model, cfg = folder.load(path)
    docs = data.read_documents([text])
    ids, eot = data.encode_all(os.path.join(path, "tokenizer.json"), docs[:1])
    ids = torch.from_numpy(np.concatenate([[eot], ids[0]])[:COUNT].astype(np.int64))[None]
    rounded, _ = folder.load(path)
    round_to_int8(rounded)
    int8_logits = rounded.double()(ids)[0][0]
    single = model(ids)[0][0]
    logits = model.double()(ids)[0][0]
    columns = np.linspace(0, cfg.vocab_size - 1, COLUMNS).round().astype(int).tolist()
    np.save(os.path.join(out, "stories_parity_ids.npy"), ids[0].numpy().astype(np.int32))
    np.save(os.path.join(out, "stories_parity_logits.npy"), kept_columns(logits, columns))
    np.save(os.path.join(out, "stories_parity_int8.npy"), kept_columns(int8_logits, columns))
    folder.write_json(os.path.join(out, "stories_parity.json"), {
        "columns": columns, "last_column": "logsumexp", "positions": COUNT, "arithmetic": "float64",
        "float32_pytorch_max_abs_difference": float((single.double() - logits).abs().max())})
    nll = torch.nn.functional.cross_entropy(logits[:-1], ids[0, 1:])
    print(f"float32 differs by at most {(single - logits).abs().max():.2e}; {nll:.4f} nats per token; "
          f"largest climbs {[round(max(b.mixer.climbs), 1) for b in model.blocks]}")


if __name__ == "__main__":
    main(*sys.argv[1:4])
