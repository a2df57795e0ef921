"""PyTorch reference of the Latte family (latent attention: causal, bidirectional, reading another sequence).

    model, cfg = folder.load("models/stories-hf")
    logits, state = model(ids)                    # (B,T) -> (B,T,V); state holds everything the model remembers
    logits, state = model(more_ids, state)        # goes on where the first call stopped
    logits, state = model.step(next_id, state)    # one token, written as the recurrence

    state = model.read(memory_ids)                # models with a memory encoder: a fresh state that has read (B,S)
    logits, state = model(ids, state)             # every layer asks it

Inputs are ids (B,T), numbers (B,T,features) or pixels (B,T,1).  What comes out depends on the head: (B,T,V) language,
(B,T,numbers) regression, (B,labels) classifier and pair (which takes ids (B,2,T)), (B,D) embedding, (B,T,D) none.
Heads that pool, and mixers that see ahead, pass over tokens equal to `pad_token_id`; pads are a suffix.

Blocks: `transformer` (norm, mixer, norm, GELU MLP), `glu` (one norm, gated activation) and `rms_swiglu` (RMSNorm,
mixer, RMSNorm, SwiGLU).  Mixers live in mixers.py and bidirectional.py, inputs and heads in parts.py.  Names of
parameters are the names in model.safetensors.
"""
import math

import torch
import torch.nn as nn
import torch.nn.functional as F

import mixers
import parts
from bidirectional import BidirectionalLatte, Linformer
from config import LatteConfig, POOLED
from mixers import wide
from parts import Norm

MIXERS = {"latte_causal": mixers.Latte, "macchiato": mixers.Macchiato, "window": mixers.Window,
          "standard_causal": mixers.StandardAttention, "latte_bid": BidirectionalLatte, "linformer": Linformer}


def act(name, x):
    return F.silu(x) if name == "silu" else F.gelu(x, approximate="tanh")


class Block(nn.Module):
    """Norms and residuals around a mixer, possibly cross reading, and a feed-forward part.  The residual stream stays
    wide."""

    def __init__(self, cfg, mixer, cross):
        super().__init__()
        d, f = cfg.hidden_size, cfg.intermediate_size
        self.cfg, self.dropout = cfg, 0.0
        self.norm1 = Norm(cfg)
        self.mixer = MIXERS[mixer](cfg)
        if cross:
            self.norm_cross = Norm(cfg)
            self.cross = BidirectionalLatte(cfg)
        if cfg.block_type == "glu":
            self.value, self.gate = nn.Linear(d, d), nn.Linear(d, d)
            return
        self.norm2 = Norm(cfg)
        if cfg.block_type == "transformer":
            self.fc1, self.fc2 = nn.Linear(d, f), nn.Linear(f, d)
        else:
            self.gate, self.up = nn.Linear(d, f, bias=False), nn.Linear(d, f, bias=False)
            self.down = nn.Linear(f, d, bias=False)

    def dense(self, layer, x):
        dtype = self.mixer.dtype
        return F.linear(x.to(dtype), layer.weight.to(dtype), None if layer.bias is None else layer.bias.to(dtype))

    def drop(self, x):
        return F.dropout(x, self.dropout, self.training) if self.dropout else x

    def feed_forward(self, x):
        if self.cfg.block_type == "transformer":
            return self.dense(self.fc2, act("gelu_tanh", self.dense(self.fc1, x)))
        if self.cfg.block_type == "glu":
            u = act("gelu_tanh", x)
            return self.dense(self.value, u) * torch.sigmoid(self.dense(self.gate, u))
        return self.dense(self.down, act(self.cfg.hidden_act, self.dense(self.gate, x)) * self.dense(self.up, x))

    def mix(self, x, state, step, mask):
        x = x.to(self.mixer.dtype)
        if step:
            return self.mixer.step(x, state)
        return self.mixer(x, state, mask) if self.mixer.sees_ahead else self.mixer(x, state)

    def read_memory(self, x, latents):
        """Cross reading; latents (B,H,Lh,Dh) are what this layer kept of the memory."""
        pre, row = self.cfg.prenorm, x.dim() == 2
        y = (self.norm_cross(x) if pre else x).to(self.cross.dtype)
        y = self.cross.ask(y.unsqueeze(1), latents).squeeze(1) if row else self.cross.ask(y, latents)
        x = x + self.drop(y)
        return x if pre else self.norm_cross(x)

    def forward(self, x, state, step=False, mask=None, latents=None):
        pre, glu = self.cfg.prenorm, self.cfg.block_type == "glu"
        y, state = self.mix(self.norm1(x) if pre else x, state, step, mask)
        x = x + self.drop(y)
        if not pre and not glu:
            x = self.norm1(x)
        if latents is not None:
            x = self.read_memory(x, latents)
        if glu:
            x = x + self.drop(self.feed_forward(x))
            return x if pre else self.norm1(x), state
        x = x + self.drop(self.feed_forward(self.norm2(x) if pre else x))
        return x if pre else self.norm2(x), state


