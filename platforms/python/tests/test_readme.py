"""What README.md and the example say works, as it is written there."""

import os
import re
import subprocess
import sys
import tempfile
import unittest

from testing import STORIES, TREE, command

HERE = os.path.join(TREE, "platforms/python")


def run(*arguments, input=""):
    done = subprocess.run(
        [sys.executable, *arguments],
        input=input,
        capture_output=True,
        check=False,
        cwd=TREE,
        text=True,
    )
    return done.returncode, done.stdout, done.stderr


class Readme(unittest.TestCase):
    def test_the_first_lines(self):
        with open(os.path.join(HERE, "README.md")) as file:
            blocks = re.findall(r"<!-- test -->\n```python\n(.*?)```", file.read(), re.DOTALL)
        self.assertEqual(len(blocks), 1)
        code, out, err = run("-c", blocks[0])
        self.assertEqual((code, err), (0, ""))
        lines = out.splitlines()
        told = command(
            *("run", STORIES, "-p", "Once upon a time", "-n", "60"),
            *("--temperature", "0.8", "--seed", "3"),
        )
        self.assertEqual("Once upon a time" + "\n".join(lines[:-1]) + "\n", told.decode())
        self.assertRegex(lines[-1], r"^4 0\.9\d\d$")

    def test_every_name_in_the_table_is_there(self):
        import moka

        with open(os.path.join(HERE, "README.md")) as file:
            text = file.read()
        for name in ("Session", "Model", "Chat"):
            rows = [row for row in text.splitlines() if f"`{name}`:" in row]
            for row in rows:
                for method in re.findall(r"`([a-z_]+)(?:\(\))?`", row.split(f"`{name}`:")[1]):
                    kind = getattr(moka, name)
                    if not hasattr(kind, method):
                        self.assertIn(f"self.{method}", _source(kind), method)

    def test_the_example(self):
        with tempfile.TemporaryDirectory() as folder:
            saved = os.path.join(folder, "a.chat")
            story = os.path.join(HERE, "examples/story.py")
            code, out, err = run(
                *(story, STORIES, "--seed", "3", "--tokens", "12"),
                input=f"There was a king.\n\n/undo\n/retry\n/save {saved}\n/undo\n/undo\n/quit\nnot read\n",
            )
            self.assertEqual(code, 0)
            self.assertIn("stories, seed 3.", err)
            self.assertGreaterEqual(len([line for line in out.splitlines() if line]), 3)
            self.assertIn("(", err)  # there is nothing to undo at the end
            self.assertTrue(os.path.exists(saved))


class Types(unittest.TestCase):
    def test_mypy_finds_nothing(self):
        code, _, _ = run("-c", "import mypy")
        if code != 0:
            self.skipTest("mypy is not installed")
        done = subprocess.run(
            [sys.executable, "-m", "mypy", "--cache-dir", os.devnull],
            cwd=HERE,
            capture_output=True,
            check=False,
            text=True,
        )
        self.assertEqual(done.returncode, 0, done.stdout)


def _source(kind):
    import inspect

    return inspect.getsource(kind)
