"""Checks of what is not a plain language model: golden cases, masks, cross reading, heads, the small trainers."""
import glob
import json
import os
import random
import subprocess
import sys

import numpy as np
import pytest
import torch

import folder
import forecast
import golden
import listops
import parts
from bidirectional import BidirectionalLatte, Linformer
from config import LatteConfig
from latte import Block, LatteModel, MIXERS
from mixers import StandardAttention
from test_latte import by_steps, close

HERE = os.path.dirname(os.path.abspath(__file__))
GOLDEN = os.path.join(HERE, "..", "..", "tests", "data", "golden")
CASES = {os.path.basename(f)[:-5]: golden.read_case(f) for f in sorted(glob.glob(os.path.join(GOLDEN, "*.json")))}
NEEDS_MORE = ("lm_macchiato_rms",)              # its RG-LRU is not part of this reference
WHOLE = ("lm", "classifier", "retrieval", "cross", "regression", "embedding")
MODELS = [n for n, c in CASES.items() if c["kind"] in WHOLE and n not in NEEDS_MORE]


def inputs_of(case):
    return {k: torch.from_numpy(golden.array(t)) for k, t in case["inputs"].items()}


def agree(case, got):
    for key, want in case["expected"].items():
        if key in got:
            close(got[key], torch.from_numpy(golden.array(want)), 1e-9)


def sized(case, **more):
    """Configuration of a mixer or block case."""
    config = {**case["config"], "task": "lm", "embed": "token", "vocab": 1, "layers": 1,
              "D": case["inputs"]["x"]["shape"][2], **more}
    return golden.config_of({**case, "config": config})


@pytest.mark.parametrize("name", MODELS)
def test_golden_models(name):
    agree(CASES[name], golden.outputs(golden.model_of(CASES[name]), inputs_of(CASES[name])))


@torch.no_grad()
@pytest.mark.parametrize("name", [n for n, c in CASES.items() if c["kind"] == "block" and "batchnorm" not in n])
def test_golden_blocks(name):
    case = CASES[name]
    cfg = sized(case)
    block = golden.put_weights(Block(cfg, cfg.mixer, False), case, cfg).double()
    block.mixer.dtype = torch.float64
    x = inputs_of(case)["x"].double()
    agree(case, {"y": block(x, block.mixer.initial_state(len(x), None, torch.float64))[0]})


@torch.no_grad()
def test_golden_bidirectional_layer():
    case = CASES["latte_bid_mask"]
    mixer = BidirectionalLatte(sized(case, mixer="latte_causal")).double()
    mixer.dtype = torch.float64
    for name in "qkvo":
        getattr(mixer, name).weight.data = torch.from_numpy(golden.array(case["weights"]["W" + name]).T).double()
    given = inputs_of(case)
    agree(case, {"y": mixer(given["x"].double(), (), given["mask"] > 0)[0]})


@torch.no_grad()
def test_golden_baselines():
    case = CASES["baseline_standard_causal"]
    w = {k: torch.from_numpy(golden.array(t)).double() for k, t in case["weights"].items()}
    mixer = StandardAttention(sized(case, L=2)).double()
    mixer.dtype = torch.float64
    for layer, weight in zip((mixer.q, mixer.k, mixer.v, mixer.o), (*w["Wqkv"].chunk(3, 1), w["Wo"])):
        layer.weight.data = weight.T
    x = inputs_of(case)["x"].double()
    agree(case, {"y": mixer(x, mixer.initial_state(2, None, torch.float64))[0]})

    case = CASES["baseline_linformer_mask"]
    w = {k: torch.from_numpy(golden.array(t)).double() for k, t in case["weights"].items()}
    mixer = Linformer(sized(case, mixer="latte_causal", L=4)).double()
    mixer.dtype = torch.float64
    mixer.low_rank_k.data, mixer.low_rank_v.data = w["low_rank_E"], w["low_rank_V"]
    for layer, weight, bias in zip((mixer.q, mixer.k, mixer.v), w["W.kernel"].chunk(3, 1), w["W.bias"].chunk(3)):
        layer.weight.data, layer.bias.data = weight.T, bias
    mixer.o.weight.data, mixer.o.bias.data = w["o_proj.kernel"].T, w["o_proj.bias"]
    given = inputs_of(case)
    agree(case, {"y": mixer(given["x"].double(), (), given["mask"] > 0)[0]})


def test_golden_cases_are_written_again_bit_for_bit(tmp_path):
    for number, made in enumerate(golden.make_cases()):
        golden.write_case(str(tmp_path), 2001 + number, *made)
        again, kept = golden.read_case(str(tmp_path / (made[1] + ".json"))), CASES[made[1]]
        assert {**again, "expected": 0} == {**kept, "expected": 0}
        agree(kept, {k: torch.from_numpy(golden.array(t)) for k, t in again["expected"].items()})


