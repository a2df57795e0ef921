"""Causal mixers of the Latte family: Latte, Macchiato, window attention, and softmax attention as a baseline.

Every mixer has two forms that compute the same function:

  forward(x, state)  a whole piece of text at once, built from matrix products (training, prompts)
  step(x, state)     one token, written as the recurrence is written on paper (the yardstick)

Both read and return the same state, so they can be mixed freely.  Matrix products run in the model's compute
type (bfloat16 in training); exponentials, sums of exponentials and maxima stay in float32 or better, because a
running softmax over a hundred thousand tokens does not survive eight bits of mantissa.

State layout (B = sequences in the batch):
  latent    m (B,H,Lh)  Z (B,H,Lh)  S (B,H,Lh,Dh)     running maximum, sum of exps, weighted sum of values
  window    keys (B,H,W,Dh)  values (B,H,W,Dh)  fill (B,)    newest last, keys kept before rotation
  conv      (B,K-1,D)                                  last inputs, oldest first
"""
import math

import torch
import torch.nn as nn
import torch.nn.functional as F

EMPTY_MAX = -1e30       # "minus infinity" that survives subtraction without making a NaN
JUMP_LIMIT = 100.0      # how far the running maximum may climb inside a chunk before sums lose digits
CONV_WIDTH = 4


def wide(t):
    """At least float32."""
    return t if t.dtype in (torch.float32, torch.float64) else t.float()


def split_heads(x, heads):
    """(B,T,H*n) -> (B,H,T,n), heads are the slow part of the channel axis."""
    b, t, _ = x.shape
    return x.view(b, t, heads, -1).transpose(1, 2)


def merge_heads(x):
    b, h, t, n = x.shape
    return x.transpose(1, 2).reshape(b, t, h * n)


def rope_tables(length, width, theta, device, dtype):
    """cos and sin of shape (length, width // 2); angles in float64 so that late positions stay exact."""
    half = width // 2
    freq = theta ** (-torch.arange(half, dtype=torch.float64) / half)
    angle = torch.arange(length, dtype=torch.float64)[:, None] * freq[None, :]
    return angle.cos().to(device, dtype), angle.sin().to(device, dtype)


class Rope:
    """Rotation tables, grown on demand and kept: recomputing them per call would cost more than the rotation."""

    def __init__(self, width, theta, style):
        self.width, self.theta, self.style = width, theta, style
        self.cos = self.sin = None

    def __call__(self, x, start):
        """Rotates x (..., n, width) as positions start ... start + n - 1."""
        if self.theta is None:
            return x
        n, dtype = start + x.shape[-2], torch.float64 if x.dtype == torch.float64 else torch.float32
        if self.cos is None or self.cos.shape[0] < n or self.cos.dtype != dtype or self.cos.device != x.device:
            self.cos, self.sin = rope_tables(n, self.width, self.theta, x.device, dtype)
        return rotate(x, self.cos[start:n], self.sin[start:n], self.style).to(x.dtype)


def rotate(x, cos, sin, style):
    """Rotary embedding of the last axis; an odd last channel passes through."""
    half = cos.shape[-1]
    if style == "half":
        a, b = x[..., :half], x[..., half:2 * half]
        parts = [a * cos - b * sin, b * cos + a * sin]
        if x.shape[-1] % 2:
            parts.append(x[..., 2 * half:])
        return torch.cat(parts, dim=-1)
    a, b = x[..., 0:2 * half:2], x[..., 1:2 * half:2]
    pair = torch.stack([a * cos - b * sin, b * cos + a * sin], dim=-1).flatten(-2)
    return torch.cat([pair, x[..., 2 * half:]], dim=-1) if x.shape[-1] % 2 else pair


