"""Text as it comes: for, async for, and all the ways to end it."""

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from array import array

import moka
from testing import FORECASTER, LISTOPS, STORIES, ModelCase, command

PROMPT = "Once upon a time"


class Streaming(ModelCase):
    def test_the_text_is_that_of_moka_run(self):
        told = command("run", STORIES, "-p", PROMPT, "-n", "60", "--seed", "3", "--threads", "1")
        reply = self.session().reply(PROMPT, max_tokens=60, seed=3)
        pieces = list(reply)
        self.assertGreater(len(pieces), 40)
        self.assertNotIn("", pieces)
        self.assertEqual(PROMPT + "".join(pieces) + "\n", told.decode())
        self.assertEqual((reply.end, reply.tokens, reply.seed), ("tokens", 60, 3))
        self.assertEqual(list(reply), [])

    def test_a_seed_that_was_drawn_writes_the_same_again(self):
        first = self.session().reply(PROMPT, max_tokens=20)
        text = first.text()
        again = self.session().reply(PROMPT, max_tokens=20, seed=first.seed)
        self.assertEqual(again.text(), text)

    def test_nothing_happens_before_it_is_asked_for(self):
        session = self.session()
        reply = session.reply(PROMPT, max_tokens=5, temperature=0)
        self.assertEqual(session.position, 0)
        next(reply)
        with self.raises(moka.BusyError, "a reply that has not ended"):
            session.position
        later = session.reply(max_tokens=1)
        with self.raises(moka.BusyError):
            next(later)
        reply.close()
        self.assertEqual((reply.end, reply.tokens), ("closed", 1))
        self.assertEqual(session.position, 1 + len(self.model.encode(PROMPT)) + 1)
        self.assertEqual(len(list(later)), 1)

    def test_leaving_the_loop_ends_it_there(self):
        session = self.session()
        for count, piece in enumerate(session.reply(PROMPT, max_tokens=50, temperature=0, seed=1)):
            if count == 2:
                break
        position = session.position
        whole = list(self.session().reply(PROMPT, max_tokens=50, temperature=0, seed=1))
        rest = list(session.reply(max_tokens=3, temperature=0, repeat_penalty=1))
        self.assertEqual(position, 1 + len(self.model.encode(PROMPT)) + 3)
        self.assertEqual(piece, whole[2])
        self.assertEqual(len(rest), 3)

    def test_closed_before_it_began(self):
        session = self.session()
        reply = session.reply(PROMPT)
        reply.close()
        self.assertEqual((reply.end, list(reply), session.position), ("closed", [], 0))

    def test_two_replies_of_two_sessions_take_turns(self):
        a = self.session().reply(PROMPT, max_tokens=10, seed=1)
        b = self.session().reply(PROMPT, max_tokens=10, seed=2)
        both = [(x, y) for x, y in zip(a, b)]
        self.assertEqual("".join(x for x, _ in both), self._text(1, len(both)))
        self.assertEqual("".join(y for _, y in both), self._text(2, len(both)))

    def _text(self, seed, pieces):
        return "".join(list(self.session().reply(PROMPT, max_tokens=10, seed=seed))[:pieces])

    def test_stops(self):
        whole = self.session().reply(PROMPT, max_tokens=30, temperature=0).text()
        word = whole.split()[3]
        reply = self.session().reply(PROMPT, max_tokens=30, temperature=0, stop=[word])
        self.assertEqual(reply.text(), whole[: whole.index(word)])
        self.assertEqual(reply.end, "stop_text")
        first = self.model.encode(whole)[0]
        reply = self.session().reply(PROMPT, temperature=0, stop=[first])
        self.assertEqual((reply.text(), reply.end, reply.tokens), ("", "stop_token", 0))
        reply = self.session().reply(PROMPT, max_tokens=1000, max_ms=1)
        reply.text()
        self.assertEqual(reply.end, "time")
        bias = {i: -float("inf") for i in range(1, 8192)}
        reply = self.session().reply(PROMPT, bias=bias)
        self.assertEqual((reply.text(), reply.end), ("", "stop_token"))
        reply = self.session().reply(PROMPT, bias=bias, stop_at_end=False, loop_tokens=5)
        self.assertEqual((reply.text(), reply.end), ("", "loop"))

    def test_a_sampler_goes_on(self):
        sampler = self.model.sampler(1.0, seed=7)
        session = self.session()
        parts = [session.reply(PROMPT, max_tokens=5, sampler=sampler).text()]
        parts.append(session.reply(max_tokens=5, sampler=sampler).text())
        whole = self.session().reply(PROMPT, max_tokens=10, sampler=self.model.sampler(1.0, seed=7))
        self.assertEqual("".join(parts), whole.text())

    def test_errors(self):
        session = self.session()
        with self.raises(moka.FailedPreconditionError, "nothing was read"):
            next(session.reply())
        with self.raises(moka.InvalidArgumentError, "temperature"):
            session.reply(PROMPT, temperature=-1)
        reply = session.reply(PROMPT, max_tokens=0)
        with self.raises(moka.InvalidArgumentError, "max_tokens is 0"):
            next(reply)
        self.assertIsNone(reply.end)
        with self.raises(moka.InvalidArgumentError, "max_tokens is -1"):
            session.reply(PROMPT, max_tokens=-1)
        with self.raises(moka.OutOfRangeError, "stop_tokens"):
            next(session.reply(PROMPT, stop=[99999]))
        self.assertEqual(session.position, 0)  # no prompt was read
        with moka.load(LISTOPS) as other, other.session() as of_other:
            with self.raises(moka.UnsupportedError, "only language models"):
                next(of_other.reply([3, 4]))
            self.assertEqual(of_other.position, 0)

    def test_cancel_from_another_thread(self):
        session = self.session()
        reply = session.reply(PROMPT, max_tokens=100000, stop_at_end=False, loop_tokens=0)
        threading.Timer(0.1, session.cancel).start()
        with self.raises(moka.CancelledError, "cancelled"):
            reply.text()
        self.assertIsNone(reply.end)
        session.append([5])

    def test_closing_the_session_ends_it(self):
        with self.model.session() as session:
            reply = session.reply(PROMPT, max_tokens=50)
            next(reply)
        self.assertEqual(list(reply), [])

    def test_closing_while_the_prompt_is_read(self):
        session = self.session(0)
        before = session.save()
        reply = session.reply(array("i", [5]) * 2_000_000)
        thread = threading.Thread(target=lambda: list(reply))
        thread.start()
        while not session._handle._users:
            time.sleep(0.001)
        time.sleep(0.05)
        reply.close()
        thread.join(20)
        self.assertEqual(session.save(), before)

    def test_a_cancel_that_comes_too_late_ends_nothing_else(self):
        session = self.session(0, 1)
        before = session.save()
        session.cancel()
        with session._handle.use() as pointer:
            session._absorb(pointer)
        self.assertEqual(session.save(), before)
        session.append([5])
        with moka.load(FORECASTER) as model, model.session() as values:
            values.append([0.5, 0.25])
            values.cancel()
            with values._handle.use() as pointer:
                values._absorb(pointer)
            values.append([0.5])
            self.assertEqual(values.position, 3)


