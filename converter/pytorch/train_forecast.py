"""Trains a forecaster of one series that reads step by step; README.md has the recipe of the shipped model.

    python train_forecast.py ecg.csv --out ../../models/forecaster-hf --max-seconds 300

At every step the model says how the next --horizon steps will go, in quantiles.  Training sees the first 80 % of the
series only, stretched in time and height, in rows that go on where the last step stopped.  The next
10 % choose which of the weights met on the way are kept; forecast.py measures on the rest.
"""
import argparse
import os

import numpy as np
import torch

import fit
import folder
import forecast
import parts
from config import LatteConfig
from latte import LatteModel, parameter_count


def arguments():
    a = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    a.add_argument("series", help="CSV file with a header line; its first column is read")
    fit.add_arguments(a)
    a.add_argument("--horizon", type=int, default=180)
    a.add_argument("--quantiles", type=float, nargs="+", default=[0.1, 0.5, 0.9])
    a.add_argument("--mixer", default="macchiato", choices=["macchiato", "latte_causal"])
    a.add_argument("--width", type=int, default=96)
    a.add_argument("--layers", type=int, default=4)
    a.add_argument("--heads", type=int, default=4)
    a.add_argument("--latents", type=int, default=48)
    a.add_argument("--ff", type=int, default=256)
    a.add_argument("--window", type=int, default=128)
    a.add_argument("--batch", type=int, default=32, help="rows")
    a.add_argument("--length", type=int, default=1024, help="steps of a row that are read at once")
    a.add_argument("--forget", type=float, default=0.05, help="chance per batch that a row begins elsewhere")
    a.add_argument("--stretch", type=float, default=0.15, help="largest stretch in time, as a logarithm")
    a.add_argument("--gain", type=float, default=0.2, help="spread of the stretch in height, as a logarithm")
    a.add_argument("--check-every", type=int, default=400, help="steps between looks at the choosing part")
    return a.parse_args()


class Rows:
    """Rows of the learning part, each with a stretch in time and height of its own, on the device."""

    def __init__(self, x, a):
        self.x = torch.from_numpy(x).float().to(a.device)
        self.a, self.middle = a, float(x.mean())
        self.at, self.rate, self.gain = (torch.full((a.batch,), z, device=a.device) for z in (1e9, 1.0, 1.0))
        self.offset = torch.arange(a.length + a.horizon, device=a.device)

    def next(self):
        """Inputs (B,length,1), what follows each (B,length,horizon), and the rows that begin anew (B,)."""
        a, n = self.a, len(self.x)
        need = self.offset[-1] * self.rate + 2
        fresh = (self.at + need >= n) | (torch.rand_like(self.at) < a.forget)
        rate = torch.exp((2 * torch.rand_like(self.at) - 1) * a.stretch)
        rate = torch.where(torch.rand_like(rate) < 0.25, torch.ones_like(rate), rate)
        self.rate = torch.where(fresh, rate, self.rate)
        self.gain = torch.where(fresh, torch.exp(torch.randn_like(rate) * a.gain), self.gain)
        room = n - (self.offset[-1] * self.rate + 2)
        self.at = torch.where(fresh, (torch.rand_like(self.at) * room).floor(), self.at)
        place = self.at.double()[:, None] + self.offset * self.rate.double()[:, None]
        low = place.long()
        share = (place - low).float()
        row = self.x[low] * (1 - share) + self.x[low + 1] * share
        row = (row - self.middle) * self.gain[:, None] + self.middle
        self.at = self.at + a.length * self.rate
        return row[:, :a.length, None], row[:, 1:].unfold(1, a.horizon, 1)[:, :a.length], fresh


class Loss:
    """Pinball loss of all quantiles, in deviations of the series, over all steps ahead."""

    def __init__(self, model, rows, a):
        self.model, self.rows, self.a = model, rows, a
        self.state = model.initial_state(a.batch)

    def __call__(self):
        values, future, fresh = self.rows.next()
        self.state = self.model.reset_rows(self.state, fresh)
        numbers, self.state = self.model(values, self.state)
        cfg = self.model.cfg
        numbers = numbers.unflatten(2, (self.a.horizon, len(cfg.quantiles)))
        want = (future - cfg.output_mean[0]) / cfg.output_deviation[0]
        loss = parts.pinball(numbers, want, cfg.quantiles).mean()
        middle = numbers[..., cfg.quantiles.index(0.5)].detach()
        return loss, {"mae": (middle - want).abs().mean() * cfg.output_deviation[0]}


