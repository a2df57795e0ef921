"""Writes text with a model folder, one token at a time with the plain recurrence.

    python sample.py FOLDER -p "Once upon a time" -n 300 --temperature 0.9 --min-p 0.05 --seed 1
"""
import argparse
import os
import sys

import torch

import data
import folder


def load_tokenizer(path):
    name = os.path.join(path, "tokenizer.json")
    return data.BytePairTokenizer(name) if os.path.exists(name) else data.ByteTokenizer()


def pick(logits, seen, temperature, top_k, top_p, min_p, penalty, generator):
    """One token per row of logits (B,V); seen (B,V) marks tokens that the repetition penalty touches."""
    if penalty != 1.0:
        logits = torch.where(seen, torch.where(logits > 0, logits / penalty, logits * penalty), logits)
    if temperature == 0:
        return logits.argmax(-1)
    p = torch.softmax(logits.double() / temperature, dim=-1)
    p, order = p.sort(dim=-1, descending=True)
    keep = torch.ones_like(p, dtype=torch.bool)
    if top_k:
        keep[:, top_k:] = False
    if top_p < 1.0:                                     # the smallest set of likely tokens that reaches top_p
        q = p * keep
        q = q / q.sum(-1, keepdim=True)
        keep &= q.cumsum(-1) - q < top_p
    if min_p > 0.0:
        keep &= p >= min_p * p[:, :1]
    p = p * keep
    return order.gather(1, torch.multinomial(p, 1, generator=generator))[:, 0]


@torch.no_grad()
def generate(model, prompt, count, rows=1, temperature=1.0, top_k=0, top_p=1.0, min_p=0.0, penalty=1.0, recent=64,
             seed=0, banned=(), on_token=None):
    """Token ids (rows, count) after a prompt (list of ids); banned ids are never drawn.

    The repetition penalty touches the last `recent` tokens, the prompt included."""
    device = model.embed.weight.device
    generator = torch.Generator(device=device).manual_seed(seed)
    ids = torch.tensor([prompt] * rows, device=device)
    logits, state = model(ids)
    logits = logits[:, -1]
    out = []
    for _ in range(count):
        logits = logits.float().clone()
        for i in banned:
            logits[:, i] = float("-inf")
        seen = torch.zeros_like(logits, dtype=torch.bool).scatter_(1, ids[:, -recent:] if recent else ids[:, :0], True)
        token = pick(logits, seen, temperature, top_k, top_p, min_p, penalty, generator)
        out.append(token)
        if on_token and on_token(int(token[0])) is False:
            break
        ids = torch.cat([ids, token[:, None]], dim=1)[:, -max(1, recent):]
        logits, state = model.step(token, state)
    return torch.stack(out, dim=1)


def main():
    a = argparse.ArgumentParser()
    a.add_argument("folder")
    a.add_argument("-p", "--prompt", default="Once upon a time")
    a.add_argument("-n", type=int, default=300)
    a.add_argument("--temperature", type=float, default=0.9)
    a.add_argument("--top-k", type=int, default=0)
    a.add_argument("--top-p", type=float, default=1.0)
    a.add_argument("--min-p", type=float, default=0.0)
    a.add_argument("--repeat-penalty", type=float, default=1.0)
    a.add_argument("--repeat-window", type=int, default=64)
    a.add_argument("--seed", type=int, default=1)
    a.add_argument("--ignore-eos", action="store_true", help="never end the story")
    a.add_argument("--device", default="cpu")
    a = a.parse_args()
    model, _ = folder.load(a.folder, a.device)
    tok = load_tokenizer(a.folder)
    held = []

    def show(token):
        if token == tok.eot:
            return False
        held.append(token)
        text = tok.decode(held)
        if not text.endswith("\ufffd"):                 # print whole characters only
            sys.stdout.write(text)
            sys.stdout.flush()
            held.clear()
    sys.stdout.write(a.prompt)
    generate(model, [tok.eot] + tok.encode(a.prompt), a.n, 1, a.temperature, a.top_k, a.top_p, a.min_p,
             a.repeat_penalty, a.repeat_window, a.seed, (tok.eot,) if a.ignore_eos else (), show)
    print()


if __name__ == "__main__":
    main()
