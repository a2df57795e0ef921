"""Numbers in and out, with numpy and without."""

import subprocess
import sys
import unittest
from array import array

import moka
from testing import FORECASTER, LISTOPS, ModelCase, needs_numpy, numpy


class Plain(ModelCase):
    path = LISTOPS

    def setUp(self):
        super().setUp()
        moka.use_numpy(False)
        self.addCleanup(moka.use_numpy, None)

    def test_what_comes_out(self):
        session = self.session(3, 4)
        logits = session.logits()
        self.assertIsInstance(logits, array)
        self.assertEqual((logits.typecode, len(logits)), ("f", 10))
        rows = session.append_rows([5, 6, 7])
        self.assertIsInstance(rows, list)
        self.assertEqual([(type(row), len(row)) for row in rows], [(array, 10)] * 3)
        self.assertEqual(list(rows[2]), list(session.logits()))

    def test_rows_that_are_kept_do_not_change(self):
        session = self.session(3)
        before = session.logits()
        copy = list(before)
        session.append([4])
        self.assertNotEqual(list(session.logits()), copy)
        self.assertEqual(list(before), copy)

    def test_what_goes_in(self):
        expected = list(self.session(3, 4, 5).logits())
        for tokens in (
            [3, 4, 5],
            (3, 4, 5),
            array("i", [3, 4, 5]),
            array("q", [3, 4, 5]),
            range(3, 6),
            iter([3, 4, 5]),
            b"\x03\x04\x05",
        ):
            self.assertEqual(list(self.session(*tokens).logits()), expected, tokens)
            session = self.session()
            session.append(array("i", [3, 4, 5]))
            self.assertEqual(list(session.logits()), expected)

    def test_numbers_that_go_in(self):
        with moka.load(FORECASTER, threads=1) as model:
            expected = [list(step[0]) for step in model.forecast([0.5, 1.0, -0.25], 2)]
            for values in (
                [[0.5], [1], [-0.25]],
                array("f", [0.5, 1.0, -0.25]),
                array("d", [0.5, 1.0, -0.25]),
                ((0.5, 1.0), -0.25),
            ):
                self.assertEqual([list(s[0]) for s in model.forecast(values, 2)], expected)
            for wrong in ("text", [0.5, "1"], [None], 3.0, [1e400]):
                with self.raises(moka.InvalidArgumentError):
                    model.forecast(wrong, 2)


@needs_numpy
class WithNumpy(ModelCase):
    path = LISTOPS

    def test_what_comes_out(self):
        session = self.session(3, 4)
        logits = session.logits()
        self.assertIsInstance(logits, numpy.ndarray)
        self.assertEqual((logits.dtype, logits.shape), (numpy.float32, (10,)))
        rows = session.append_rows([5, 6, 7])
        self.assertEqual((rows.dtype, rows.shape), (numpy.float32, (3, 10)))
        self.assertTrue((rows[2] == session.logits()).all())
        rows += 1  # it is the caller's own
        self.assertEqual(self.model.session().logits().shape, (0,))
        with moka.load(FORECASTER) as model:
            self.assertEqual(model.forecast([1.0, 2.0], 4).shape, (4, 1, 3))

    def test_the_same_without(self):
        rows = self.session().append_rows([3, 4, 5])
        moka.use_numpy(False)
        self.addCleanup(moka.use_numpy, None)
        self.assertEqual([list(row) for row in self.session().append_rows([3, 4, 5])], rows.tolist())

    def test_what_goes_in(self):
        expected = self.session(3, 4, 5).logits()
        for kind in (numpy.int32, numpy.int64, numpy.uint8):
            session = self.session()
            session.append(numpy.array([3, 4, 5], dtype=kind))
            self.assertTrue((session.logits() == expected).all(), kind)
        with self.raises(moka.InvalidArgumentError, "tokens must be token ids"):
            self.model.decode(numpy.array([0.5]))
        with moka.load(FORECASTER, threads=1) as model:
            flat = [0.5, 1.0, -0.25, 2.0]
            expected = model.forecast(flat, 2)
            for values in (
                numpy.array(flat),
                list(numpy.array(flat, dtype=numpy.float32)),
                [numpy.array(flat[:2]), numpy.array(flat[2:])],
                numpy.array(flat, dtype=numpy.float32)[:, None],
                numpy.array(flat * 2, dtype=numpy.float32).reshape(2, 4).T[:, 0],
            ):
                self.assertTrue((model.forecast(values, 2) == expected).all())

    def test_the_import_does_not_load_it(self):
        code = "import sys, moka; sys.exit('numpy' in sys.modules)"
        done = subprocess.run([sys.executable, "-c", code], cwd="/", check=False)
        self.assertEqual(done.returncode, 0)


class Choice(unittest.TestCase):
    @unittest.skipIf(numpy is not None, "numpy is installed")
    def test_numpy_that_is_not_there(self):
        with self.assertRaises(ModuleNotFoundError):
            moka.use_numpy(True)
