"""Checks of the reference: all forms of a model agree, training resumes, files are read back.  Run with pytest."""
import itertools
import os
import subprocess
import sys

import numpy as np
import pytest
import torch

import data
import evaluate
import folder
from config import LatteConfig
from latte import LatteModel
from make_fixtures import CASES, BYTES, randomise

HERE = os.path.dirname(os.path.abspath(__file__))


def model_of(name, dtype=torch.float64):
    model = LatteModel(LatteConfig.from_dict({**BYTES, **CASES[name][0]})).eval()
    randomise(model, torch.Generator().manual_seed(5))
    return model.double() if dtype == torch.float64 else model


def by_steps(model, ids, state=None):
    out = []
    for t in range(ids.shape[1]):
        logits, state = model.step(ids[:, t], state)
        out.append(logits)
    return torch.stack(out, dim=1), state


def close(a, b, limit):
    assert (a - b).abs().max().item() <= limit * max(1.0, b.abs().max().item())


@torch.no_grad()
@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("dtype,limit", [(torch.float64, 1e-9), (torch.float32, 1e-4)])
def test_chunks_equal_steps(name, dtype, limit):
    model = model_of(name, dtype)
    ids = torch.randint(0, 256, (2, 45), generator=torch.Generator().manual_seed(1))
    want, end = by_steps(model, ids)
    for chunk in (1, 4, 64):
        got, state = model.configure(chunk=chunk)(ids)
        close(got, want, limit)
        close(state["layers"][0][1], end["layers"][0][1], limit)


@torch.no_grad()
@pytest.mark.parametrize("name", CASES)
def test_any_split_gives_the_same(name):
    model = model_of(name).configure(chunk=8)
    ids = torch.randint(0, 256, (2, 45), generator=torch.Generator().manual_seed(2))
    want = model(ids)[0]
    for cuts in ([1, 2, 3, 39], [20, 25], [7] * 6 + [3]):
        state, got = None, []
        for n in cuts:
            at = sum(z.shape[1] for z in got)
            logits, state = model(ids[:, at:at + n], state)
            got.append(logits)
        close(torch.cat(got, dim=1), want, 1e-9)


@torch.no_grad()
def test_climbing_keys_are_guarded():
    model = model_of("macchiato_width43_tied", torch.float32)
    for b in model.blocks:
        b.mixer.k.weight *= 60.0                    # keys that differ by hundreds overflow an unguarded chunk
    ids = torch.randint(0, 256, (1, 60), generator=torch.Generator().manual_seed(3))
    got = model(ids)[0]
    assert torch.isfinite(got).all()
    close(got, by_steps(model, ids)[0], 2e-4)


@torch.no_grad()
def test_forgetting_rows():
    model = model_of("macchiato_conv_interleaved")
    ids = torch.randint(0, 256, (2, 30), generator=torch.Generator().manual_seed(4))
    state = model.reset_rows(model(ids)[1], torch.tensor([True, False]))
    got = model(ids, state)[0]
    close(got[0], model(ids)[0][0], 1e-9)
    close(got[1], model(torch.cat([ids, ids], dim=1))[0][1, 30:], 1e-9)


@torch.no_grad()
def test_standard_attention_streams():
    cfg = LatteConfig(260, 48, 2, 3, 48, mixer="standard_causal", intermediate_size=64)
    model = LatteModel(cfg)
    randomise(model, torch.Generator().manual_seed(6))
    model = model.eval().double()
    ids = torch.randint(0, 256, (2, 20), generator=torch.Generator().manual_seed(7))
    close(by_steps(model, ids)[0], model(ids)[0], 1e-9)


@torch.no_grad()
def test_folder_round_trip(tmp_path):
    model = model_of("macchiato_gelu_offset", torch.float32)
    folder.save(model, str(tmp_path))
    again, cfg = folder.load(str(tmp_path))
    assert cfg == model.cfg
    ids = torch.arange(20)[None]
    assert torch.equal(model(ids)[0], again(ids)[0])
    with pytest.raises(ValueError, match="unknown keys"):
        LatteConfig.from_dict({**cfg.to_dict(), "n_kv_heads": 2})