def scan_chunks(p, k, v, state, chunk, dtype):
    """Latent scan over T = C * chunk tokens.  p, k (B,H,T,Lh) float32, v (B,H,T,Dh).

    Inside a chunk the causal sum is one masked product.  The sums over all earlier chunks are one masked product
    too, over chunks instead of tokens: no loop, so it compiles and differentiates quickly.

    Exponentials are taken relative to a level per chunk and latent.  The running maximum at the chunk's end would
    do, but tokens before a steep climb J of the maximum would then have sums of exp(-J).  Half way up the climb,
    nothing is larger than exp(J/2) or smaller than exp(-J/2), which doubles the climb that float32 can stand.
    Returns y, the new state, and the largest J.
    """
    m0, z0, s0 = state
    b, h, t, lh = k.shape
    c = t // chunk
    kc, pc, vc = (z.reshape(b, h, c, chunk, z.shape[-1]) for z in (k, p, v))
    with torch.no_grad():       # the result does not depend on the levels, so they need no gradient
        top = torch.maximum(torch.cummax(kc.amax(dim=3), dim=2)[0], m0.unsqueeze(2))    # maximum after each chunk
        start = torch.maximum(torch.cat([m0.unsqueeze(2), top[:, :, :-1]], dim=2), kc[:, :, :, 0])
        level = (start + top) / 2                                                       # never falls: start >= top
        climb = (top - start).amax()                                                    # of the chunk before
        given = torch.cat([m0.unsqueeze(2), level], dim=2)                              # carry, chunk 0, 1, ...
        taken = torch.cat([level, top[:, :, -1:]], dim=2)
        # weight of carried sum j when seen from chunk r; row C is the state handed on, relative to the maximum.
        w = given.transpose(2, 3).unsqueeze(3) - taken.transpose(2, 3).unsqueeze(4)     # (B,H,Lh,C+1,C+1)
        allowed = torch.ones(c + 1, c + 1, dtype=torch.bool, device=k.device).tril()
        w = torch.where(allowed, torch.exp(w), torch.zeros((), dtype=w.dtype, device=w.device))
    # The clamp acts only where J > 160 or a key is hopelessly small: training must never see an infinity.
    e = torch.exp((kc - level.unsqueeze(3)).clamp(-80.0, 80.0))
    lower = torch.ones(chunk, chunk, dtype=torch.bool, device=k.device).tril()
    z_in = torch.matmul(lower.to(e.dtype), e)                                           # running sums in the chunk
    el, vl = e.to(dtype), vc.to(dtype)
    s_chunk = torch.matmul(el.transpose(3, 4), vl).to(e.dtype)                          # (B,H,C,Lh,Dh)
    z_all = torch.cat([z0.unsqueeze(2), z_in[:, :, :, -1]], dim=2)
    s_all = torch.cat([s0.unsqueeze(2), s_chunk], dim=2)
    z_carry = torch.einsum("bhlrj,bhjl->bhrl", w, z_all)
    s_carry = torch.einsum("bhlrj,bhjld->bhrld", w, s_all)
    # exp(-log Z) and not 1 / Z: the derivative of a quotient squares Z and overflows long before Z does.
    share = pc * torch.exp(-torch.log(z_in + z_carry[:, :, :-1].unsqueeze(3)))
    sl = share.to(dtype)
    a = torch.matmul(sl, el.transpose(3, 4))
    a = torch.where(lower, a, torch.zeros((), dtype=a.dtype, device=a.device))          # select: may hold inf above
    y = torch.matmul(a, vl) + torch.matmul(sl, s_carry[:, :, :-1].to(dtype))
    new = (top[:, :, -1], z_carry[:, :, -1], s_carry[:, :, -1])
    return y.reshape(b, h, t, v.shape[-1]), new, climb


def scan(p, k, v, state, chunk, dtype, climbs):
    """Latent scan for any T.  With a list in `climbs`, pieces whose keys climb too far are halved until they are
    safe, and the climbs seen are noted; with None (compiled training) there is no data-dependent branch."""
    t = k.shape[2]
    chunk = min(chunk, t)
    cut = t // chunk * chunk
    if cut == t:
        y, new, climb = scan_chunks(p, k, v, state, chunk, dtype)
        if climbs is None:
            return y, new
        climbs.append(float(climb))
        if t == 1 or climbs[-1] <= JUMP_LIMIT:
            return y, new
        cut = t // 2
    y0, state = scan(p[:, :, :cut], k[:, :, :cut], v[:, :, :cut], state, chunk, dtype, climbs)
    y1, state = scan(p[:, :, cut:], k[:, :, cut:], v[:, :, cut:], state, chunk, dtype, climbs)
    return torch.cat([y0, y1], dim=2), state


