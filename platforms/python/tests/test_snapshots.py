"""Prefix snapshots, and guesses of what comes next."""

import os
import shutil
import tempfile

import moka
from testing import STORIES, ModelCase, command

PREFIX = "There was once a king who had three sons."


class Snapshots(ModelCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        path = os.path.join(folder.name, "king.moka")
        shutil.copyfile(STORIES, path)
        command("snapshot", "add", path, "--name", "king", "-p", PREFIX)
        cls.king = moka.load(path, threads=1)
        cls.addClassCleanup(cls.king.close)

    def test_info_has_them(self):
        self.assertEqual(self.model.info.snapshots, ())
        (found,) = self.king.info.snapshots
        self.assertEqual((found.name, found.text, found.usable), ("king", PREFIX, True))
        self.assertGreater(found.position, 5)
        self.assertGreater(found.bytes, 100_000)

    def test_a_session_begins_behind_the_prefix(self):
        (found,) = self.king.info.snapshots
        with self.king.session() as session, self.king.session() as read:
            session.restore_snapshot("king")
            read.append(PREFIX)
            self.assertEqual(session.position, found.position)
            self.assertEqual(session.save(), read.save())
            with self.raises(moka.NotFoundError, "queen"):
                session.restore_snapshot("queen")
            with self.raises(moka.InvalidArgumentError, "NUL"):
                session.restore_snapshot("a\0b")
            self.assertEqual(session.position, found.position)

    def test_a_chat_begins_behind_the_prefix(self):
        with self.king.chat(snapshot="king", temperature=0) as chat:
            self.assertEqual(chat.snapshot, "king")
            text = chat.reply(" They", max_tokens=8).text()
            self.assertGreater(chat.path[-1].position, self.king.info.snapshots[0].position)
            with self.king.chat(saved=chat.save()) as again:
                self.assertEqual(again.snapshot, "king")
                self.assertEqual(again.path[-1].text, text)
        with self.king.chat() as chat:
            self.assertIsNone(chat.snapshot)
        with self.raises(moka.NotFoundError, "queen"):
            self.king.chat(snapshot="queen")


class Guesses(ModelCase):
    def repeating(self):
        """What makes the model write one word again and again."""
        (king,) = self.model.encode(" king")[-1:]
        return {"max_tokens": 40, "temperature": 0, "bias": {king: 100.0}}

    def test_the_text_is_the_same_in_fewer_passes(self):
        plain = self.session().reply("The", **self.repeating())
        text = plain.text()
        self.assertEqual((text, plain.drafted, plain.accepted), (" king" * 40, 0, 0))
        reply = self.session().reply("The", lookup=4, **self.repeating())
        self.assertEqual(reply.text(), text)
        self.assertEqual((reply.end, reply.tokens), ("tokens", 40))
        self.assertGreater(reply.accepted, 10)
        self.assertGreaterEqual(reply.drafted, reply.accepted)

    def test_in_a_chat(self):
        with self.model.chat() as chat:
            reply = chat.reply("The", lookup=4, **self.repeating())
            self.assertEqual(reply.text(), " king" * 40)
            self.assertGreater(reply.accepted, 10)

    def test_too_many(self):
        with self.raises(moka.InvalidArgumentError, "17"):
            self.session().reply("a", lookup=17).text()
