"""The binary interface: layouts, names, and libraries that are refused."""

import ctypes
import ctypes.util
import os
import re
import subprocess
import sys
import unittest
from types import SimpleNamespace

import moka
from moka import _abi, errors
from moka._library import lib
from testing import DATA, TREE


def import_with(library):
    """What importing moka with MOKA_LIBRARY ends with: its last line."""
    done = subprocess.run(
        [sys.executable, "-c", "import moka"],
        env={**os.environ, "MOKA_LIBRARY": library},
        capture_output=True,
        check=False,
        text=True,
    )
    return done.returncode, done.stderr.strip().splitlines()[-1]


class Library(unittest.TestCase):
    @unittest.skipIf(ctypes.sizeof(ctypes.c_void_p) != 8, "the table is of 64-bit systems")
    def test_structs_are_laid_out_as_in_the_header(self):
        with open(os.path.join(DATA, "capi/layout64.txt")) as file:
            rows = dict((name, tuple(map(int, rest))) for name, *rest in map(str.split, file))
        checked = 0
        for name, kind in _abi.STRUCTS.items():
            if kind._fields_[0][0] == "struct_size":  # it may have grown
                self.assertLessEqual(ctypes.sizeof(kind), rows[name][1], name)
            else:
                self.assertEqual(ctypes.sizeof(kind), rows[name][1], name)
            for field, *_ in kind._fields_:
                found = getattr(kind, field)
                self.assertEqual(rows[f"{name}.{field}"], (found.offset, found.size), field)
                checked += 1
        self.assertGreater(checked, 90)

    def test_functions_are_those_that_the_library_exports(self):
        with open(os.path.join(TREE, "platforms/capi/moka.symbols")) as file:
            exported = set(file.read().split())
        called = {"moka_" + name for name in _abi.PROTOTYPES}
        self.assertEqual(called - exported, set())
        self.assertGreater(len(called), 80)

    def test_arguments_are_as_many_as_in_the_headers(self):
        folder = os.path.join(TREE, "platforms/capi/include")
        text = ""
        for name in sorted(os.listdir(folder)):
            with open(os.path.join(folder, name)) as file:
                text += re.sub(r"//.*", "", file.read())
        found = dict(re.findall(r"MOKA_API [^;(]*?\b(moka_\w+)\(([^;]*)\);", text))
        for name, (_, arguments) in _abi.PROTOTYPES.items():
            declared = found["moka_" + name].strip()
            count = 0 if declared == "void" else declared.count(",") + 1
            self.assertEqual(len(arguments), count, name)

    def test_versions(self):
        with open(os.path.join(TREE, "runtime/include/moka/version.h")) as file:
            found = re.search(r'MOKA_VERSION_STRING "(.+)"', file.read())
        self.assertEqual(moka.version(), found.group(1))
        self.assertEqual(moka.__version__, found.group(1))
        self.assertEqual(moka.format_version(), 1)

    def test_there_is_an_error_for_every_status(self):
        for code in range(1, 12):
            name = lib.moka_status_name(code).decode()
            kind = errors.BY_CODE[code]
            self.assertEqual(kind.__name__, "".join(map(str.title, name.split("_"))) + "Error")
            self.assertEqual(kind.code, code)
            self.assertTrue(issubclass(kind, moka.MokaError))
        self.assertEqual(lib.moka_status_name(12), b"unknown")
        newer = errors.error_of(99, "words")
        self.assertIs(type(newer), moka.MokaError)
        self.assertEqual(str(newer), "status 99: words")

    def test_a_library_that_is_not_there(self):
        code, words = import_with("/no/such/libmoka.so")
        self.assertEqual(code, 1)
        self.assertIn("LibraryError: libmoka was not found.", words)
        self.assertIn("Tried: /no/such/libmoka.so: no such file", words)

    def test_a_library_that_is_another(self):
        code, words = import_with(ctypes.util.find_library("c"))
        self.assertEqual(code, 1)
        self.assertIn("is not Moka's: it has no moka_abi_version", words)

    def test_a_library_of_another_version(self):
        from moka import _library

        def version(abi):
            return type("Function", (), {"__call__": lambda self: abi})()

        with self.assertRaisesRegex(moka.LibraryError, "has the ABI version 2, this package needs 1"):
            _library._check(SimpleNamespace(moka_abi_version=version(2)), "x.so")
        with self.assertRaisesRegex(moka.LibraryError, "has no moka_.*: it is older than this package"):
            _library._check(SimpleNamespace(moka_abi_version=version(1)), "x.so")
