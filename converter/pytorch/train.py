"""Trains a Latte language model on text files; README.md beside this has the recipe of the demo model.

    python train.py --data train-*.txt.xz --valid valid.txt.xz --out ../../models/stories-hf --steps 9000

The state is carried over contiguous text (truncated backpropagation), so a model learns to live with the memory of
a whole book and not of one window only.  The run is ended by --steps or --max-seconds, whichever is used up first,
and the learning rate falls to zero by then.  The validation text is only ever evaluated.

Several GPUs of one machine share a batch: torchrun --nproc-per-node 2 train.py ... --steps N
"""
import argparse
import glob
import json
import os
import shutil
import time

import torch
import torch.nn.functional as F

import data
import evaluate
import folder
import optim
from config import LatteConfig
from latte import LatteModel, parameter_count


def arguments():
    a = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    a.add_argument("--data", nargs="+", required=True, help="training text, plain or .xz; patterns are expanded")
    a.add_argument("--valid", help="text for evaluation")
    a.add_argument("--out", required=True, help="folder for the model, its log and checkpoint.pt")
    a.add_argument("--tokenizer", help="an existing tokenizer.json, or 'bytes'; trained from --data if absent")
    a.add_argument("--vocab", type=int, default=8192)
    a.add_argument("--cache", help="file that keeps the encoded training text between runs")
    a.add_argument("--prepare-only", action="store_true", help="stop after tokenizer and encoding")
    # shape
    a.add_argument("--mixer", default="macchiato", choices=["macchiato", "latte_causal", "window", "standard_causal"])
    a.add_argument("--width", type=int, default=384)
    a.add_argument("--layers", type=int, default=8)
    a.add_argument("--heads", type=int, default=6)
    a.add_argument("--latents", type=int, default=384)
    a.add_argument("--ff", type=int, default=1024)
    a.add_argument("--window", type=int, default=128)
    a.add_argument("--conv", action="store_true", help="short convolution in front of the mixer's projections")
    # schedule
    a.add_argument("--batch", type=int, default=48, help="rows; each reads its own run of documents")
    a.add_argument("--length", type=int, default=1024, help="tokens per row and step")
    a.add_argument("--steps", type=int, default=0)
    a.add_argument("--max-seconds", type=float, default=0, help="of training, compilation and loading not counted")
    a.add_argument("--warmup", type=int, default=200, help="steps")
    a.add_argument("--hold", type=float, default=0.0, help="part of the run before the learning rate starts to fall")
    a.add_argument("--schedule", default="linear", choices=["linear", "cosine"])
    # optimiser and regularisation
    a.add_argument("--optimizer", default="muon", choices=["muon", "adamw"])
    a.add_argument("--lr", type=float, default=4e-3, help="of AdamW")
    a.add_argument("--muon-lr", type=float, default=0.02)
    a.add_argument("--weight-decay", type=float, default=0.1, help="of AdamW")
    a.add_argument("--muon-decay", type=float, default=0.1)
    a.add_argument("--key-decay", type=float, default=0.1, help="of the latents' key matrices: keeps keys small")
    a.add_argument("--dropout", type=float, default=0.1)
    a.add_argument("--forget", type=float, default=0.02, help="chance per window that a row drops its state")
    a.add_argument("--clip", type=float, default=1.0)
    # running
    a.add_argument("--seed", type=int, default=1)
    a.add_argument("--chunk", type=int, default=64, help="tokens per chunk of the latent scan")
    a.add_argument("--compile", action="store_true")
    a.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    a.add_argument("--eval-every", type=float, default=0, help="part of the run between evaluations; 0: at the end")
    a.add_argument("--log-every", type=int, default=100)
    a.add_argument("--save-every", type=int, default=0, help="steps between checkpoints")
    a.add_argument("--resume", action="store_true", help="go on from OUT/checkpoint.pt")
    a = a.parse_args()
    if not (a.steps or a.max_seconds or a.prepare_only):
        raise SystemExit("give --steps or --max-seconds")
    a.data = sorted(f for pattern in a.data for f in glob.glob(pattern))
    if not a.data:
        raise SystemExit("--data matches no file")
    a.rank, a.world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    if a.world > 1 and (a.resume or a.save_every or a.max_seconds or a.eval_every or a.batch % a.world):
        raise SystemExit("several processes: use --steps alone, no checkpoints, a batch they can share evenly")
    if a.device == "cuda":
        torch.cuda.set_device(a.rank)
    return a


class Log:
    def __init__(self, path, append, quiet):
        self.quiet = quiet
        self.file = open(os.devnull if quiet else path, "a" if append else "w")

    def __call__(self, **record):
        if self.quiet:
            return
        line = json.dumps({k: round(v, 6) if isinstance(v, float) else v for k, v in record.items()})
        print(line, flush=True)
        self.file.write(line + "\n")
        self.file.flush()