def scan_step(p, k, v, state):
    """One token of the latent recurrence: p, k (B,H,Lh), v (B,H,Dh)."""
    m, z, s = state
    top = torch.maximum(m, k)
    decay, gain = torch.exp(m - top), torch.exp(k - top)
    z = decay * z + gain
    s = decay.unsqueeze(-1) * s + gain.unsqueeze(-1) * v.unsqueeze(-2)
    return torch.matmul((p / z).unsqueeze(-2), s).squeeze(-2), (top, z, s)


class Mixer(nn.Module):
    """What the mixers share: sizes, precision, scores, the optional convolution in front of queries and keys."""
    sees_ahead = False

    def __init__(self, cfg):
        super().__init__()
        self.cfg = cfg
        self.heads = cfg.num_attention_heads
        self.dh = cfg.hidden_size // self.heads
        self.lh = cfg.num_latents // self.heads
        self.dtype, self.chunk, self.climbs = torch.float32, 64, []
        d = cfg.hidden_size
        self.o = nn.Linear(d, d, bias=False)
        if cfg.recurrent == "conv":
            self.conv1d = nn.Module()
            self.conv1d.weight = nn.Parameter(torch.zeros(CONV_WIDTH, d))
            self.conv1d.bias = nn.Parameter(torch.zeros(d))
            nn.init.ones_(self.conv1d.weight[-1:])          # starts as "no convolution"

    def linear(self, layer, x):
        return F.linear(x.to(self.dtype), layer.weight.to(self.dtype))

    def front(self, x, cache):
        """Depthwise causal convolution; returns its output and the inputs to remember."""
        w = self.conv1d.weight
        t = x.shape[1]
        z = torch.cat([cache.to(x.dtype), x], dim=1)
        out = self.conv1d.bias.to(x.dtype)
        for j in range(CONV_WIDTH):
            out = out + z[:, j:j + t] * w[j].to(x.dtype)
        return out, z[:, t:]

    def effective_keys(self, k):
        k = wide(k) * self.cfg.score_scale
        if self.cfg.key_eps:
            k = torch.logaddexp(k, torch.full_like(k, math.log(self.cfg.key_eps)))
        return k

    def latent_state(self, batch, device, dtype):
        shape = (batch, self.heads, self.lh)
        return (torch.full(shape, EMPTY_MAX, device=device, dtype=dtype),
                torch.zeros(shape, device=device, dtype=dtype),
                torch.zeros(shape + (self.dh,), device=device, dtype=dtype))

    def conv_state(self, batch, device, dtype):
        if self.cfg.recurrent != "conv":
            return ()
        return (torch.zeros(batch, CONV_WIDTH - 1, self.cfg.hidden_size, device=device, dtype=dtype),)

    def feeds(self, x, state):
        """Inputs of q/k, of v and of the local q/k, and the convolution's new state."""
        if self.cfg.recurrent != "conv":
            return x, x, x, ()
        z, cache = self.front(x, state[-1])
        return (z, z if self.cfg.recurrent_feeds == "qkv" else x,
                z if self.cfg.local_input == "recurrent" else x, (cache.to(state[-1].dtype),))


class Latte(Mixer):
    """Causal latent attention: softmax over latents per token, running softmax over time per latent."""

    def __init__(self, cfg):
        super().__init__(cfg)
        d, n = cfg.hidden_size, cfg.num_latents
        self.q, self.k = nn.Linear(d, n, bias=False), nn.Linear(d, n, bias=False)
        self.v = nn.Linear(d, d, bias=False)

    def initial_state(self, batch, device, dtype):
        return self.latent_state(batch, device, dtype) + self.conv_state(batch, device, dtype)

    def project(self, x, state):
        xq, xv, _, cache = self.feeds(x, state)
        q = wide(split_heads(self.linear(self.q, xq), self.heads)) * self.cfg.score_scale
        k = self.effective_keys(split_heads(self.linear(self.k, xq), self.heads))
        return torch.softmax(q, dim=-1), k, split_heads(self.linear(self.v, xv), self.heads), cache

    def forward(self, x, state):
        p, k, v, cache = self.project(x, state)
        y, new = scan(p, k, v, state[:3], self.chunk, self.dtype, self.climbs)
        return self.linear(self.o, merge_heads(y)), tuple(s.detach() for s in new + cache)

    def step(self, x, state):
        p, k, v, cache = self.project(x.unsqueeze(1), state)
        y, new = scan_step(p[:, :, 0], k[:, :, 0], wide(v[:, :, 0]), state[:3])
        return self.linear(self.o, y.flatten(1)), new + cache