def sinusoids(position, width, fp32_angles):
    """Rows of the sinusoidal table; position (B,T) int64 -> (B,T,width) float64."""
    i = torch.arange(0, width, 2, dtype=torch.float64, device=position.device)
    if fp32_angles:                             # as the original code computes it, rounding included
        step = i.float() * torch.tensor(-math.log(10000.0) / width, dtype=torch.float32)
        angle = (position.float().unsqueeze(-1) * step.exp()).double()
    else:
        angle = position.double().unsqueeze(-1) * 10000.0 ** (-i / width)
    return torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(-2)


class Memory(nn.Module):
    """Encoder of the sequence that cross reading reads."""

    def __init__(self, cfg):
        super().__init__()
        self.blocks = nn.ModuleList(Block(cfg, cfg.memory_mixer, False) for _ in range(cfg.num_memory_layers))
        if cfg.prenorm:
            self.final_norm = Norm(cfg)


class LatteModel(nn.Module):
    def __init__(self, cfg):
        super().__init__()
        self.cfg = cfg
        self.embed = parts.make_input(cfg)
        owners = cfg.shared_layers or range(cfg.num_hidden_layers)
        own = {i: Block(cfg, cfg.mixer, cfg.num_memory_layers > 0) for i in sorted(set(owners))}
        self.blocks = nn.ModuleList(own[i] for i in owners)     # a shared layer is one module in several places
        if cfg.num_memory_layers:
            self.memory = Memory(cfg)
        if cfg.final_norm:
            self.final_norm = Norm(cfg)
        if cfg.head == "pair":
            self.hidden = nn.Linear(4 * cfg.hidden_size, cfg.hidden_size)
        outputs = {"language": 0 if cfg.tie_word_embeddings else cfg.vocab_size, "classifier": cfg.num_labels,
                   "pair": cfg.num_labels, "regression": cfg.numbers_per_row}.get(cfg.head, 0)
        if outputs:
            self.head = nn.Linear(cfg.hidden_size, outputs, bias=cfg.head != "language" or cfg.head_bias)
        self.dropout = 0.0
        self.reset_parameters()

    def reset_parameters(self):
        """Every branch starts at zero output, so the first steps are those of a model without blocks whatever the
        depth."""
        for name, p in self.named_parameters():
            if name == "embed.weight" and self.cfg.input == "tokens":
                nn.init.normal_(p, std=0.02 if self.cfg.head == "language" else 0.5)
            elif p.dim() == 2 and "conv1d" not in name:
                last = name.endswith((".o.weight", "down.weight", "fc2.weight", "value.weight"))
                nn.init.zeros_(p) if last else nn.init.normal_(p, std=0.5 / math.sqrt(p.shape[1]))
            elif name.endswith(".bias") and "norm" not in name:
                nn.init.zeros_(p)

    def all_blocks(self):
        return [*self.blocks, *(self.memory.blocks if self.cfg.num_memory_layers else ())]

    def configure(self, dropout=None, compute_dtype=None, chunk=None, guarded=None):
        """Settings of a run that are no part of the model."""
        for b in self.all_blocks():
            b.dropout = b.dropout if dropout is None else dropout
            for m in (b.mixer, getattr(b, "cross", b.mixer)):
                m.dtype = compute_dtype or m.dtype
                m.chunk = chunk or m.chunk
                if guarded is not None:
                    m.climbs = [] if guarded else None
        self.dropout = self.dropout if dropout is None else dropout
        return self

    def double(self):
        return super().double().configure(compute_dtype=torch.float64)

    def initial_state(self, batch, device=None, dtype=None):
        weight = self.blocks[0].norm1.weight
        device = device or weight.device
        dtype = dtype or (torch.float64 if weight.dtype == torch.float64 else torch.float32)
        return {"position": torch.zeros(batch, dtype=torch.int64, device=device),
                "layers": [b.mixer.initial_state(batch, device, dtype) for b in self.blocks]}

    def reset_rows(self, state, rows):
        """Forgets everything in the sequences where rows (B,) is true; used where a new document starts."""
        fresh = self.initial_state(1, rows.device)

        def pick(old, new):
            mask = rows.view((-1,) + (1,) * (old.dim() - 1))
            return torch.where(mask, new.to(old.dtype), old)
        return {"position": pick(state["position"], fresh["position"]),
                "layers": [tuple(pick(a, b) for a, b in zip(old, new))
                           for old, new in zip(state["layers"], fresh["layers"])]}

    def mask_of(self, x):
        """(B,T), true at real tokens; None where nothing can be a pad."""
        known = self.cfg.input == "tokens" and self.cfg.pad_token_id is not None
        return x != self.cfg.pad_token_id if known else None

    def embedded(self, x, position):
        """Inputs and positions; position (B,) of the first token."""
        h = parts.embed(self.cfg, self.embed, x)
        if self.cfg.positions == "sinusoidal":
            at = position[:, None] + torch.arange(h.shape[1], device=h.device)
            h = h + sinusoids(at, self.cfg.hidden_size, self.cfg.positions_fp32_angles).to(h.dtype)
        return F.dropout(h, self.dropout, self.training) if self.dropout else h

    def read(self, memory):
        """Reads a memory sequence; returns the state of a model that has read it and seen nothing else."""
        mask = self.mask_of(memory)
        state = self.initial_state(len(memory), memory.device)
        x = self.embedded(memory, state["position"])
        for block in self.memory.blocks:
            x, _ = block(x, block.mixer.initial_state(len(x), x.device, x.dtype), mask=mask)
        if self.cfg.prenorm:
            x = self.memory.final_norm(x)
        return {**state, "memory": [b.cross.read(x.to(b.cross.dtype), mask) for b in self.blocks]}

    def encode(self, x, state=None, step=False):
        """Everything but the head; x as in the file's first lines, without the time axis in a step."""
        state = state or self.initial_state(len(x), x.device)
        mask = None if step else self.mask_of(x)
        h = self.embedded(x.unsqueeze(1), state["position"]).squeeze(1) if step else self.embedded(x, state["position"])
        read = state.get("memory", [None] * len(self.blocks))
        layers = []
        for block, held, latents in zip(self.blocks, state["layers"], read):
            h, held = block(h, held, step, mask, latents)
            layers.append(held)
        if self.cfg.final_norm:
            h = self.final_norm(h)
        return h, {**state, "position": state["position"] + (1 if step else x.shape[1]), "layers": layers}

    def language(self, h):
        dtype = self.blocks[0].mixer.dtype
        head = self.embed if self.cfg.tie_word_embeddings else self.head
        bias = None if self.cfg.tie_word_embeddings else self.head.bias
        return F.linear(h.to(dtype), head.weight.to(dtype), None if bias is None else bias.to(dtype))

    def forward(self, x, state=None):
        kind = self.cfg.head
        if kind == "pair":
            documents, _ = self.encode(x.flatten(0, 1))
            pooled = parts.pool(documents, self.mask_of(x.flatten(0, 1)), self.cfg.pooling).unflatten(0, (-1, 2))
            u = act("gelu_tanh", self.hidden(parts.pair_features(pooled[:, 0], pooled[:, 1])))
            return self.head(u), None
        h, state = self.encode(x, state)
        if kind == "language":
            return self.language(h), state
        if kind in POOLED:
            h = parts.pool(h, self.mask_of(x), self.cfg.pooling)
            if kind == "embedding":
                return (h / h.norm(dim=-1, keepdim=True) if self.cfg.unit_length else h), state
        return (h if kind == "none" else self.head(h)), state

    def step(self, x, state=None):
        h, state = self.encode(x, state, step=True)
        if self.cfg.head == "language":
            return self.language(h), state
        if self.cfg.head in POOLED:
            raise ValueError("a head that pools needs the whole sequence")
        return (h if self.cfg.head == "none" else self.head(h)), state


def parameter_count(model):
    return sum(p.numel() for p in model.parameters())
