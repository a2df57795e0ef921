"""Whole sequences: classes, pairs, vectors, scores, forecasts."""

import json
import os
import tempfile
import threading

import moka
from testing import DATA, FORECASTER, LISTOPS, STORIES, TREE, ModelCase
from testing import command, distance, read_npy, small_model


class Classes(ModelCase):
    path = LISTOPS

    def test_a_class(self):
        answer = self.model.classify("[MIN 4 [MAX 2 8 ] 7 ]")
        self.assertEqual((answer.best, answer.label), (4, "4"))
        self.assertAlmostEqual(sum(answer.probabilities), 1, places=5)
        self.assertEqual(max(answer.logits), answer.logits[4])
        told = json.loads(command("classify", LISTOPS, "-p", "[MIN 4 [MAX 2 8 ] 7 ]", "--json"))
        self.assertEqual(told["label"], "4")

    def test_parity_with_the_model_that_it_was_converted_from(self):
        (rows, length), ids = read_npy(os.path.join(DATA, "listops_parity_ids.npy"))
        _, logits = read_npy(os.path.join(DATA, "listops_parity_logits.npy"))
        for i in range(rows):
            answer = self.model.classify(ids[i * length : (i + 1) * length])
            expected = logits[i * 10 : (i + 1) * 10]
            self.assertEqual(answer.best, expected.index(max(expected)))
            self.assertLess(distance(answer.logits, expected), 0.5)

    def test_sessions_and_rows_say_the_same(self):
        ids = self.model.encode("[MAX 3 8 ]")
        logits = list(self.model.classify(ids).logits)
        self.assertEqual([list(row) for row in self.model.read(ids)], [logits])
        self.assertLess(distance(self.session(*ids).logits(), logits), 1e-3)

    def test_errors(self):
        with self.raises(moka.InvalidArgumentError):
            self.model.classify([])
        with self.raises(moka.OutOfRangeError):
            self.model.classify([999])
        with self.raises(moka.InvalidArgumentError):
            self.model.embed("[MAX 1 2 ]")
        with self.raises(moka.InvalidArgumentError):
            self.model.compare("1", "2")
        with self.raises(moka.InvalidArgumentError):
            self.model.score("1")
        with self.raises(moka.InvalidArgumentError):
            self.model.forecast([1.0], 1)

    def test_progress(self):
        shares = []
        ids = self.model.encode("[MAX " + "1 " * 2000 + "]")
        self.model.classify(ids, progress=shares.append)
        self.assertGreater(len(shares), 1)
        self.assertEqual(shares, sorted(shares))

        def fail(share):
            raise KeyError("mine")

        with self.raises(KeyError, "mine"):
            self.model.classify(ids, progress=fail)


class Small(ModelCase):
    """An embedding model and a pair model, converted here."""

    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        head = {"tie_word_embeddings": False, "pooling": "mean"}
        vectors = small_model(folder.name, "vectors", {**head, "head": "embedding"})
        wide = {"hidden.weight": [86, 344], "hidden.bias": [86]}
        pairs = small_model(
            folder.name,
            "pairs",
            {**head, "head": "pair", "num_labels": 2, "final_norm": True, "labels": ["other", "same"]},
            {**wide, "head.weight": [2, 86], "head.bias": [2]},
        )
        cls.vectors, cls.pairs = moka.load(vectors), moka.load(pairs)
        cls.addClassCleanup(cls.vectors.close)
        cls.addClassCleanup(cls.pairs.close)
        cls.files = vectors, pairs

    def test_a_vector(self):
        vector = self.vectors.embed("hello")
        self.assertEqual(len(vector), self.vectors.info.outputs)
        told = json.loads(command("embed", self.files[0], "-p", "hello", "--json"))
        found = next(value for value in told.values() if isinstance(value, list))
        self.assertLess(distance(vector, found), 1e-5)
        self.assertAlmostEqual(moka.cosine(vector, vector), 1, places=6)
        self.assertLess(moka.cosine(vector, self.vectors.embed("good bye")), 1)
        with self.raises(moka.InvalidArgumentError, "a has 1 numbers and b 2"):
            moka.cosine([1], [1, 2])
        self.assertEqual(moka.cosine([], []), 0)

    def test_a_pair(self):
        answer = self.pairs.compare("hello", "good bye")
        self.assertEqual(answer.label, self.pairs.info.classes[answer.best])
        told = json.loads(command("compare", self.files[1], "-p", "hello", "-p", "good bye", "--json"))
        self.assertEqual(told["label"], answer.label)
        with self.raises(moka.FailedPreconditionError):
            self.pairs.session()