class Keeper:
    """Looks at the choosing part now and then and saves the best weights so far."""

    def __init__(self, model, x, a, log):
        self.model, self.x, self.a, self.log, self.best = model, x, a, log, None
        learn, choose = forecast.parts_of(len(x))
        self.at = forecast.origins(learn, choose, a.horizon, 45)
        self.want = forecast.futures(x, self.at, a.horizon)

    def __call__(self, step):
        plain = LatteModel(self.model.cfg).to(self.a.device).eval()
        plain.load_state_dict(self.model.state_dict())
        got = forecast.score_quantiles(forecast.stream(plain, self.x, self.at), self.want, self.model.cfg.quantiles)
        better = self.best is None or got["mae"] < self.best
        self.log(step=step, choosing=got, kept=better)
        if better:
            self.best = got["mae"]
            folder.save(plain, self.a.out)


def calibrate(a, x, log):
    """Widens or narrows the kept model's outer quantiles about its median until, on the choosing part, they are
    crossed as often as they should be.  The head is linear, so this is a change of its weights."""
    model, cfg = folder.load(a.out, a.device)
    learn, choose = forecast.parts_of(len(x))
    at = forecast.origins(learn, choose, a.horizon, 5)
    got, want = forecast.stream(model, x, at), forecast.futures(x, at, a.horizon)
    middle = cfg.quantiles.index(0.5)
    factors = []
    for i, q in enumerate(cfg.quantiles):
        if i == middle:
            factors.append(1.0)
            continue
        apart = got[:, :, i] - got[:, :, middle]
        ratio = (want - got[:, :, middle]) / np.where(np.abs(apart) < 1e-6, 1e-6, apart)
        factors.append(float(np.quantile(ratio, q if q > 0.5 else 1 - q)))
    scale = torch.tensor(factors, device=a.device)
    for p in (model.head.weight, model.head.bias):
        rows = p.data.view(a.horizon, len(cfg.quantiles), -1)
        rows.copy_(rows[:, middle:middle + 1] + scale[:, None] * (rows - rows[:, middle:middle + 1]))
    folder.save(model, a.out)
    got = forecast.score_quantiles(forecast.stream(model, x, at), want, cfg.quantiles)
    log(calibration=[round(z, 4) for z in factors], choosing=got)


def main():
    a = arguments()
    torch.manual_seed(a.seed)
    x = forecast.read_series(a.series)
    learn, _ = forecast.parts_of(len(x))
    mean, deviation = (float(np.float32(z)) for z in (x[:learn].mean(), x[:learn].std()))
    cfg = LatteConfig(
        vocab_size=0, hidden_size=a.width, num_hidden_layers=a.layers, num_attention_heads=a.heads,
        num_latents=a.latents, mixer=a.mixer, intermediate_size=a.ff, window=a.window, recurrent="conv",
        recurrent_feeds="qkv", local_input="recurrent", input="values", num_features=1, input_mean=[mean],
        input_deviation=[deviation], head="regression", num_outputs=1, quantiles=a.quantiles,
        forecast_steps=a.horizon, output_mean=[mean], output_deviation=[deviation])
    log = fit.logger(os.path.join(a.out, "training_log.jsonl"))
    model = fit.prepare(LatteModel(cfg), a, torch.zeros(1, a.length, 1))
    log(settings=vars(a), parameters=parameter_count(model), torch=torch.__version__,
        device=torch.cuda.get_device_name() if a.device != "cpu" else "cpu")
    keeper = Keeper(model, x, a, log)
    fit.fit(model, Loss(model, Rows(x[:learn], a), a), a, log, check=keeper)
    calibrate(a, x, log)


if __name__ == "__main__":
    main()
