"""Writes the files of this folder, with PyTorch 1.13 (Debian's python3-torch). The numbers are
formulas, so that the test knows them without the files."""

import argparse
import collections
import datetime

import torch


def ramp(*shape):
    count = 1
    for extent in shape:
        count *= extent
    return (torch.arange(count).float() * 0.25 - 1).reshape(shape)


state = collections.OrderedDict()
state["f32"] = ramp(3, 4)
state["f16"] = ramp(2, 4).half()
state["bf16"] = ramp(6).bfloat16()
state["f64"] = ramp(2, 3, 4).double().permute(2, 0, 1)
state["transposed"] = ramp(5, 3).t()
state["view"] = ramp(4, 5)[1:3, 1:4]
state["expanded"] = ramp(2, 1).expand(2, 3)
state["ids"] = torch.arange(5)
state["scalar"] = torch.tensor(2.5)
state["empty"] = torch.zeros(0, 3)
state["tied"] = state["f32"]
state["parameter"] = torch.nn.Parameter(ramp(3))
torch.save(state, "state.pt")
torch.save(state, "state_protocol4.pt", pickle_protocol=4)
torch.save(state, "legacy.pt", _use_new_zipfile_serialization=False)

model = torch.nn.Linear(3, 2)
with torch.no_grad():
    model.weight.copy_(ramp(2, 3))
    model.bias.copy_(ramp(2))
optimizer = torch.optim.Adam(model.parameters())
model(torch.ones(1, 3)).sum().backward()
model_state = {"module." + name: value.clone() for name, value in model.state_dict().items()}
optimizer.step()
torch.save(
    {
        "model": model_state,
        "optimizer": optimizer.state_dict(),
        "step": 1234,
        "args": argparse.Namespace(lr=1e-3),
        "when": datetime.datetime(2024, 1, 2),
        "losses": [1.5, None, True, 10**30, {1, 2}],
    },
    "training.pt",
)
torch.save(model, "whole_module.pt")
torch.save({"x": torch.eye(3).to_sparse()}, "sparse.pt")
torch.save({"x": torch.zeros(3, dtype=torch.complex64)}, "complex.pt")
