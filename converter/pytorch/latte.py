"""PyTorch reference of Latte language models (recurrent causal latent attention).

    model, cfg = folder.load("models/stories-hf")
    logits, state = model(ids)                    # (B,T) -> (B,T,V); state holds everything the model remembers
    logits, state = model(more_ids, state)        # goes on where the first call stopped
    logits, state = model.step(next_id, state)    # one token, written as the recurrence

Blocks: `transformer` (norm, mixer, norm, GELU MLP), `glu` (one norm, gated activation) and `rms_swiglu` (RMSNorm,
mixer, RMSNorm, SwiGLU).  Mixers live in mixers.py.  Names of parameters are the names in model.safetensors.
"""
import dataclasses
import math
from typing import Optional

import torch
import torch.nn as nn
import torch.nn.functional as F

from mixers import MIXERS, wide


@dataclasses.dataclass
class LatteConfig:
    """config.json, key for key."""
    vocab_size: int
    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_latents: int                            # over all heads
    block_type: str = "rms_swiglu"              # transformer | glu | rms_swiglu
    mixer: str = "macchiato"                    # latte_causal | macchiato | standard_causal
    prenorm: bool = True
    norm: str = "rmsnorm"                       # layernorm | rmsnorm
    intermediate_size: int = 0
    hidden_act: str = ""                        # silu | gelu_tanh; "": silu in rms_swiglu, else gelu_tanh
    norm_eps: float = 1e-6
    unit_offset: bool = False
    positions: str = "none"                     # none | sinusoidal
    max_position_embeddings: int = 1024
    positions_fp32_angles: bool = False
    window: int = 128
    window_extent: str = "w"                    # w | w+1
    rope_theta: Optional[float] = 10000.0
    rope_style: str = "half"                    # half | interleaved
    local_scale: Optional[float] = None         # None: 1 / sqrt(head width)
    logit_softcap: float = 0.0
    score_scale: float = 1.0
    key_eps: float = 0.0
    latent_scope: str = "all"
    recurrent: str = "none"                     # none | conv
    recurrent_feeds: str = "qk"                 # qk | qkv
    local_input: str = "x"                      # x | recurrent
    tie_word_embeddings: bool = True
    head_bias: bool = False
    bos_token_id: Optional[int] = None
    eos_token_id: Optional[int] = None
    pad_token_id: Optional[int] = None
    torch_dtype: str = "float32"
    model_type: str = "latte"
    architectures: tuple = ("LatteForCausalLM",)

    CHOICES = {"block_type": ("transformer", "glu", "rms_swiglu"), "mixer": tuple(MIXERS),
               "norm": ("layernorm", "rmsnorm"), "hidden_act": ("silu", "gelu_tanh"),
               "positions": ("none", "sinusoidal"), "window_extent": ("w", "w+1"), "latent_scope": ("all",),
               "rope_style": ("half", "interleaved"), "recurrent": ("none", "conv"), "recurrent_feeds": ("qk", "qkv"),
               "local_input": ("x", "recurrent"), "model_type": ("latte",)}

    def __post_init__(self):
        d = self.hidden_size
        if not self.intermediate_size:
            self.intermediate_size = {"transformer": 4 * d, "glu": d}.get(self.block_type, 8 * d // 3)
        if not self.hidden_act:
            self.hidden_act = "silu" if self.block_type == "rms_swiglu" else "gelu_tanh"
        for key, allowed in self.CHOICES.items():
            if getattr(self, key) not in allowed:
                raise ValueError(f"config: {key} is {getattr(self, key)!r}, expected one of {allowed}")
        for key in ("hidden_size", "num_latents"):
            if getattr(self, key) % self.num_attention_heads:
                raise ValueError(f"config: {key} must be a multiple of num_attention_heads")
        if self.block_type == "rms_swiglu" and (self.norm != "rmsnorm" or not self.prenorm):
            raise ValueError("config: rms_swiglu blocks use rmsnorm before each part")
        if self.block_type != "rms_swiglu" and self.hidden_act != "gelu_tanh":
            raise ValueError("config: transformer and glu blocks use gelu_tanh")
        fixed = {"transformer": 4 * d, "glu": d}
        if self.intermediate_size != fixed.get(self.block_type, self.intermediate_size):
            raise ValueError("config: intermediate_size is fixed for this block_type")

    @classmethod
    def from_dict(cls, values):
        known = {f.name for f in dataclasses.fields(cls)}
        unknown = sorted(set(values) - known)
        if unknown:
            raise ValueError(f"config: unknown keys {unknown}")
        return cls(**{**values, "architectures": tuple(values.get("architectures", cls.architectures))})

    def to_dict(self):
        return {**dataclasses.asdict(self), "architectures": list(self.architectures)}


class Norm(nn.Module):
    def __init__(self, cfg):
        super().__init__()
        self.eps, self.offset = cfg.norm_eps, 1.0 if cfg.unit_offset else 0.0
        self.weight = nn.Parameter(torch.full((cfg.hidden_size,), 1.0 - self.offset))
        if cfg.norm == "layernorm":
            self.bias = nn.Parameter(torch.zeros(cfg.hidden_size))

    def forward(self, x):
        x = wide(x)
        if hasattr(self, "bias"):
            return F.layer_norm(x, x.shape[-1:], self.weight, self.bias, self.eps)
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.eps) * (self.weight + self.offset)


