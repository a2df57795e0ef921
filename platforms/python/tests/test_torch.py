"""The PyTorch reference and this package give the same numbers for the same weights."""

import os
import sys
import tempfile
import unittest

import moka
from testing import DATA, TREE, command, needs_numpy, numpy

try:
    import torch
except ImportError:
    torch = None

FIXTURES = sorted(os.listdir(os.path.join(DATA, "hf")))


@needs_numpy
@unittest.skipIf(torch is None, "PyTorch is not installed")
class Torch(unittest.TestCase):
    def test_logits(self):
        sys.path.insert(0, os.path.join(TREE, "converter/pytorch"))
        self.addCleanup(sys.path.remove, sys.path[0])
        import folder as reference

        for name in FIXTURES:
            with self.subTest(name), tempfile.TemporaryDirectory() as folder:
                source = os.path.join(DATA, "hf", name)
                path = os.path.join(folder, "x.moka")
                command("convert", source, "-o", path, "--weights", "f32")
                ids = numpy.arange(90) * 37 % 256
                theirs, _ = reference.load(source)
                with torch.no_grad():
                    expected = theirs.eval()(torch.from_numpy(ids)[None])[0][0].numpy()
                with moka.load(path) as model, model.session() as session:
                    rows = session.append_rows(ids)
                    self.assertEqual(rows.shape, expected.shape)
                    self.assertLess(numpy.abs(rows - expected).max(), 1e-3)
                    self.assertLess(numpy.abs(model.read(ids) - expected).max(), 1e-3)


@needs_numpy
class Recorded(unittest.TestCase):
    """The same with what the reference gave, for machines without PyTorch."""

    def test_logits(self):
        for name in FIXTURES:
            with self.subTest(name), tempfile.TemporaryDirectory() as folder:
                source = os.path.join(DATA, "hf", name)
                path = os.path.join(folder, "x.moka")
                command("convert", source, "-o", path, "--weights", "f32")
                ids = numpy.load(os.path.join(source, "ids.npy"))
                expected = numpy.load(os.path.join(source, "logits.npy"))
                with moka.load(path) as model:
                    for row, logits in zip(numpy.atleast_2d(ids), expected.reshape(-1, *expected.shape[-2:])):
                        self.assertLess(numpy.abs(model.read(row) - logits).max(), 1e-3)