class Window(Mixer):
    """Softmax attention over the last few tokens."""

    def __init__(self, cfg):
        super().__init__(cfg)
        d = cfg.hidden_size
        self.make_latents(d, cfg.num_latents)
        self.local_q, self.local_k = nn.Linear(d, d, bias=False), nn.Linear(d, d, bias=False)
        self.window = cfg.window
        self.span = cfg.window if cfg.window_extent == "w" else cfg.window + 1   # tokens seen, the current included
        self.rope = Rope(self.dh, cfg.rope_theta, cfg.rope_style)
        self.scale = cfg.local_scale if cfg.local_scale is not None else 1.0 / math.sqrt(self.dh)

    def make_latents(self, d, n):
        self.v = nn.Linear(d, d, bias=False)

    def initial_state(self, batch, device, dtype):
        shape = (batch, self.heads, self.window, self.dh)
        return (torch.zeros(shape, device=device, dtype=dtype), torch.zeros(shape, device=device, dtype=dtype),
                torch.zeros(batch, device=device, dtype=torch.int64))

    def project_local(self, xl, xv):
        return (split_heads(self.linear(m, z), self.heads)
                for m, z in ((self.local_q, xl), (self.local_k, xl), (self.v, xv)))

    def scores(self, q, k):
        s = wide(torch.matmul(q, k.transpose(-1, -2))) * self.scale
        cap = self.cfg.logit_softcap
        return cap * torch.tanh(s / cap) if cap else s

    def local(self, q, k, v, state):
        """Window attention in blocks of `window` queries, each against its own and the previous block of keys.

        Rotations depend on distance alone, so positions count from the oldest key held, not from the start.
        """
        keys, values, fill = state
        b, h, t, dh = q.shape
        w = self.window
        new = tuple(torch.cat([old.to(z.dtype), z], dim=2)[:, :, t:].to(old.dtype)
                    for old, z in ((keys, k), (values, v))) + ((fill + t).clamp(max=w),)
        pad = -t % w
        q, k = self.rope(q, w), self.rope(torch.cat([keys.to(k.dtype), k], dim=2), 0)
        v = torch.cat([values.to(v.dtype), v], dim=2)
        q, k, v = (F.pad(z, (0, 0, 0, pad)) for z in (q, k, v))
        n = (t + pad) // w
        q = q.reshape(b, h, n, w, dh)
        k, v = (z.reshape(b, h, n + 1, w, dh) for z in (k, v))
        k, v = (torch.cat([z[:, :, :-1], z[:, :, 1:]], dim=3) for z in (k, v))
        row = torch.arange(w, device=q.device)[:, None]
        col = torch.arange(2 * w, device=q.device)[None, :]
        near = (col <= row + w) & (col > row + w - self.span)
        index = torch.arange(n, device=q.device)[:, None] * w + torch.arange(2 * w, device=q.device)[None, :]
        real = index[None] >= w - fill[:, None, None]                    # history that was never written is masked
        allowed = near[None, None, None] & real[:, None, :, None, :]
        s = self.scores(q, k).masked_fill(~allowed, float("-inf"))
        y = torch.matmul(torch.softmax(s, dim=-1).to(v.dtype), v)
        return y.reshape(b, h, n * w, dh)[:, :, :t], new

    def local_step(self, q, k, v, state):
        keys, values, fill = state
        w = self.window
        keys_all = torch.cat([keys.to(k.dtype), k], dim=2)               # w remembered tokens and this one
        values_all = torch.cat([values.to(v.dtype), v], dim=2)
        s = self.scores(self.rope(q, w), self.rope(keys_all, 0))
        index = torch.arange(w + 1, device=q.device)
        allowed = (index[None] >= w - fill[:, None]) & (index[None] > w - self.span)
        s = s.masked_fill(~allowed[:, None, None], float("-inf"))
        y = torch.matmul(torch.softmax(s, dim=-1).to(v.dtype), values_all)[:, :, 0]
        return y, (keys_all[:, :, 1:].to(keys.dtype), values_all[:, :, 1:].to(values.dtype), (fill + 1).clamp(max=w))

    def forward(self, x, state):
        y, new = self.local(*self.project_local(x, x), state)
        return self.linear(self.o, merge_heads(y)), tuple(s.detach() for s in new)

    def step(self, x, state):
        x = x.unsqueeze(1)
        y, new = self.local_step(*self.project_local(x, x), state)
        return self.linear(self.o, y.flatten(1)), new