def test_gradients_survive_steep_keys():
    """Keys that climb by 130 inside a chunk, in float32 and without the guard, as in compiled training."""
    model = model_of("macchiato_width43_tied", torch.float32).configure(guarded=False, chunk=16)
    exact = model_of("macchiato_width43_tied")
    ids = torch.randint(0, 256, (1, 16), generator=torch.Generator().manual_seed(9))
    for m in (model, exact):
        for b in m.blocks:
            b.mixer.k.weight.data *= 18.0
        m(ids)[0].pow(2).mean().backward()
    exact.configure(guarded=True)(ids)
    assert 100 < max(exact.blocks[0].mixer.climbs) < 160
    for (n, p), (_, q) in zip(model.named_parameters(), exact.named_parameters()):
        assert (p.grad - q.grad).norm() <= 1e-3 * q.grad.norm(), n


def test_gradients_of_the_chunk_form():
    """The levels used inside the scan are held constant in the backward pass: check that nothing is lost by it."""
    model = model_of("macchiato_conv_interleaved").configure(chunk=4)
    ids = torch.randint(0, 256, (1, 13), generator=torch.Generator().manual_seed(8))
    model(ids)[0].pow(2).sum().backward()
    want = {n: p.grad.clone() for n, p in model.named_parameters()}
    model.zero_grad()
    by_steps(model, ids)[0].pow(2).sum().backward()
    for n, p in model.named_parameters():
        close(p.grad, want[n], 1e-8)


def test_documents():
    assert data.split_documents("a\nb\n<|endoftext|>\nc\n<|endoftext|>\nd") == ["a\nb\n", "c\n", "d"]


def test_loader_reads_every_token_once_per_epoch():
    ids = [np.arange(1, n + 1, dtype=np.uint16) for n in (3, 8, 9, 20)]
    loader = data.StreamLoader(ids, 0, batch=2, length=8, seed=1)
    seen = np.zeros(len(loader.flat), dtype=int)
    for _ in range(100):
        at, valid, fresh = loader.next()
        for i, n in zip(at, valid):
            seen[i:i + n] += 1
        assert all(f == (i in loader.start) for i, f in zip(at, fresh))
    assert seen[-1] == 0 and seen[:-1].max() - seen[:-1].min() <= 4 and seen[:-1].min() > 5


@torch.no_grad()
def test_evaluation_modes():
    model = model_of("macchiato_width43_tied", torch.float32)
    rng = np.random.default_rng(1)
    ids = [rng.integers(0, 256, n).astype(np.uint16) for n in (70, 5, 33)]
    total, nats = 0, 0.0
    for d in ids:
        seq = torch.from_numpy(np.concatenate([[256], d, [256]]).astype(np.int64))[None]
        logp = torch.log_softmax(model(seq[:, :-1])[0].double(), dim=-1)
        nats -= logp.gather(2, seq[:, 1:, None]).sum().item()
        total += seq.shape[1] - 1
    rows = evaluate.pieces_of(ids, 256, None)
    got, tokens = evaluate.negative_log_likelihood(model, rows, chunk=16, batch=2)
    assert tokens == total and abs(got - nats) < 1e-3 * nats
    for length, stride in itertools.product((16, 32), (None, 8)):
        assert evaluate.negative_log_likelihood(model, evaluate.pieces_of(ids, 256, length, stride))[1] == total


def test_training_learns_and_resumes(tmp_path):
    text = tmp_path / "text.txt"
    text.write_text("the cat sat on the mat. " * 40 + "\n<|endoftext|>\n" + "a dog ran to the log. " * 30 + "\n")
    shape = ["--tokenizer", "bytes", "--width", "32", "--layers", "2", "--heads", "2", "--latents", "16", "--ff", "48",
             "--window", "8", "--batch", "2", "--length", "64", "--warmup", "5", "--device", "cpu",
             "--save-every", "10", "--valid", str(text), "--data", str(text)]

    def run(out, *more):
        subprocess.run([sys.executable, os.path.join(HERE, "train.py"), "--out", str(out), *shape, *more], check=True)
        weights = folder.read_safetensors(os.path.join(str(out), "model.safetensors"))
        return weights, (out / "training_log.jsonl").read_text()

    _, log = run(tmp_path / "a", "--steps", "60", "--hold", "0.9")
    bits = [line for line in log.splitlines() if "valid_stream" in line]
    assert float(bits[-1].split('"valid_stream": ')[1].split(",")[0]) < 2.5
    run(tmp_path / "b", "--steps", "20", "--hold", "1", "--dropout", "0.2")
    whole, _ = run(tmp_path / "c", "--steps", "30", "--hold", "1", "--dropout", "0.2")
    resumed, _ = run(tmp_path / "b", "--steps", "30", "--hold", "1", "--dropout", "0.2", "--resume")
    for name in whole:
        assert np.array_equal(whole[name], resumed[name])
