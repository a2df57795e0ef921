"""Writes tiny random checkpoints with their logits: what a converter and a runtime are compared with.

    python make_fixtures.py ../../tests/data/hf

Each folder holds config.json, model.safetensors, ids.npy (B,T) int32 and logits.npy (B,T,V) float32, computed in
float64 from the stored float32 weights.  The vocabulary is the 256 bytes and four special ids; no tokenizer file.
"""
import os
import sys

import numpy as np
import torch

import folder
from config import LatteConfig
from latte import LatteModel

BYTES = dict(vocab_size=260, pad_token_id=256, bos_token_id=258, eos_token_id=259)
CASES = {
    # name: (configuration, sequences, tokens)
    "transformer_pre_latte": (dict(
        hidden_size=48, num_hidden_layers=1, num_attention_heads=3, num_latents=24, block_type="transformer",
        mixer="latte_causal", norm="layernorm", hidden_act="gelu_tanh", positions="sinusoidal",
        max_position_embeddings=256, tie_word_embeddings=False, head_bias=True), 2, 24),
    "glu_post_latte": (dict(
        hidden_size=40, num_hidden_layers=2, num_attention_heads=4, num_latents=20, block_type="glu",
        mixer="latte_causal", prenorm=False, norm="layernorm", hidden_act="gelu_tanh", positions="sinusoidal",
        max_position_embeddings=256, positions_fp32_angles=True, tie_word_embeddings=False, head_bias=True), 2, 24),
    "macchiato_width43_tied": (dict(
        hidden_size=86, num_hidden_layers=1, num_attention_heads=2, num_latents=20, intermediate_size=32,
        window=7), 2, 16),
    "macchiato_gelu_offset": (dict(
        hidden_size=48, num_hidden_layers=2, num_attention_heads=3, num_latents=24, intermediate_size=40,
        hidden_act="gelu_tanh", unit_offset=True, window=5, window_extent="w+1", rope_theta=None, logit_softcap=4.0,
        score_scale=0.7, key_eps=1e-3, local_scale=0.3, norm_eps=1e-5, tie_word_embeddings=False), 2, 24),
    "macchiato_conv_interleaved": (dict(
        hidden_size=48, num_hidden_layers=2, num_attention_heads=3, num_latents=48, intermediate_size=48, window=8,
        rope_style="interleaved", rope_theta=500.0, recurrent="conv", recurrent_feeds="qkv",
        local_input="recurrent"), 2, 24),
}


def randomise(model, generator):
    """Weights of a size that makes every part of the model matter in the logits."""
    for name, p in model.named_parameters():
        noise = torch.randn(p.shape, generator=generator)
        if "norm" in name:
            p.data += 0.2 * noise
        elif "conv1d" in name:
            p.data = 0.5 * noise
        elif name == "embed.weight":
            p.data = (0.3 if model.cfg.tie_word_embeddings else 1.0) * noise
        elif p.dim() == 2:
            gain = 2.0 if name.endswith(("q.weight", "k.weight")) else 1.0      # sharp softmaxes
            p.data = gain * noise / p.shape[1] ** 0.5
        else:
            p.data = 0.1 * noise


def main(root):
    for seed, (name, (values, batch, tokens)) in enumerate(CASES.items()):
        g = torch.Generator().manual_seed(1000 + seed)
        model = LatteModel(LatteConfig.from_dict({**BYTES, **values})).eval()
        randomise(model, g)
        ids = torch.randint(0, 256, (batch, tokens), generator=g)
        path = os.path.join(root, name)
        folder.save(model, path)
        model = folder.load(path)[0].double()
        with torch.no_grad():
            logits = model(ids)[0]
        np.save(os.path.join(path, "ids.npy"), ids.numpy().astype(np.int32))
        np.save(os.path.join(path, "logits.npy"), logits.numpy().astype(np.float32))
        size = sum(os.path.getsize(os.path.join(path, f)) for f in os.listdir(path))
        print(f"{name}: {size} bytes, logits std {logits.std():.3f}, max {logits.abs().max():.3f}")


if __name__ == "__main__":
    main(sys.argv[1])
