"""Mixers that see the whole sequence: bidirectional latent attention, cross reading, Linformer.

They have no step form and no state.  A mask (B,T) is true at real tokens; None means that all are real.
"""
import math

import torch
import torch.nn as nn
import torch.nn.functional as F

from mixers import Latte, merge_heads, split_heads, wide


class BidirectionalLatte(Latte):
    """Each latent averages the values of all tokens; each token mixes the latents.

    Reading and asking are apart, so that the same layer serves cross reading: a sequence is read once, another asks.
    """
    sees_ahead = True

    def initial_state(self, batch, device, dtype):
        return ()

    def read(self, x, mask=None):
        """Averages of the values per latent, (B,H,Lh,Dh); zero for a sequence without any real token."""
        k = self.effective_keys(split_heads(self.linear(self.k, x), self.heads))
        v = split_heads(self.linear(self.v, x), self.heads)
        if mask is not None:
            k = k.masked_fill(~mask[:, None, :, None], float("-inf"))
        top = k.detach().amax(2, keepdim=True)
        e = torch.exp(k - torch.where(torch.isfinite(top), top, torch.zeros_like(top)))
        total = e.sum(2).unsqueeze(-1)
        sums = wide(torch.matmul(e.to(v.dtype).transpose(2, 3), v))
        return sums / torch.where(total > 0, total, torch.ones_like(total))

    def ask(self, x, latents):
        q = wide(split_heads(self.linear(self.q, x), self.heads)) * self.cfg.score_scale
        p = torch.softmax(q, dim=-1).to(self.dtype)
        return self.linear(self.o, merge_heads(torch.matmul(p, latents.to(self.dtype))))

    def forward(self, x, state, mask=None):
        return self.ask(x, self.read(x, mask)), ()

    def step(self, x, state):
        raise ValueError("a mixer that sees ahead cannot go token by token")


class Linformer(nn.Module):
    """Baseline: softmax attention over `num_latents` fixed mixtures of the tokens per head."""
    sees_ahead = True

    def __init__(self, cfg):
        super().__init__()
        d, rank, n = cfg.hidden_size, cfg.num_latents, cfg.max_position_embeddings
        self.heads, self.dtype, self.chunk, self.climbs = cfg.num_attention_heads, torch.float32, 64, []
        self.q, self.k, self.v, self.o = (nn.Linear(d, d) for _ in range(4))
        self.low_rank_k = nn.Parameter(torch.randn(n, self.heads, rank) / math.sqrt(n))
        self.low_rank_v = nn.Parameter(torch.randn(n, self.heads, rank) / math.sqrt(n))

    initial_state = BidirectionalLatte.initial_state
    step = BidirectionalLatte.step

    def linear(self, layer, x):
        return F.linear(x.to(self.dtype), layer.weight.to(self.dtype), layer.bias.to(self.dtype))

    def forward(self, x, state, mask=None):
        t = x.shape[1]
        if t > len(self.low_rank_k):
            raise ValueError(f"linformer reads up to {len(self.low_rank_k)} tokens, got {t}")
        x = wide(x)
        x = x / x.norm(dim=-1, keepdim=True)                    # no epsilon, as in the original
        q, k, v = (split_heads(self.linear(layer, x), self.heads) for layer in (self.q, self.k, self.v))
        if mask is not None:
            k, v = (z * mask[:, None, :, None].to(z.dtype) for z in (k, v))
        k = torch.einsum("thr,bhtd->bhrd", self.low_rank_k[:t].to(k.dtype), k)
        v = torch.einsum("thr,bhtd->bhrd", self.low_rank_v[:t].to(v.dtype), v)
        p = torch.softmax(wide(torch.matmul(q, k.transpose(2, 3))) / math.sqrt(q.shape[-1]), dim=-1)
        return self.linear(self.o, merge_heads(torch.matmul(p.to(v.dtype), v))), ()