class Asynchronous(ModelCase):
    def run_async(self, work):
        return asyncio.run(asyncio.wait_for(work, 60))

    def test_the_same_text(self):
        async def read():
            reply = self.session().reply(PROMPT, max_tokens=30, seed=3)
            return [piece async for piece in reply], reply

        pieces, reply = self.run_async(read())
        self.assertEqual(pieces, list(self.session().reply(PROMPT, max_tokens=30, seed=3)))
        self.assertEqual((reply.end, reply.tokens), ("tokens", 30))

    def test_tasks_go_side_by_side(self):
        async def one(seed):
            with self.model.executor(threads=1) as executor:
                reply = self.model.session(executor).reply(PROMPT, max_tokens=20, seed=seed)
                return "".join([piece async for piece in reply])

        async def all_of_them():
            return await asyncio.gather(*(one(seed) for seed in range(4)))

        texts = self.run_async(all_of_them())
        for seed, text in enumerate(texts):
            self.assertEqual(text, self.session().reply(PROMPT, max_tokens=20, seed=seed).text())

    def test_cancelling_the_task_ends_it_behind_a_token(self):
        session = self.session()
        pieces = []

        async def read():
            async for piece in session.reply(PROMPT, max_tokens=100000, temperature=0):
                pieces.append(piece)

        async def cancel():
            task = asyncio.ensure_future(read())
            while len(pieces) < 3:
                await asyncio.sleep(0)
            task.cancel()
            try:
                await task
            except asyncio.CancelledError:
                return True

        self.assertTrue(self.run_async(cancel()))
        tokens = session.position - 1 - len(self.model.encode(PROMPT))
        self.assertIn(tokens - len(pieces), (0, 1))  # the one that was under way
        session.append([5])

    def test_cancelling_the_task_while_the_prompt_is_read(self):
        session = self.session(0)

        async def read():
            async for _ in session.reply(array("i", [5]) * 2_000_000):
                pass

        async def cancel():
            try:
                await asyncio.wait_for(read(), 0.1)
            except asyncio.TimeoutError:
                return True

        self.assertTrue(self.run_async(cancel()))
        self.assertEqual(session.position, 1)
        session.append([5])
        self.assertEqual(session.position, 2)

    def test_closing_the_iterator(self):
        session = self.session()

        async def read():
            reply = session.reply(PROMPT, max_tokens=100)
            async with reply:
                async for _ in reply:
                    break
            return reply

        reply = self.run_async(read())
        self.assertEqual((reply.end, reply.tokens), ("closed", 1))
        self.assertGreater(session.position, 0)

    def test_leaving_the_loop(self):
        session = self.session()

        async def read():
            async for _ in session.reply(PROMPT, max_tokens=100):
                break

        self.run_async(read())
        self.assertEqual(session.position, 2 + len(self.model.encode(PROMPT)))

    def test_the_event_loop_is_free(self):
        async def read():
            ticks = 0

            async def tick():
                nonlocal ticks
                while True:
                    ticks += 1
                    await asyncio.sleep(0.001)

            ticking = asyncio.ensure_future(tick())
            async for _ in self.session(0).reply([5] * 20_000, max_tokens=1):
                pass
            ticking.cancel()
            return ticks

        self.assertGreater(self.run_async(read()), 10)

    def test_errors_come_out(self):
        async def read():
            with self.raises(moka.FailedPreconditionError, "nothing was read"):
                async for _ in self.session().reply():
                    pass

        self.run_async(read())