def prepare(a):
    """Tokenizer (from the training text only) and encoded training text."""
    os.makedirs(a.out, exist_ok=True)
    path = os.path.join(a.out, "tokenizer.json")
    if a.tokenizer == "bytes":
        path = None
    elif a.tokenizer:
        if os.path.abspath(a.tokenizer) != os.path.abspath(path):
            shutil.copyfile(a.tokenizer, path)
    elif not ((a.resume or a.rank) and os.path.exists(path)):
        data.train_tokenizer(data.read_documents(a.data), a.vocab, path)
    ids, eot, size = data.load_corpus(a.data, path, a.cache)
    return path, ids, eot, size


def build(a, eot):
    vocab = 260 if a.tokenizer == "bytes" else a.vocab
    conv = dict(recurrent="conv", recurrent_feeds="qkv", local_input="recurrent") if a.conv else {}
    cfg = LatteConfig(vocab_size=vocab, hidden_size=a.width, num_hidden_layers=a.layers, num_attention_heads=a.heads,
                      num_latents=a.latents, intermediate_size=a.ff, mixer=a.mixer, window=a.window,
                      bos_token_id=eot, eos_token_id=eot, **conv)
    return LatteModel(cfg).to(a.device)


def compile_parts(model):
    """Compiles one block and reuses it for all: compiling the unrolled model would take minutes."""
    torch._dynamo.config.cache_size_limit = 64
    for b in model.blocks:
        b.compile(dynamic=False)
    return torch.compile(head_loss, dynamic=False)


def head_loss(x, weight, target, dtype):
    logits = F.linear(x.to(dtype), weight.to(dtype))
    return F.cross_entropy(logits.float().flatten(0, 1), target.flatten(), ignore_index=-100)


class Batches:
    """Turns the loader's row positions into tensors on the device."""

    def __init__(self, loader, device, rank=0, world=1):
        self.loader, self.device, self.rows = loader, device, slice(rank, None, world)
        self.flat = torch.from_numpy(loader.flat.astype("int32")).to(device)
        self.offset = torch.arange(loader.length, device=device)

    def next(self):
        at, valid, fresh = (torch.from_numpy(z[self.rows]) for z in self.loader.next())
        if self.device != "cpu":
            at, valid, fresh = (z.pin_memory().to(self.device, non_blocking=True) for z in (at, valid, fresh))
        index = (at[:, None] + self.offset).clamp(max=len(self.flat) - 2)
        y = self.flat[index + 1].long()
        y = torch.where(self.offset < valid[:, None], y, torch.full_like(y, -100))
        return self.flat[index].long(), y, fresh


def share_gradients(model, world):
    """Averages the gradients of all processes."""
    grads = [p.grad for p in model.parameters()]
    flat = torch.cat([g.flatten() for g in grads]) / world
    torch.distributed.all_reduce(flat)
    for g, part in zip(grads, flat.split([g.numel() for g in grads])):
        g.copy_(part.view_as(g))


def evaluation(model, a, path):
    """Bits per byte of the validation text in float32, on a copy that is not compiled."""
    was = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = False
    plain = LatteModel(model.cfg).to(a.device).eval()
    plain.load_state_dict(model.state_dict())
    ids, eot, size = data.load_corpus([a.valid], path, None)
    out = {"valid_window": evaluate.bits_per_byte(plain, ids, eot, size, length=1024)[0]}
    if model.cfg.mixer == "standard_causal":        # cannot stream: give every token at least half a window instead
        out["valid_stride"] = evaluate.bits_per_byte(plain, ids, eot, size, length=1024, stride=512)[0]
    else:
        out["valid_stream"] = evaluate.bits_per_byte(plain, ids, eot, size)[0]
        out["valid_stream_int8"] = evaluate.bits_per_byte(evaluate.fake_int8(plain), ids, eot, size)[0]
    torch.backends.cuda.matmul.allow_tf32 = was
    out["key_climb"] = [round(max(b.mixer.climbs or [0.0]), 1) for b in plain.blocks]
    return out


def rate(a, part, step):
    """Learning rate as a fraction of its base."""
    fall = 0.0 if part <= a.hold else min(1.0, (part - a.hold) / (1.0 - a.hold))
    level = 0.5 + 0.5 * torch.cos(torch.tensor(fall * torch.pi)).item() if a.schedule == "cosine" else 1.0 - fall
    return level * min(1.0, (step + 1) / a.warmup)


def checkpoint(path, model, optimisers, loader, state, step, spent):
    torch.save({"model": model.state_dict(), "optimisers": [o.state_dict() for o in optimisers],
                "loader": loader.state_dict(), "state": state, "step": step, "spent": spent,
                "rng": torch.get_rng_state(),
                "cuda_rng": torch.cuda.get_rng_state() if torch.cuda.is_available() else None}, path + ".part")
    os.replace(path + ".part", path)