@torch.no_grad()
@pytest.mark.parametrize("name", [n for n, c in CASES.items() if c["kind"] == "cross"])
def test_asking_a_memory_step_by_step(name):
    case = CASES[name]
    model, given = golden.model_of(case), inputs_of(case)
    got, _ = by_steps(model, given["ids"], model.read(given["memory_ids"]))
    agree(case, {"logits": got})
    first, state = model(given["ids"][:, :4], model.read(given["memory_ids"]))
    agree(case, {"logits": torch.cat([first, model(given["ids"][:, 4:], state)[0]], dim=1)})


@torch.no_grad()
def test_pads_of_a_memory_are_not_read():
    case = dict(CASES["cross_bid_transformer_pre"])
    case["config"] = {**case["config"], "pad_id": 14}
    model, given = golden.model_of(case), inputs_of(case)
    memory = given["memory_ids"].clamp(max=13)
    padded = torch.cat([memory, torch.full((2, 3), 14)], dim=1)
    close(model(given["ids"], model.read(padded))[0], model(given["ids"], model.read(memory))[0], 1e-12)


@torch.no_grad()
def test_empty_sequences_and_extreme_pads():
    mixer = BidirectionalLatte(LatteConfig(9, 8, 1, 2, 4, head="none", mixer="latte_bid"))
    x = torch.randn(2, 6, 8, generator=torch.Generator().manual_seed(1))
    mask = torch.tensor([[True] * 4 + [False] * 2, [False] * 6])
    x[:, 4:] *= 1e4                                     # pads with keys far above the real ones
    latents = mixer.read(x, mask)
    close(latents[:1], mixer.read(x[:1, :4]), 1e-6)
    assert torch.equal(latents[1], torch.zeros_like(latents[1]))


@torch.no_grad()
def test_shared_layers_have_one_set_of_tensors(tmp_path):
    model = golden.model_of(CASES["lm_shared_layers"]).float().configure(compute_dtype=torch.float32)
    folder.save(model, str(tmp_path))
    names = folder.read_safetensors(str(tmp_path / "model.safetensors"))
    assert {n.split(".")[1] for n in names if n.startswith("blocks.")} == {"0", "2"}
    ids = torch.arange(9)[None]
    close(folder.load(str(tmp_path))[0](ids)[0], model(ids)[0], 1e-5)


@pytest.mark.parametrize("name", [n for n in MODELS if "pixels_conv" not in n])
def test_folders_of_every_kind(name, tmp_path):
    model = golden.model_of(CASES[name]).float()
    folder.save(model, str(tmp_path))
    again, cfg = folder.load(str(tmp_path))
    assert cfg == model.cfg
    for (n, p), (m, q) in zip(model.named_parameters(), again.named_parameters()):
        assert n == m and torch.equal(p, q)


@pytest.mark.parametrize("change,message", [
    (dict(mixer="latte_bid"), "sees its own labels"), (dict(shared_layers=[0]), "shared_layers"),
    (dict(shared_layers=[1, 1]), "shared_layers"), (dict(head="classifier"), "num_labels"),
    (dict(head="regression"), "num_outputs"), (dict(input="values"), "num_features"),
    (dict(num_memory_layers=1, recurrent="conv"), "no memory encoder"),
    (dict(mixer="window", recurrent="conv"), "recurrent"),
    (dict(head="classifier", num_labels=2, labels=["a"]), "labels"), (dict(mixer="scan_latte"), "expected one of")])
def test_refusals(change, message):
    with pytest.raises(ValueError, match=message):
        LatteConfig(**{**dict(vocab_size=5, hidden_size=8, num_hidden_layers=2, num_attention_heads=2, num_latents=4),
                       **change})


def test_pooling():
    x = torch.arange(24.0).view(3, 4, 2)
    mask = torch.tensor([[True] * 4, [True, True, False, False], [False] * 4])
    assert parts.pool(x, mask, "last")[:, 0].tolist() == [6.0, 10.0, 22.0]
    assert parts.pool(x, mask, "mean")[:2, 0].tolist() == [3.0, 9.0]
    assert parts.pool(x, None, "last")[:, 0].tolist() == [6.0, 14.0, 22.0]


def test_pinball_is_least_at_the_quantiles():
    values = torch.arange(101.0)
    for q in (0.1, 0.5, 0.9):
        losses = [parts.pinball(torch.full((101, 1), float(z)), values, [q]).mean().item() for z in range(101)]
        assert int(np.argmin(losses)) == round(100 * q)


