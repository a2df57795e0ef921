"""Measures forecasts on the end of a series that no training has seen, a model's beside simple ones.

    python forecast.py ecg.csv --model ../../models/forecaster-hf

A converted model is measured by the same rule in three steps:

    python forecast.py ecg.csv --write-values part.npy
    moka logits ../../models/forecaster.moka --values part.npy -o numbers.npy
    python forecast.py ecg.csv --model ../../models/forecaster-hf --numbers numbers.npy

The series is cut at 80 % and 90 %: history to learn from, a part to choose settings by, and the test part.  Forecasts
start at fixed origins, every --every steps of the test part, and know everything up to there.  Errors are means over
all origins and all steps ahead.  The simple forecasts:

  last value   stays where it is
  seasonal     repeats the last period; the period is where the autocorrelation of the last 10 x 360 steps peaks
  analogue     finds the stretch of the past most like the last 128 steps and repeats what came after it
  linear       least squares from the last 512 steps to each step ahead, ridge penalty chosen on the middle part
  linear, L1   the same trained for the absolute error, as a model's median is
"""
import argparse
import json

import numpy as np
import torch

import folder
import parts

SHORTEST_PERIOD, LONGEST_PERIOD, RECENT = 90, 720, 3600
LAGS, ANALOGUE = 512, 128
BEFORE = 20 * 360


def read_series(path, column=0):
    """One column of a CSV file with a header line."""
    return np.loadtxt(path, delimiter=",", skiprows=1, ndmin=2, usecols=[column])[:, 0]


def parts_of(n):
    """Ends of the learning and the choosing part."""
    return n * 8 // 10, n * 9 // 10


def origins(start, end, horizon, every):
    """Last known steps of the forecasts that lie in [start, end)."""
    return np.arange(start - 1, end - horizon, every)


def futures(x, at, horizon):
    return x[np.asarray(at)[:, None] + 1 + np.arange(horizon)]


def last_value(x, at, horizon):
    return np.repeat(x[at][:, None], horizon, axis=1)


def seasonal(x, at, horizon):
    out = []
    for o in at:
        z = x[o + 1 - RECENT:o + 1] - x[o + 1 - RECENT:o + 1].mean()
        match = np.fft.irfft(np.abs(np.fft.rfft(z, 2 * RECENT)) ** 2)[:LONGEST_PERIOD + 1]
        match /= np.arange(RECENT, RECENT - LONGEST_PERIOD - 1, -1)         # every lag has another number of pairs
        period = SHORTEST_PERIOD + int(np.argmax(match[SHORTEST_PERIOD:]))
        out.append(x[o + 1 - period + np.arange(horizon) % period])
    return np.array(out)


def analogue(x, at, horizon):
    windows = np.lib.stride_tricks.sliding_window_view(x.astype(np.float32), ANALOGUE)      # window i ends at i + 127
    out = []
    for o in at:
        past = windows[:o + 1 - ANALOGUE + 1 - horizon]
        distance = ((past - windows[o + 1 - ANALOGUE]) ** 2).sum(1)
        end = int(np.argmin(distance)) + ANALOGUE - 1
        out.append(x[end + 1:end + 1 + horizon])
    return np.array(out)


def lagged(x, at):
    return np.concatenate([x[np.asarray(at)[:, None] - np.arange(LAGS)], np.ones((len(at), 1))], axis=1)


def linear(x, at, horizon, learn_end, choose_end, every):
    """Ridge regression; returns forecasts and weights (lags + 1, horizon)."""
    rows = np.arange(LAGS, learn_end - horizon)
    a = lagged(x, rows)
    left, right = a.T @ a, a.T @ futures(x, rows, horizon)
    choose = origins(learn_end, choose_end, horizon, every)
    best = None
    for penalty in 10.0 ** np.arange(-2, 5):
        weights = np.linalg.solve(left + penalty * np.diag([1.0] * LAGS + [0.0]), right)
        error = np.abs(lagged(x, choose) @ weights - futures(x, choose, horizon)).mean()
        if best is None or error < best[0]:
            best = (error, weights)
    return lagged(x, at) @ best[1], best[1]


