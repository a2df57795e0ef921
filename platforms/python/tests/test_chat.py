"""Chats: turns, files, ends."""

import asyncio
import os
import threading

import moka
from testing import LISTOPS, ModelCase


class Chats(ModelCase):
    def chat(self, **options):
        chat = self.model.chat(**options)
        self.addCleanup(chat.close)
        return chat

    def test_turns(self):
        chat = self.chat(temperature=0)
        self.assertEqual((chat.current, chat.turns, chat.path), (0, [], []))
        first = chat.append("There was a king.")
        reply = chat.reply(max_tokens=8)
        text = reply.text()
        self.assertEqual((reply.end, reply.tokens, reply.turn), ("tokens", 8, chat.current))
        path = chat.path
        self.assertEqual([turn.role for turn in path], ["user", "model"])
        self.assertEqual([turn.text for turn in path], ["There was a king.", text])
        self.assertEqual((path[1].parent, path[1].end, path[0].end), (first, "tokens", None))
        self.assertEqual(self.model.decode(path[1].tokens), text)
        self.assertTrue(path[1].kept)
        self.assertGreater(chat.kept_state_bytes, 0)
        self.assertEqual(len(chat.logits()), 8192)

        again = chat.retry(max_tokens=8, temperature=1.0, seed=5)
        other = again.text()
        self.assertEqual([turn.text for turn in chat.turns], ["There was a king.", text, other])
        self.assertEqual(chat.turn(again.turn).parent, first)
        self.assertEqual(chat.undo(), first)
        edited = chat.edit(first, "There was a queen.")
        self.assertEqual([turn.id for turn in chat.path], [edited])
        self.assertEqual(chat.switch_to(reply.turn), reply.turn)
        chat.remove(again.turn)
        with self.raises(moka.NotFoundError):
            chat.turn(again.turn)
        branched = chat.branch(0, "In a forest", role="system")
        self.assertEqual((chat.turn(branched).parent, chat.turn(branched).role), (0, "system"))

    def test_one_call_for_both_turns(self):
        a, b = self.chat(temperature=0), self.chat(temperature=0)
        a.append("There was a king.")
        self.assertEqual(a.reply(max_tokens=5).text(), b.reply("There was a king.", max_tokens=5).text())

    def test_files(self):
        chat = self.chat(seed=3)
        chat.reply("There was a king.", max_tokens=5).text()
        data, path = chat.save(), os.path.join(self.folder, "a.chat")
        chat.save_file(path)
        for saved in (data, path):
            other = self.chat(saved=saved)
            self.assertEqual([t.text for t in other.path], [t.text for t in chat.path])
        self.assertEqual(self.chat(saved=data).save(), data)
        expected = chat.reply(max_tokens=10).text()
        self.assertEqual(self.chat(saved=path).reply(max_tokens=10).text(), expected)
        with self.raises(moka.CorruptError):
            self.chat(saved=data[:-1])
        with self.raises(moka.NotFoundError):
            self.chat(saved=path + "x")
        with self.raises(moka.FailedPreconditionError):
            self.chat(saved=data, template=moka.Template(id="other"))

    def test_templates(self):
        template = moka.Template(id="t", user_prefix="Q: ", user_suffix="\nA:")
        chat = self.chat(template=template)
        chat.append("Who?")
        self.assertEqual(self.model.decode(chat.path[0].tokens), "Q: Who?\nA:")
        with self.raises(moka.InvalidArgumentError, "user_prefix has a character NUL"):
            self.chat(template=moka.Template(user_prefix="a\0b"))

    def test_leaving_the_loop_keeps_the_turn(self):
        chat = self.chat(temperature=0)
        pieces = []
        for piece in chat.reply("There was a king.", max_tokens=50):
            pieces.append(piece)
            if len(pieces) == 3:
                break
        self.assertEqual(chat.path[-1].text, "".join(pieces))
        self.assertEqual(chat.path[-1].end, "closed")

    def test_cancel_leaves_the_chat_as_it_was(self):
        chat = self.chat()
        first = chat.append("There was a king.")
        reply = chat.reply(max_tokens=100000, stop_at_end=False, loop_tokens=0)
        threading.Timer(0.1, chat.cancel).start()
        with self.raises(moka.CancelledError):
            reply.text()
        self.assertEqual((chat.current, len(chat.turns)), (first, 1))
        # A cancel that comes too late is used up by what sent it.
        chat.cancel()
        with chat._handle.use() as pointer:
            chat._absorb(pointer)
        chat.append("And a queen.")

    def test_asynchronous(self):
        chat = self.chat(temperature=0)

        async def read():
            return "".join([piece async for piece in chat.reply("There was a king.", max_tokens=5)])

        text = asyncio.run(read())
        self.assertEqual(chat.path[-1].text, text)

    def test_progress(self):
        told = []
        chat = self.chat(progress=lambda *what: told.append(what), state_budget_bytes=0)
        chat.append("There was a king. " * 20)
        self.assertIn((0, chat.turn(1).position, False), told)

        def fail(*what):
            raise KeyError("mine")

        chat = self.chat(progress=fail)
        with self.raises(KeyError, "mine"):
            chat.append("There was a king.")
        self.assertEqual(chat.turns, [])

    def test_errors(self):
        chat = self.chat()
        with self.raises(moka.FailedPreconditionError):
            chat.undo()
        with self.raises(moka.NotFoundError):
            chat.switch_to(99)
        with self.raises(moka.InvalidArgumentError, "role is 'robot'"):
            chat.append("a", role="robot")
        chat.close()
        with self.raises(moka.ClosedError, "the chat is closed"):
            chat.turns
        with moka.load(LISTOPS) as other:
            with self.raises(moka.UnsupportedError):
                other.chat()
