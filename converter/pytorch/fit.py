"""The loop that trainers of small models share: optimisers, schedule, log.  Language models have train.py instead."""
import json
import os
import time

import torch

import folder
import optim


def add_arguments(a):
    a.add_argument("--out", required=True, help="folder for the model and its log")
    a.add_argument("--init", help="model folder whose weights training starts from")
    a.add_argument("--steps", type=int, default=0)
    a.add_argument("--max-seconds", type=float, default=0, help="of training, the first steps not counted")
    a.add_argument("--warmup", type=int, default=200, help="steps")
    a.add_argument("--optimizer", default="muon", choices=["muon", "adamw"])
    a.add_argument("--lr", type=float, default=2e-3, help="of AdamW")
    a.add_argument("--muon-lr", type=float, default=0.02)
    a.add_argument("--weight-decay", type=float, default=0.05)
    a.add_argument("--key-decay", type=float, default=0.1, help="of the latents' key matrices")
    a.add_argument("--dropout", type=float, default=0.0)
    a.add_argument("--seed", type=int, default=1)
    a.add_argument("--compile", action="store_true")
    a.add_argument("--log-every", type=int, default=200)
    a.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")


def logger(path):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    file = open(path, "w")

    def log(**record):
        line = json.dumps({k: round(v, 6) if isinstance(v, float) else v for k, v in record.items()})
        print(line, flush=True)
        file.write(line + "\n")
        file.flush()
    return log


def prepare(model, a, longest):
    """Everything of a run that is no part of the model.  `longest`: an input of the greatest length, which fills the
    rotation tables that compiled code then only reads."""
    torch.backends.cuda.matmul.allow_tf32 = True
    fast = a.device != "cpu"
    model.configure(dropout=a.dropout, compute_dtype=torch.bfloat16 if fast else torch.float32, guarded=False)
    if a.init:
        model.load_state_dict(folder.load(a.init)[0].state_dict())
    model = model.to(a.device)
    with torch.no_grad():
        model.encode(longest.to(a.device))
    if a.compile:
        torch._dynamo.config.cache_size_limit = 64
        for block in model.all_blocks():
            block.compile(dynamic=False)
    return model.train()


def fit(model, loss_of, a, log, extra=(), check=None):
    """Trains until --steps or --max-seconds is used up; loss_of() draws a batch and gives its loss and a dict of
    figures.  The learning rate climbs for --warmup steps and falls linearly to zero.  `extra`: parameters outside the
    model.  `check(step)` is called every --check-every steps and at the end."""
    optimisers = optim.build(model, a.optimizer, a.lr, a.muon_lr, a.weight_decay, a.weight_decay, a.key_decay)
    extra = list(extra)
    if extra:
        optimisers[0].add_param_group({"params": extra, "weight_decay": 0.0, "base": a.lr})
    step, part, begun = 0, 0.0, None
    while part < 1.0:
        loss, figures = loss_of()
        loss.backward()
        torch.nn.utils.clip_grad_norm_([*model.parameters(), *extra], 1.0)
        level = (1.0 - part) * min(1.0, (step + 1) / a.warmup)
        for o in optimisers:
            for g in o.param_groups:
                g["lr"] = g["base"] * level
            o.step()
            o.zero_grad(set_to_none=True)
        step += 1
        if begun is None and (step >= 20 or not a.compile):         # compilation is over
            float(loss.detach())
            begun = time.time()
        seconds = time.time() - begun if begun else 0.0
        part = max(step / a.steps if a.steps else 0.0, seconds / a.max_seconds if a.max_seconds else 0.0)
        if step % a.log_every == 0 or part >= 1.0:
            if float(loss.detach()) != float(loss.detach()):
                raise SystemExit(f"loss is not a number at step {step}")
            log(step=step, seconds=seconds, loss=float(loss.detach()), **{k: float(v) for k, v in figures.items()})
        if check and (step % a.check_every == 0 or part >= 1.0):
            check(step)
    return step
