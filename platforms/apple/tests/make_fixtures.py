"""Makes what the Swift tests compare with: small models, and what the command `moka` says.

    make_fixtures.py COMMAND FOLDER     COMMAND is a built `moka`
"""

import json
import os
import random
import struct
import subprocess
import sys

TREE = os.path.abspath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../.."))
SMALL = os.path.join(TREE, "tests/data/hf/macchiato_width43_tied")  # bytes in and out
STORIES = os.path.join(TREE, "models/stories.moka")
FORECASTER = os.path.join(TREE, "models/forecaster.moka")
PROMPT = "Once upon a time"
BEGIN = 258  # the small model's begin_token


class Maker:
    def __init__(self, command, folder):
        self.command = command
        self.folder = folder
        os.makedirs(folder, exist_ok=True)

    def path(self, name):
        return os.path.join(self.folder, name)

    def write(self, name, data):
        with open(self.path(name), "wb") as file:
            file.write(data)

    def moka(self, *arguments):
        done = subprocess.run([self.command, *arguments], capture_output=True, check=False)
        if done.returncode != 0:
            sys.exit(f"moka {arguments}: {done.stderr.decode()}")
        return done.stdout

    def small_model(self, name, keys, change):
        """Converts the small fixture with other keys and tensors: `change` gets name -> (shape,
        numbers) and alters it."""
        with open(os.path.join(SMALL, "config.json")) as file:
            config = {**json.load(file), **keys}
        with open(os.path.join(SMALL, "model.safetensors"), "rb") as file:
            data = file.read()
        (size,) = struct.unpack("<Q", data[:8])
        tensors = {}
        for tensor, about in json.loads(data[8 : 8 + size]).items():
            if tensor == "__metadata__":
                continue
            begin, end = (8 + size + offset for offset in about["data_offsets"])
            count = (end - begin) // 4
            tensors[tensor] = (about["shape"], struct.unpack(f"<{count}f", data[begin:end]))
        change(tensors)
        header, body = {}, b""
        for tensor, (shape, numbers) in tensors.items():
            packed = struct.pack(f"<{len(numbers)}f", *numbers)
            offsets = [len(body), len(body) + len(packed)]
            header[tensor] = {"dtype": "F32", "shape": shape, "data_offsets": offsets}
            body += packed
        head = json.dumps(header).encode()
        head += b" " * (-len(head) % 8)
        source = self.path(name + "-hf")
        os.makedirs(source, exist_ok=True)
        with open(os.path.join(source, "config.json"), "w") as file:
            json.dump(config, file)
        with open(os.path.join(source, "model.safetensors"), "wb") as file:
            file.write(struct.pack("<Q", len(head)) + head + body)
        self.moka("convert", source, "-o", self.path(name + ".moka"), "--force")


def drawn(name, shape):
    """Numbers from a fixed seed."""
    draw = random.Random(name)
    count = 1
    for extent in shape:
        count *= extent
    return shape, [draw.gauss(0, 0.3) for _ in range(count)]


def fox(tensors):
    """A model that writes one character of four bytes again and again: the embedding of each byte is a
    dimension of its own, whose row of the head is that of the next byte, and the blocks add nothing."""
    character = "\U0001f98a".encode()
    for name, (shape, numbers) in tensors.items():
        tensors[name] = (shape, [1.0 if "norm" in name else 0.0] * len(numbers))
    (vocabulary, width), embedding = tensors["embed.weight"]
    head = [0.0] * (vocabulary * width)
    for place, token in enumerate([BEGIN, *character]):
        embedding[token * width + place] = 1.0
        following = character[place % len(character)]
        head[following * width + place] = 50.0
    tensors["head.weight"] = ([vocabulary, width], head)


def vectors(tensors):
    pass


def pairs(tensors):
    for name, shape in (
        ("hidden.weight", [86, 344]),
        ("hidden.bias", [86]),
        ("head.weight", [2, 86]),
        ("head.bias", [2]),
    ):
        tensors[name] = drawn(name, shape)


def main():
    command, folder = sys.argv[1:]
    make = Maker(os.path.abspath(command), folder)

    make.small_model("fox", {"tie_word_embeddings": False}, fox)
    head = {"tie_word_embeddings": False, "pooling": "mean"}
    make.small_model("vectors", {**head, "head": "embedding"}, vectors)
    two = {"head": "pair", "num_labels": 2, "final_norm": True, "labels": ["other", "same"]}
    make.small_model("pairs", {**head, **two}, pairs)
    with open(STORIES, "rb") as file:
        make.write("prefixed.moka", file.read())
    make.moka(
        *("snapshot", "add", make.path("prefixed.moka"), "--name", "opening", "-p", PROMPT)
    )

    run = ("run", STORIES, "-p", PROMPT, "-n", "60", "--seed", "3")
    make.write("run.txt", make.moka(*run))
    make.write("warm.txt", make.moka(*run, "--temperature", "0.8"))
    make.write("embed.json", make.moka("embed", make.path("vectors.moka"), "-p", "hello", "--json"))
    make.write(
        "compare.json",
        make.moka("compare", make.path("pairs.moka"), "-p", "hello", "-p", "good bye", "--json"),
    )
    make.write(
        "score.json",
        make.moka("score", STORIES, "--context", "Once upon a time there was a", "-p", " king", "--json"),
    )
    series = [float(i % 50) / 25 for i in range(1024)]
    make.write("series.csv", "".join(f"{value}\n" for value in series).encode())
    make.write(
        "forecast.csv",
        make.moka("forecast", FORECASTER, make.path("series.csv"), "--horizon", "20"),
    )

    ids = [0, *range(100, 140)]
    shape = f"{{'descr': '<i4', 'fortran_order': False, 'shape': ({len(ids)},), }}"
    shape += " " * (-(len(shape) + 11) % 64) + "\n"
    packed = struct.pack(f"<{len(ids)}i", *ids)
    make.write(
        "ids.npy", b"\x93NUMPY\x01\x00" + struct.pack("<H", len(shape)) + shape.encode() + packed
    )
    make.moka("logits", STORIES, "--ids", make.path("ids.npy"), "-o", make.path("logits.npy"), "--force")
    with open(make.path("logits.npy"), "rb") as file:
        data = file.read()
    (size,) = struct.unpack("<H", data[8:10])
    make.write("logits.f32", data[10 + size :])


if __name__ == "__main__":
    main()