class Scores(ModelCase):
    def test_a_text(self):
        score = self.model.score(" king", context="Once upon a time there was a")
        told = json.loads(
            command("score", STORIES, "--context", "Once upon a time there was a", "-p", " king", "--json")
        )
        self.assertIn(round(score.log_likelihood, 3), [
            round(value, 3) for value in told.values() if isinstance(value, float)
        ])
        self.assertEqual(self.model.decode(score.tokens), " king")
        self.assertAlmostEqual(sum(score.log_likelihoods), score.log_likelihood)
        self.assertEqual(len(score.most_likely), len(score.tokens))

    def test_ids(self):
        ids = [0, *self.model.encode("There was a king")]
        whole = self.model.score(ids)
        self.assertEqual(whole.tokens, ids[1:])
        self.assertEqual(self.model.score("There was a king"), whole)
        part = self.model.score(ids, first=3)
        self.assertEqual(part.log_likelihoods, whole.log_likelihoods[2:])
        for first in (0, len(ids), 1000):
            with self.raises(moka.InvalidArgumentError if first == 0 else moka.OutOfRangeError):
                self.model.score(ids, first=first)


class Forecasts(ModelCase):
    path = FORECASTER

    def history(self):
        with open(os.path.join(TREE, "models/ecg-example.csv")) as file:
            return [float(line.split(",")[-1]) for line in file if line[0] in "-.0123456789"]

    def test_steps_ahead(self):
        history = self.history()
        values = self.model.forecast(history, 200)  # more than the head tells at once
        self.assertEqual((len(values), len(values[0]), len(values[0][0])), (200, 1, 3))
        for low, middle, high in (step[0] for step in values):
            self.assertLessEqual(low, middle)
            self.assertLessEqual(middle, high)
        told = command("forecast", FORECASTER, os.path.join(TREE, "models/ecg-example.csv"), "--horizon", "200")
        lines = told.decode().splitlines()
        self.assertEqual(lines[0], "step,q0.1,q0.5,q0.9")
        for line, step in list(zip(lines[1:], values))[:5]:
            self.assertLess(distance(map(float, line.split(",")[1:]), step[0]), 1e-3)

    def test_any_shape_of_history(self):
        history = self.history()[:64]
        flat = self.model.forecast(history, 2)
        nested = self.model.forecast([[x] for x in history], 2)
        self.assertEqual([list(s[0]) for s in flat], [list(s[0]) for s in nested])

    def test_sessions_read_values(self):
        shape, values = read_npy(os.path.join(DATA, "forecaster_parity_values.npy"))
        _, numbers = read_npy(os.path.join(DATA, "forecaster_parity_numbers.npy"))
        session = self.session()
        rows = session.append_rows(values)
        self.assertEqual((len(rows), session.position), (shape[1], shape[1]))
        # The reference tells deviations of the series from its mean; which is a line through these.
        told, expected = list(rows[99]), numbers[:540]
        mean, other = sum(told) / 540, sum(expected) / 540
        slope = sum((x - mean) * (y - other) for x, y in zip(told, expected)) / sum(
            (x - mean) ** 2 for x in told
        )
        self.assertLess(distance([(x - mean) * slope + other for x in told], expected), 0.18)

    def test_errors(self):
        with self.raises(moka.InvalidArgumentError):
            self.model.forecast([], 3)
        with self.raises(moka.InvalidArgumentError, "finite"):
            self.model.forecast([float("nan")], 3)
        with self.raises(moka.InvalidArgumentError, "must be numbers"):
            self.model.forecast("abc", 3)
        with self.raises(moka.InvalidArgumentError):
            self.session().append([])
            self.session().append([float("inf")])
        for horizon in (0, -1):
            with self.raises(moka.InvalidArgumentError, f"horizon is {horizon}"):
                self.model.forecast([1.0], horizon)

    def test_threads(self):
        history = self.history()[:200]
        expected = [list(step[0]) for step in self.model.forecast(history, 5)]
        found = []

        def use():
            found.append([list(step[0]) for step in self.model.forecast(history, 5)])

        threads = [threading.Thread(target=use) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(found, [expected] * 4)