def restore(path, model, optimisers, loader, device):
    kept = torch.load(path, map_location=device, **({"weights_only": False} if torch.__version__ >= "2" else {}))
    model.load_state_dict(kept["model"])
    for o, s in zip(optimisers, kept["optimisers"]):
        o.load_state_dict(s)
    loader.load_state_dict(kept["loader"])
    torch.set_rng_state(kept["rng"].cpu())
    if kept["cuda_rng"] is not None and device != "cpu":
        torch.cuda.set_rng_state(kept["cuda_rng"].cpu())
    return kept["state"], kept["step"], kept["spent"]


def train(a):
    torch.manual_seed(a.seed)
    torch.backends.cuda.matmul.allow_tf32 = True
    if a.world > 1:
        torch.distributed.init_process_group("gloo" if a.device == "cpu" else "nccl")
        if a.rank:
            torch.distributed.barrier()             # the first process makes tokenizer and cache for all
    path, ids, eot, size = prepare(a)
    if a.world > 1 and not a.rank:
        torch.distributed.barrier()
    log = Log(os.path.join(a.out, "training_log.jsonl"), a.resume, a.rank > 0)
    epoch = sum(len(d) + 1 for d in ids)
    if a.prepare_only:
        return log(documents=len(ids), tokens=epoch, bytes=size)
    model = build(a, eot)
    log(settings=vars(a), parameters=parameter_count(model), documents=len(ids), epoch_tokens=epoch, bytes=size,
        torch=torch.__version__, device=torch.cuda.get_device_name() if a.device != "cpu" else "cpu")
    fast = a.device != "cpu"
    model.configure(dropout=a.dropout, compute_dtype=torch.bfloat16 if fast else torch.float32, chunk=a.chunk,
                    guarded=False)
    optimisers = optim.build(model, a.optimizer, a.lr, a.muon_lr, a.weight_decay, a.muon_decay, a.key_decay)
    loader = data.StreamLoader(ids, eot, a.batch, a.length, a.seed, a.forget)
    batches = Batches(loader, a.device, a.rank, a.world)
    torch.manual_seed(a.seed + a.rank)              # weights are the same everywhere, dropout is not
    with torch.no_grad():                           # fills the rotation tables, which compiled code then only reads
        model.encode(torch.zeros(1, a.length, dtype=torch.int64, device=a.device))
    carry = a.mixer != "standard_causal"
    state, step, spent = None, 0, 0.0
    saved = os.path.join(a.out, "checkpoint.pt")
    if a.resume:
        state, step, spent = restore(saved, model, optimisers, loader, a.device)
    loss_of = compile_parts(model) if a.compile else head_loss
    model.train()
    state = state or model.initial_state(a.batch // a.world)
    part, begun, next_eval, mark, done = 0.0, None, a.eval_every, None, False
    while not done:
        x, y, fresh = batches.next()
        state = model.reset_rows(state, fresh) if carry else None
        h, state = model.encode(x, state)
        loss = loss_of(h, model.embed.weight, y, torch.bfloat16 if fast else torch.float32)
        loss.backward()
        if a.world > 1:
            share_gradients(model, a.world)
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), a.clip)
        level = rate(a, part, step)
        for o in optimisers:
            for g in o.param_groups:
                g["lr"] = g["base"] * level
            o.step()
            o.zero_grad(set_to_none=True)
        step += 1
        if begun is None and (step >= 5 or not a.compile):      # compilation is over
            float(loss.detach())
            begun = time.time() - spent
            mark = (time.time(), loader.tokens)
        now = time.time() - begun if begun else 0.0
        part = max(step / a.steps if a.steps else 0.0, now / a.max_seconds if a.max_seconds else 0.0)
        done = part >= 1.0
        if step % a.log_every == 0 or done or step == 5:
            value = float(loss.detach())
            if value != value:
                raise SystemExit(f"loss is not a number at step {step}")
            speed = (loader.tokens - mark[1]) / max(1e-9, time.time() - mark[0]) if mark else 0.0
            log(step=step, tokens=loader.tokens, epoch=loader.tokens / epoch, loss=value, grad_norm=float(norm),
                lr=level, seconds=now, tokens_per_second=speed)
            mark = (time.time(), loader.tokens)
        if a.save_every and (step % a.save_every == 0 or done):
            checkpoint(saved, model, optimisers, loader, state, step, now)
        if a.valid and not a.rank and (done or (a.eval_every and part >= next_eval)):
            next_eval += a.eval_every
            pause = time.time()
            if done:
                folder.save(model, a.out)           # before the evaluation: a run cut off there keeps its weights
            model.eval()
            log(step=step, tokens=loader.tokens, **evaluation(model, a, path))
            model.train()
            if begun:
                begun += time.time() - pause
                mark = (time.time(), loader.tokens)
    if not a.rank:
        folder.save(model, a.out)
    if a.world > 1:
        torch.distributed.destroy_process_group()
    if a.device != "cpu":
        log(peak_memory_gib=torch.cuda.max_memory_allocated() / 2 ** 30)
    return model


if __name__ == "__main__":
    train(arguments())
