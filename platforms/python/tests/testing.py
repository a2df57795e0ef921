"""What the tests share: the models, the command, small models of other kinds."""

import json
import os
import random
import struct
import subprocess
import tempfile
import unittest

import moka

TREE = os.path.abspath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../.."))
DATA = os.path.join(TREE, "tests/data")
STORIES = os.path.join(TREE, "models/stories.moka")
LISTOPS = os.path.join(TREE, "models/listops.moka")
FORECASTER = os.path.join(TREE, "models/forecaster.moka")
COMMAND = os.environ.get("MOKA_COMMAND", os.path.join(TREE, "build/release/moka"))
SMALL = os.path.join(DATA, "hf/macchiato_width43_tied")  # bytes in and out

try:
    import numpy
except ModuleNotFoundError:
    numpy = None
needs_numpy = unittest.skipIf(numpy is None, "numpy is not installed")


def command(*arguments, input=None):
    """stdout of the command `moka`."""
    done = subprocess.run([COMMAND, *arguments], input=input, capture_output=True, check=False)
    if done.returncode != 0:
        raise AssertionError(f"moka {arguments}: {done.stderr.decode()}")
    return done.stdout


def read_npy(path):
    """(shape, numbers in order) of a file of float32 or int32."""
    with open(path, "rb") as file:
        data = file.read()
    (size,) = struct.unpack("<H", data[8:10])
    header = eval(data[10 : 10 + size].decode(), {"__builtins__": {}}, {})
    kind = {"<f4": "f", "<i4": "i"}[header["descr"]]
    count = 1
    for extent in header["shape"]:
        count *= extent
    return header["shape"], struct.unpack(f"<{count}{kind}", data[10 + size : 10 + size + 4 * count])


def write_npy(path, ids):
    """int32 [len(ids)]"""
    header = f"{{'descr': '<i4', 'fortran_order': False, 'shape': ({len(ids)},), }}"
    header += " " * (-(len(header) + 11) % 64) + "\n"
    with open(path, "wb") as file:
        file.write(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode())
        file.write(struct.pack(f"<{len(ids)}i", *ids))


def small_model(folder, name, config=None, tensors=None):
    """Converts the small fixture, with other keys and more tensors (name -> shape, numbers drawn from a
    fixed seed), and gives the path of the model."""
    source = os.path.join(folder, name)
    os.makedirs(source)
    with open(os.path.join(SMALL, "config.json")) as file:
        keys = {**json.load(file), **(config or {})}
    with open(os.path.join(source, "config.json"), "w") as file:
        json.dump(keys, file)
    with open(os.path.join(SMALL, "model.safetensors"), "rb") as file:
        data = file.read()
    (size,) = struct.unpack("<Q", data[:8])
    header, body = json.loads(data[8 : 8 + size]), data[8 + size :]
    draw = random.Random(name)
    for tensor, shape in (tensors or {}).items():
        count = 1
        for extent in shape:
            count *= extent
        header[tensor] = {
            "dtype": "F32",
            "shape": shape,
            "data_offsets": [len(body), len(body) + 4 * count],
        }
        body += struct.pack(f"<{count}f", *(draw.gauss(0, 0.3) for _ in range(count)))
    head = json.dumps(header).encode()
    head += b" " * (-len(head) % 8)
    with open(os.path.join(source, "model.safetensors"), "wb") as file:
        file.write(struct.pack("<Q", len(head)) + head + body)
    path = os.path.join(folder, name + ".moka")
    command("convert", source, "-o", path)
    return path


def distance(a, b):
    """The largest difference of two rows."""
    a, b = list(a), list(b)
    assert len(a) == len(b) and a, (len(a), len(b))
    return max(abs(float(x) - float(y)) for x, y in zip(a, b))


class ModelCase(unittest.TestCase):
    """Tests of one model, opened once; and a folder for files."""

    path = STORIES

    @classmethod
    def setUpClass(cls):
        cls.model = moka.load(cls.path, threads=1)
        cls.addClassCleanup(cls.model.close)

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name

    def session(self, *tokens):
        session = self.model.session()
        self.addCleanup(session.close)
        if tokens:
            session.append(tokens)
        return session

    def raises(self, kind, words=""):
        """Of this very class, with the words in the message."""
        case = self

        class Context:
            def __enter__(self):
                return self

            def __exit__(self, found, error, trace):
                case.assertIs(found, kind, f"{error!r}")
                case.assertIn(words, str(error))
                self.error = error
                return True

        return Context()