class Macchiato(Window):
    """Latent attention whose query softmax has one more entry: softmax attention over the last few tokens."""

    def make_latents(self, d, n):
        self.q, self.k = nn.Linear(d, n, bias=False), nn.Linear(d, n, bias=False)
        self.v, self.gate = nn.Linear(d, d, bias=False), nn.Linear(d, self.heads, bias=False)

    def initial_state(self, batch, device, dtype):
        return (self.latent_state(batch, device, dtype) + super().initial_state(batch, device, dtype)
                + self.conv_state(batch, device, dtype))

    def project(self, x, state):
        xq, xv, xl, cache = self.feeds(x, state)
        q = wide(split_heads(self.linear(self.q, xq), self.heads))
        g = wide(self.linear(self.gate, xq)).transpose(1, 2).unsqueeze(-1)
        p = torch.softmax(torch.cat([g, q], dim=-1) * self.cfg.score_scale, dim=-1)
        k = self.effective_keys(split_heads(self.linear(self.k, xq), self.heads))
        return (p, k, *self.project_local(xl, xv), cache)

    def forward(self, x, state):
        p, k, ql, kl, v, cache = self.project(x, state)
        local, held = self.local(ql, kl, v, state[3:6])
        y, new = scan(p[..., 1:], k, v, state[:3], self.chunk, self.dtype, self.climbs)
        y = wide(p[..., :1]).to(y.dtype) * local + y
        return self.linear(self.o, merge_heads(y)), tuple(s.detach() for s in new + held + cache)

    def step(self, x, state):
        p, k, ql, kl, v, cache = self.project(x.unsqueeze(1), state)
        local, held = self.local_step(ql, kl, v, state[3:6])
        y, new = scan_step(p[:, :, 0, 1:], k[:, :, 0], wide(v[:, :, 0]), state[:3])
        y = p[:, :, 0, :1] * local + y
        return self.linear(self.o, y.flatten(1)), new + held + cache


class StandardAttention(nn.Module):
    """Softmax attention over everything seen: a baseline."""
    sees_ahead = False

    def __init__(self, cfg):
        super().__init__()
        d = cfg.hidden_size
        self.heads, self.dh = cfg.num_attention_heads, d // cfg.num_attention_heads
        self.dtype, self.chunk, self.climbs = torch.float32, 64, []
        self.q, self.k, self.v, self.o = (nn.Linear(d, d, bias=False) for _ in range(4))

    def initial_state(self, batch, device, dtype):
        empty = torch.zeros(batch, self.heads, 0, self.dh, device=device, dtype=dtype)
        return (empty, empty)

    def forward(self, x, state):
        x = x.to(self.dtype)
        q, k, v = (split_heads(F.linear(x, m.weight.to(self.dtype)), self.heads) for m in (self.q, self.k, self.v))
        k, v = (torch.cat([old.to(z.dtype), z], dim=2) for old, z in zip(state, (k, v)))
        total, t = k.shape[2], x.shape[1]
        if total == t and hasattr(F, "scaled_dot_product_attention"):
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        else:
            s = wide(torch.matmul(q, k.transpose(2, 3))) / math.sqrt(self.dh)
            allowed = torch.ones(t, total, dtype=torch.bool, device=x.device).tril(total - t)
            y = torch.matmul(torch.softmax(s.masked_fill(~allowed, float("-inf")), dim=-1).to(v.dtype), v)
        return F.linear(merge_heads(y), self.o.weight.to(self.dtype)), (k.detach(), v.detach())

    def step(self, x, state):
        y, state = self.forward(x.unsqueeze(1), state)
        return y[:, 0], state