def test_window_mixer_equals_attention_while_the_window_is_not_full():
    cfg = LatteConfig(5, 8, 1, 2, 4, mixer="window", rope_theta=None, window=16)
    local, full = (MIXERS[n](cfg).double() for n in ("window", "standard_causal"))
    for a, b in (("local_q", "q"), ("local_k", "k"), ("v", "v"), ("o", "o")):
        getattr(full, b).weight.data = getattr(local, a).weight.data
    local.dtype = full.dtype = torch.float64
    x = torch.randn(2, 12, 8, dtype=torch.float64)
    got, want = (m(x, m.initial_state(2, None, torch.float64))[0] for m in (local, full))
    close(got, want, 1e-12)


def value_of(words):
    """Evaluates an expression's text by a stack of its own."""
    stack = [[]]
    for word in words.split():
        if word == "]":
            operator, *values = stack.pop()
            stack[-1].append({"[MIN": min, "[MAX": max, "[SM": lambda v: sum(v) % 10,
                              "[MED": lambda v: int(np.median(v))}[operator](values))
            assert 2 <= len(values) <= 10
        elif word[0] == "[":
            stack.append([word])
            assert len(stack) <= 10
        else:
            stack[-1].append(int(word))
    assert len(stack) == 1 and len(stack[0]) == 1
    return stack[0][0]


def test_listops():
    made = subprocess.run([sys.executable, os.path.join(HERE, "listops.py"), "--count", "200", "--seed", "5"],
                          check=True, capture_output=True, text=True).stdout.splitlines()
    rows = [json.loads(line) for line in made]
    assert len(rows) == 200
    for row in rows:
        assert str(value_of(row["text"])) == row["label"] and 501 <= len(row["text"].split()) <= 1999
    assert made[0].startswith('{"text": "[MED 3 [SM [MED 9 3 [SM 7 8 [MAX ')       # the same with every Python
    rng = random.Random(5)
    words, values, result = listops.expression(rng)
    assert values[0] == values[-1] == result == int(rows[0]["label"])
    for at, word in enumerate(words):                   # every bracket knows the value of what it opens or closes
        if word == listops.CLOSE:
            depth, start = 0, at
            while True:
                depth += (words[start] == listops.CLOSE) - (10 <= words[start] < listops.CLOSE)
                if depth == 0:
                    break
                start -= 1
            text = " ".join("]" if w == listops.CLOSE else listops.WORDS[w] for w in words[start:at + 1])
            assert values[at] == values[start] == value_of(text)


def test_simple_forecasts():
    t = np.arange(9000)
    x = np.sin(2 * np.pi * t / 200)
    at = forecast.origins(8100, 9000, 180, 45)
    assert at[0] == 8099 and at[-1] + 180 <= 8999
    want = forecast.futures(x, at, 180)
    assert want[0, 0] == x[8100]
    ridge, _ = forecast.linear(x, at, 180, 7200, 8100, 45)
    for got in (forecast.seasonal(x, at, 180), forecast.analogue(x, at, 180), ridge):
        assert np.abs(got - want).max() < 1e-2
    changed = x.copy()
    changed[8500:] += 100.0                             # nothing may look past its origin
    early = at[at < 8500]
    for f in (forecast.last_value, forecast.seasonal, forecast.analogue):
        assert np.array_equal(f(x, early, 180), f(changed, early, 180))


def test_small_trainers(tmp_path):
    t = np.arange(9000)
    series = tmp_path / "wave.csv"
    np.savetxt(series, np.sin(2 * np.pi * t / 40) + 3.0, header="wave", comments="")
    small = ["--width", "32", "--layers", "1", "--heads", "2", "--latents", "8", "--ff", "48", "--warmup", "5",
             "--device", "cpu", "--log-every", "50"]

    def run(script, *more):
        subprocess.run([sys.executable, os.path.join(HERE, script), *small, *more], check=True)

    out = str(tmp_path / "wave")
    run("train_forecast.py", str(series), "--out", out, "--horizon", "20", "--window", "16", "--batch", "4", "--length",
        "128", "--steps", "150", "--check-every", "50", "--stretch", "0", "--gain", "0")
    model, cfg = folder.load(out)
    at = forecast.origins(8100, 9000, 20, 45)
    x = forecast.read_series(str(series))
    got = forecast.score_quantiles(forecast.stream(model, x, at, 1000), forecast.futures(x, at, 20), cfg.quantiles)
    assert got["mae"] < 0.3                             # a last value is 0.8 off on average
    close(torch.from_numpy(forecast.stream(model, x, at[:2], piece=8200)),
          torch.from_numpy(forecast.stream(model, x, at[:2], piece=77)), 1e-4)

    out = str(tmp_path / "listops")
    run("train_listops.py", "--out", out, "--block", "rms_swiglu", "--tokens", "4096", "--workers", "1", "--steps", "2",
        "--test-count", "8")
    assert folder.load(out)[1].labels[9] == "9"
    with open(os.path.join(out, "tokenizer.json")) as f:
        assert json.load(f)["tokens"]["[MIN"] == 14
