"""What stands before and behind the blocks: inputs, pooling, heads, and the loss of quantiles."""
import torch
import torch.nn as nn
import torch.nn.functional as F

from mixers import wide


class Norm(nn.Module):
    def __init__(self, cfg, kind=None, eps=None):
        super().__init__()
        kind = kind or cfg.norm
        self.eps = cfg.norm_eps if eps is None else eps
        self.offset = 1.0 if cfg.unit_offset and kind == "rmsnorm" else 0.0
        self.weight = nn.Parameter(torch.full((cfg.hidden_size,), 1.0 - self.offset))
        if kind == "layernorm":
            self.bias = nn.Parameter(torch.zeros(cfg.hidden_size))

    def forward(self, x):
        x = wide(x)
        if hasattr(self, "bias"):
            return F.layer_norm(x, x.shape[-1:], self.weight, self.bias, self.eps)
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.eps) * (self.weight + self.offset)


class ConvEmbedding(nn.Module):
    """Four 3x3 convolutions over an image, no activation between them, then LayerNorm."""

    def __init__(self, cfg, channels=(24, 48, 96)):
        super().__init__()
        sizes = (1, *channels, cfg.hidden_size)
        self.width, self.height = cfg.image_size
        self.conv = nn.ModuleList(nn.Conv2d(a, b, 3, padding=1) for a, b in zip(sizes, sizes[1:]))
        self.norm = Norm(cfg, "layernorm", 1e-6)

    def forward(self, x):
        """(B, height * width, 1), row by row -> (B, height * width, D)."""
        x = x.transpose(1, 2).reshape(x.shape[0], 1, self.height, self.width)
        for layer in self.conv:
            x = layer(x)
        return self.norm(x.flatten(2).transpose(1, 2))


def make_input(cfg):
    if cfg.input == "tokens":
        return nn.Embedding(cfg.vocab_size, cfg.hidden_size)
    if cfg.input == "pixels_conv":
        return ConvEmbedding(cfg)
    return nn.Linear(cfg.num_features if cfg.input == "values" else 1, cfg.hidden_size)


def embed(cfg, layer, x):
    """Ids (B,T), or numbers (B,T,features), pixels with one feature -> (B,T,D), at least float32."""
    if cfg.input == "tokens":
        return wide(F.embedding(x, layer.weight))
    x = wide(x)
    mean, deviation = (torch.tensor(z, dtype=x.dtype, device=x.device) for z in (cfg.input_mean, cfg.input_deviation))
    return layer((x - mean) / deviation)


def pool(x, mask, how):
    """One vector per sequence: x (B,T,D), mask (B,T) true at real tokens or None -> (B,D).  Pads are a suffix."""
    if how == "first":
        return x[:, 0]
    if mask is None:
        return x.mean(1) if how == "mean" else x[:, -1]
    if how == "mean":
        weight = mask.to(x.dtype).unsqueeze(-1)
        return (x * weight).sum(1) / weight.sum(1)
    first_pad = (~mask).to(torch.int64).argmax(1)               # 0 where there is none, and where all are pads
    last = torch.where(first_pad > 0, first_pad - 1, torch.full_like(first_pad, x.shape[1] - 1))
    return x[torch.arange(len(x), device=x.device), last]


def pair_features(u, v):
    return torch.cat([u, v, u - v, u * v], dim=-1)


def forecast(cfg, numbers):
    """Numbers of a regression head (B,T,n) -> values (B,T,forecast_steps,num_outputs,quantiles or 1)."""
    rows = numbers.unflatten(-1, (cfg.forecast_steps, cfg.num_outputs, max(1, len(cfg.quantiles or ()))))
    mean, deviation = (torch.tensor(z, dtype=rows.dtype, device=rows.device).unsqueeze(-1)
                       for z in (cfg.output_mean, cfg.output_deviation))
    return mean + deviation * rows


def pinball(got, want, quantiles):
    """Loss whose least is at the quantiles: got (...,quantiles), want (...)."""
    q = torch.tensor(quantiles, dtype=got.dtype, device=got.device)
    miss = want.unsqueeze(-1) - got
    return torch.maximum(q * miss, (q - 1) * miss)