def linear_l1(x, at, horizon, learn_end, weights, steps=1500, batch=2048, device="cpu"):
    """Goes on from the ridge weights, by Adam on the absolute error."""
    torch.manual_seed(1)
    series = torch.from_numpy(x).float().to(device)
    w = torch.from_numpy(weights).float().to(device).requires_grad_()
    adam = torch.optim.Adam([w], lr=1e-3)
    lags, ahead = torch.arange(LAGS, device=device), torch.arange(1, horizon + 1, device=device)
    for step in range(steps):
        rows = torch.randint(LAGS, learn_end - horizon, (batch,), device=device)[:, None]
        inputs = torch.cat([series[rows - lags], torch.ones(batch, 1, device=device)], dim=1)
        loss = (inputs @ w - series[rows + ahead]).abs().mean()
        adam.zero_grad()
        loss.backward()
        adam.param_groups[0]["lr"] = 1e-3 * (1 - step / steps)
        adam.step()
    return lagged(x, at) @ w.detach().double().cpu().numpy()


@torch.no_grad()
def stream(model, x, at, piece=4096):
    """Forecasts of a model that reads the whole series once: (origins, steps, quantiles)."""
    device = model.head.weight.device
    values = torch.from_numpy(np.asarray(x, np.float32)).to(device)[None, :, None]
    state, out = None, []
    for start in range(0, int(max(at)) + 1, piece):
        h, state = model.encode(values[:, start:start + piece], state)
        here = [o - start for o in at if start <= o < start + piece]
        out.append(parts.forecast(model.cfg, model.head(h[0, here])))
    return torch.cat(out)[:, :, 0].cpu().double().numpy()


def from_numbers(cfg, path, at, start):
    """The same from rows (1,T,numbers), in the units of the data, that `moka logits` computed of the series
    from step `start` on."""
    rows = np.load(path, mmap_mode="r")[0][at - start].astype(np.float64)
    return rows.reshape(len(at), cfg.forecast_steps, cfg.num_outputs, -1)[:, :, 0]


def score(got, want):
    return {"mae": float(np.abs(got - want).mean()), "rmse": float(np.sqrt(((got - want) ** 2).mean()))}


def score_quantiles(got, want, quantiles):
    """Of a model's band: share of values inside, mean width, and the errors of its median."""
    low, high = got[:, :, 0], got[:, :, -1]
    out = score(got[:, :, quantiles.index(0.5)], want)
    return {**out, "coverage": float(((want >= low) & (want <= high)).mean()), "width": float((high - low).mean())}


def simple_forecasts(x, at, a):
    learn, choose = parts_of(len(x))
    yield "last value", last_value(x, at, a.horizon)
    yield "seasonal", seasonal(x, at, a.horizon)
    yield "analogue", analogue(x, at, a.horizon)
    ridge, weights = linear(x, at, a.horizon, learn, choose, a.every)
    yield "linear", ridge
    yield "linear, L1", linear_l1(x, at, a.horizon, learn, weights, device=a.device)


def main():
    a = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    a.add_argument("series")
    a.add_argument("--model")
    a.add_argument("--only-model", action="store_true", help="leave the simple forecasts out")
    a.add_argument("--write-values", help="write the test part and the 20 x 360 steps before it as .npy and stop")
    a.add_argument("--numbers", help="what the model gave for those values, computed elsewhere")
    a.add_argument("--horizon", type=int, default=180)
    a.add_argument("--every", type=int, default=45, help="steps from one origin to the next")
    a.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    a = a.parse_args()
    x = read_series(a.series)
    _, choose = parts_of(len(x))
    start = choose - BEFORE
    if a.write_values:
        return np.save(a.write_values, x[start:].astype(np.float32)[None, :, None])
    at = origins(choose, len(x), a.horizon, a.every)
    want = futures(x, at, a.horizon)
    print(json.dumps({"steps": len(x), "test_from": choose, "origins": len(at), "horizon": a.horizon}))
    for name, got in () if a.only_model or a.numbers else simple_forecasts(x, at, a):
        print(json.dumps({"forecast": name, **score(got, want)}), flush=True)
    if a.model:
        model, cfg = folder.load(a.model, a.device)
        got = (from_numbers(cfg, a.numbers, at, start) if a.numbers else stream(model, x, at))[:, :a.horizon]
        print(json.dumps({"forecast": a.model, **score_quantiles(got, want, cfg.quantiles)}))


if __name__ == "__main__":
    main()