INTERRUPTED = """
import signal, sys, moka
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have it ignored
with moka.load(sys.argv[1], threads=1) as model, model.session() as session:
    session.append([0])
    try:
        print("begin", flush=True)
        if sys.argv[2] == "prompt":
            session.append([5] * 10_000_000)
        elif sys.argv[2] == "rows":
            session.append_rows([5] * 100_000)
        elif sys.argv[2] == "read":
            model.read([5] * 100_000)
        else:
            for piece in session.reply([5] * 10, max_tokens=10**9, stop_at_end=False, loop_tokens=0):
                pass
    except KeyboardInterrupt:
        session.append([5])
        print("position", session.position if sys.argv[2] != "reply" else "kept", flush=True)
"""


class Interrupts(ModelCase):
    def test_ctrl_c(self):
        for what, said in (
            ("reply", "kept"),
            ("prompt", "2"),
            ("rows", "2"),
            ("read", "2"),
        ):
            with self.subTest(what):
                process = subprocess.Popen(
                    [sys.executable, "-c", INTERRUPTED, STORIES, what],
                    cwd=os.path.dirname(STORIES),  # not beside the package without a library
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                )
                try:
                    self.assertEqual(process.stdout.readline(), b"begin\n")
                    time.sleep(0.2)
                    os.kill(process.pid, signal.SIGINT)
                    out, err = process.communicate(timeout=30)
                finally:
                    process.kill()
                self.assertEqual((out.decode(), err.decode()), (f"position {said}\n", ""))
                self.assertEqual(process.returncode, 0)
