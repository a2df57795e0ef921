"""Optimiser: Muon for the matrices inside the blocks, AdamW for embeddings, norms and other vectors.

Muon replaces a matrix's momentum M by the nearest orthogonal matrix before the step, which spends the step evenly
over all directions instead of on the few largest.  On this corpus, read many times over, it learns more per epoch
than AdamW.  The orthogonal factor comes from a few Newton-Schulz steps, exact enough for a gradient step.
"""
import torch


def orthogonal(m, steps=5):
    """Approximate U V^T of M = U S V^T, batched over the first axis."""
    a, b, c = 3.4445, -4.7750, 2.0315
    x = m.bfloat16() if m.is_cuda else m.float()
    tall = x.shape[-2] > x.shape[-1]
    x = x.transpose(-1, -2) if tall else x
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(steps):
        g = x @ x.transpose(-1, -2)
        x = a * x + (b * g + c * (g @ g)) @ x
    return x.transpose(-1, -2) if tall else x


class Muon(torch.optim.Optimizer):
    def __init__(self, params, lr, momentum=0.95, weight_decay=0.0):
        super().__init__(params, dict(lr=lr, momentum=momentum, weight_decay=weight_decay))

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            same = {}                                   # matrices of one shape go through the iteration together
            for p in group["params"]:
                if p.grad is not None:
                    same.setdefault(tuple(p.shape), []).append(p)
            for shape, params in same.items():
                for p in params:
                    if "m" not in self.state[p]:
                        self.state[p]["m"] = torch.zeros_like(p)
                momenta = [self.state[p]["m"] for p in params]
                grads = [p.grad for p in params]
                mu = group["momentum"]
                torch._foreach_mul_(momenta, mu)
                torch._foreach_add_(momenta, grads, alpha=1 - mu)
                # Nesterov: look one momentum step ahead.
                ahead = torch._foreach_add(torch._foreach_mul(momenta, mu), grads, alpha=1 - mu)
                u = orthogonal(torch.stack(ahead)).to(params[0].dtype)
                scale = max(1.0, shape[0] / shape[1]) ** 0.5
                torch._foreach_mul_(params, 1 - group["lr"] * group["weight_decay"])
                torch._foreach_add_(params, list(u.unbind(0)), alpha=-group["lr"] * scale)


def build(model, kind, lr, muon_lr, weight_decay, muon_decay, key_decay):
    """Optimisers with `base` learning rates noted, for a schedule to multiply."""
    matrices, keys, rest, plain = [], [], [], []
    for name, p in model.named_parameters():
        inside = name.startswith("blocks.") and p.dim() == 2 and "conv1d" not in name
        narrow = ".mixer.gate." in name                 # a handful of rows: orthogonality means little there
        if inside and not narrow and kind == "muon":
            (keys if name.endswith("mixer.k.weight") else matrices).append(p)
        elif p.dim() == 2 and "conv1d" not in name:
            rest.append(p)
        else:
            plain.append(p)                             # norms, biases, convolution: no weight decay
    on_gpu = next(model.parameters()).is_cuda
    groups = [dict(params=rest, weight_decay=weight_decay), dict(params=plain, weight_decay=0.0)]
    optimisers = [torch.optim.AdamW(groups, lr=lr, betas=(0.9, 0.95), eps=1e-8, **({"fused": True} if on_gpu else {}))]
    if matrices:
        optimisers.append(Muon([dict(params=matrices, weight_decay=muon_decay),
                                dict(params=keys, weight_decay=key_decay)], lr=muon_lr))
    for o in optimisers:
        for g in o.param_groups:
            g["base"] = g["lr"]
    return optimisers