def act(name, x):
    return F.silu(x) if name == "silu" else F.gelu(x, approximate="tanh")


class Block(nn.Module):
    """Norms and residuals around a mixer and a feed-forward part.  The residual stream stays wide."""

    def __init__(self, cfg):
        super().__init__()
        d, f = cfg.hidden_size, cfg.intermediate_size
        self.cfg, self.dropout = cfg, 0.0
        self.norm1 = Norm(cfg)
        self.mixer = MIXERS[cfg.mixer](cfg)
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

    def forward(self, x, state, step=False):
        mix = self.mixer.step if step else self.mixer
        pre = self.cfg.prenorm
        y, state = mix(self.norm1(x).to(self.mixer.dtype) if pre else x.to(self.mixer.dtype), state)
        x = x + self.drop(y)
        if self.cfg.block_type == "glu":
            x = x + self.drop(self.feed_forward(x))
            return x if pre else self.norm1(x), state
        if pre:
            return x + self.drop(self.feed_forward(self.norm2(x))), state
        x = self.norm1(x)
        return self.norm2(x + self.drop(self.feed_forward(x))), state


def sinusoids(position, width, fp32_angles):
    """Rows of the sinusoidal table; position (B,T) int64 -> (B,T,width) float64."""
    i = torch.arange(0, width, 2, dtype=torch.float64, device=position.device)
    if fp32_angles:                             # as the original code computes it, rounding included
        step = i.float() * torch.tensor(-math.log(10000.0) / width, dtype=torch.float32)
        angle = (position.float().unsqueeze(-1) * step.exp()).double()
    else:
        angle = position.double().unsqueeze(-1) * 10000.0 ** (-i / width)
    return torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(-2)


class LatteForCausalLM(nn.Module):
    def __init__(self, cfg):
        super().__init__()
        self.cfg = cfg
        self.embed = nn.Embedding(cfg.vocab_size, cfg.hidden_size)
        self.blocks = nn.ModuleList(Block(cfg) for _ in range(cfg.num_hidden_layers))
        if cfg.prenorm:
            self.final_norm = Norm(cfg)
        if not cfg.tie_word_embeddings:
            self.head = nn.Linear(cfg.hidden_size, cfg.vocab_size, bias=cfg.head_bias)
        self.dropout = 0.0
        self.reset_parameters()

    def reset_parameters(self):
        """Every branch starts at zero output, so the first steps are those of a bigram model whatever the depth."""
        for name, p in self.named_parameters():
            if name == "embed.weight":
                nn.init.normal_(p, std=0.02)
            elif p.dim() == 2 and "conv1d" not in name:
                last = name.endswith((".o.weight", "down.weight", "fc2.weight", "value.weight"))
                nn.init.zeros_(p) if last else nn.init.normal_(p, std=0.5 / math.sqrt(p.shape[1]))
            elif name.endswith(".bias") and "norm" not in name:
                nn.init.zeros_(p)

    def configure(self, dropout=None, compute_dtype=None, chunk=None, guarded=None):
        """Settings of a run that are no part of the model."""
        for b in self.blocks:
            b.dropout = b.dropout if dropout is None else dropout
            b.mixer.dtype = compute_dtype or b.mixer.dtype
            b.mixer.chunk = chunk or b.mixer.chunk
            if guarded is not None:
                b.mixer.climbs = [] if guarded else None
        self.dropout = self.dropout if dropout is None else dropout
        return self

    def double(self):
        return super().double().configure(compute_dtype=torch.float64)

    def initial_state(self, batch, device=None, dtype=None):
        device = device or self.embed.weight.device
        dtype = dtype or (torch.float64 if self.embed.weight.dtype == torch.float64 else torch.float32)
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

    def hidden(self, ids, state=None, step=False):
        """Everything but the output matrix; ids (B,T), or (B,) with step."""
        state = state or self.initial_state(ids.shape[0], ids.device)
        x = wide(F.embedding(ids, self.embed.weight))
        if self.cfg.positions == "sinusoidal":
            at = state["position"]
            if not step:
                at = at[:, None] + torch.arange(ids.shape[1], device=ids.device)
            x = x + sinusoids(at, self.cfg.hidden_size, self.cfg.positions_fp32_angles).to(x.dtype)
        if self.dropout:
            x = F.dropout(x, self.dropout, self.training)
        layers = []
        for block, held in zip(self.blocks, state["layers"]):
            x, held = block(x, held, step)
            layers.append(held)
        if self.cfg.prenorm:
            x = self.final_norm(x)
        return x, {"position": state["position"] + (1 if step else ids.shape[1]), "layers": layers}

    def output(self, x):
        dtype = self.blocks[0].mixer.dtype
        head = self.embed if self.cfg.tie_word_embeddings else self.head
        bias = None if self.cfg.tie_word_embeddings else self.head.bias
        return F.linear(x.to(dtype), head.weight.to(dtype), None if bias is None else bias.to(dtype))

    def forward(self, ids, state=None):
        x, state = self.hidden(ids, state)
        return self.output(x), state

    def step(self, ids, state=None):
        x, state = self.hidden(ids, state, step=True)
        return self.output(x), state


def parameter_count(model):
    return sum(p.numel() for p in model.parameters())
