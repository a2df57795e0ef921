"""Models: opening, info, text, closing, threads."""

import os
import shutil
import threading

import moka
from testing import FORECASTER, LISTOPS, STORIES, ModelCase, command


class Opening(ModelCase):
    path = LISTOPS

    def test_info(self):
        info = self.model.info
        self.assertEqual((info.name, info.input, info.output), ("listops", "tokens", "classifier"))
        self.assertEqual(info.classes, tuple("0123456789"))
        self.assertEqual((info.outputs, info.threads, info.causal), (10, 1, True))
        self.assertIsNone(info.position_limit)
        self.assertEqual(info.padding, 1)
        with moka.load(FORECASTER) as other:
            self.assertEqual((other.info.input, other.info.features), ("values", 1))
            self.assertEqual(other.info.quantiles, (0.1, 0.5, 0.9))
            self.assertEqual((other.info.forecast_steps, other.info.begin_token), (180, None))

    def test_no_file(self):
        with self.raises(moka.NotFoundError, "no-such.moka"):
            moka.load("no-such.moka")

    def test_no_model(self):
        with self.raises(moka.CorruptError):
            moka.load(__file__)

    def test_damaged_data_is_found_when_asked_for(self):
        path = os.path.join(self.folder, "damaged.moka")
        shutil.copyfile(LISTOPS, path)
        with open(path, "r+b") as file:
            file.seek(os.path.getsize(path) // 2)
            byte = file.read(1)[0]
            file.seek(-1, os.SEEK_CUR)
            file.write(bytes([byte ^ 1]))
        moka.load(path).close()
        with self.raises(moka.CorruptError):
            moka.load(path, check_data=True)

    def test_options(self):
        with self.raises(moka.InvalidArgumentError, "threads is 1000"):
            moka.load(LISTOPS, threads=1000)
        with self.raises(moka.InvalidArgumentError, "fast"):
            moka.load(LISTOPS, kernels="fast")
        with moka.load(LISTOPS, threads=2, kernels="scalar", chunk=7) as model:
            self.assertEqual((model.info.threads, model.info.kernels), (2, "scalar"))

    def test_progress_hears_and_its_error_comes_out(self):
        shares = []
        moka.load(LISTOPS, check_data=True, progress=shares.append).close()
        self.assertEqual(shares[-1], 1.0)
        self.assertEqual(shares, sorted(shares))

        def fail(share):
            raise KeyError("mine")

        with self.raises(KeyError, "mine"):
            moka.load(LISTOPS, check_data=True, progress=fail)

    def test_from_memory(self):
        with open(LISTOPS, "rb") as file:
            model = moka.load_bytes(file.read(), threads=1)
        session = model.session()
        model.close()
        del model  # the session holds the memory
        session.append([3, 4, 5])
        expected = self.session(3, 4, 5).logits()
        self.assertEqual(list(session.logits()), list(expected))
        with self.raises(moka.CorruptError):
            moka.load_bytes(b"not a model, but long enough to be looked at" * 10)

    def test_from_a_part_of_an_open_file(self):
        path = os.path.join(self.folder, "package")
        with open(LISTOPS, "rb") as file:
            data = file.read()
        expected = self.session(3, 4, 5).logits()
        for before in (64, 7):  # mapped; read
            with open(path, "wb") as file:
                file.write(b"x" * before + data + b"behind it")
            with open(path, "rb") as file:
                model = moka.load_fd(file.fileno(), before, len(data), threads=1)
                self.assertEqual(file.tell(), 0)
            with model, model.session() as session:
                session.append([3, 4, 5])
                self.assertEqual(list(session.logits()), list(expected))
        with open(path, "rb") as file, self.raises(moka.OutOfRangeError, "reach beyond"):
            moka.load_fd(file.fileno(), 7, len(data) + 100)
        with self.raises(moka.InvalidArgumentError, "offset is -1"):
            moka.load_fd(0, -1)

    def test_limits(self):
        with self.raises(moka.OutOfRangeError, "limit of 1 (moka_open_options.limit_tensors)"):
            moka.load(LISTOPS, limits=moka.Limits(tensors=1))
        with self.raises(moka.OutOfRangeError, "memory_bytes"):
            moka.load(LISTOPS, limits=moka.Limits(memory_bytes=1000))
        with self.raises(moka.InvalidArgumentError, "limits.tensors is -1"):
            moka.load(LISTOPS, limits=moka.Limits(tensors=-1))
        moka.load(LISTOPS, limits=moka.Limits(tensors=10000, memory_bytes=1 << 28)).close()

    def test_names_of_files_need_not_be_ascii(self):
        path = os.path.join(self.folder, "caf\u00e9.moka")
        shutil.copyfile(LISTOPS, path)
        with moka.load(path) as model:
            self.assertEqual(model.info.fingerprint, self.model.info.fingerprint)


class Text(ModelCase):
    def test_there_and_back(self):
        text = "Once upon a time, na\u00efvely \U0001f40b\n\x00."
        ids = self.model.encode(text)
        self.assertEqual(self.model.decode(ids), text)
        self.assertEqual(self.model.encode(""), [])
        self.assertEqual(self.model.decode([]), "")
        self.assertEqual(
            b"".join(map(self.model.token_bytes, ids)), text.encode()
        )

    def test_special_tokens_are_text_unless_asked_for(self):
        self.assertEqual(self.model.encode("<|endoftext|>", special=True), [0])
        self.assertGreater(len(self.model.encode("<|endoftext|>")), 3)
        self.assertEqual(self.model.token_bytes(0), b"<|endoftext|>")
        self.assertEqual(self.model.decode([0]), "")

    def test_halves_of_characters(self):
        ids = self.model.encode("\U0001f40b")
        self.assertGreater(len(ids), 1)
        self.assertEqual(self.model.decode(ids[:1]), "\ufffd")

    def test_what_is_no_token(self):
        with self.raises(moka.OutOfRangeError, "8192"):
            self.model.decode([8192])
        with self.raises(moka.InvalidArgumentError, "tokens must be token ids"):
            self.model.decode(["a"])
        with self.raises(moka.InvalidArgumentError, "tokens must be token ids"):
            self.model.decode([1 << 40])

    def test_a_model_without_text(self):
        with moka.load(FORECASTER) as model:
            with self.raises(moka.UnsupportedError):
                model.encode("a")


class Closing(ModelCase):
    path = LISTOPS

    def test_use_after_close(self):
        model = moka.load(LISTOPS)
        sampler, executor = model.sampler(), model.executor()
        for thing in (model, sampler, executor):
            self.assertFalse(thing.closed)
            thing.close()
            thing.close()
            self.assertTrue(thing.closed)
        for use in (
            model.session,
            lambda: model.encode("1"),
            lambda: model.classify("1"),
            model.sampler,
            lambda: model.__enter__(),
        ):
            with self.raises(moka.ClosedError, "the model is closed"):
                use()
        with self.raises(moka.ClosedError, "the sampler is closed"):
            sampler.save()
        with self.raises(moka.ClosedError, "the executor is closed"):
            executor.threads
        self.assertEqual(model.info.name, "listops")  # it was read before

    def test_close_while_other_threads_use_it(self):
        for _ in range(20):
            model = moka.load(LISTOPS, threads=1)
            ended = []

            def use():
                try:
                    while True:
                        model.classify("[MAX 1 2 ]")
                except moka.ClosedError as error:
                    ended.append(error)

            threads = [threading.Thread(target=use) for _ in range(3)]
            for thread in threads:
                thread.start()
            model.close()
            for thread in threads:
                thread.join()
            self.assertEqual(len(ended), 3)

    def test_threads_share_a_model(self):
        texts = [f"[MAX {i} [MIN 9 {9 - i} ] ]" for i in range(10)]
        expected = [self.model.classify(text).best for text in texts]
        found = [[] for _ in range(4)]

        def use(mine):
            with self.model.executor(threads=1) as executor:
                for text in texts:
                    mine.append(self.model.classify(text, executor=executor).best)

        threads = [threading.Thread(target=use, args=(mine,)) for mine in found]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(found, [expected] * 4)


class Command(ModelCase):
    def test_info_is_what_the_command_tells(self):
        import json

        told = json.loads(command("inspect", STORIES, "--json"))
        info = self.model.info
        self.assertIn(info.parameters, _numbers(told))
        self.assertIn(info.state_bytes, _numbers(told))


def _numbers(value):
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        return [number for part in value for number in _numbers(part)]
    return [value]
