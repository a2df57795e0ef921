"""Runs the tests against the package on PYTHONPATH, and says how many passed in a line that
cmake/setup.sh reads.

    python3 tests/run.py [MODULE, CLASS OR CASE...]
"""

import os
import sys
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))


class Result(unittest.TextTestResult):
    passed = 0

    def addSuccess(self, test):
        super().addSuccess(test)
        self.passed += 1


def main() -> int:
    names = [name.replace("tests.", "", 1) for name in sys.argv[1:]]
    loader = unittest.TestLoader()
    suite = loader.loadTestsFromNames(names) if names else loader.discover(HERE, "test_*.py")
    result = unittest.TextTestRunner(verbosity=2, resultclass=Result).run(suite)
    for test, reason in result.skipped:
        print(f"skipped: {test}: {reason}", file=sys.stderr)
    # A module or class that could not be set up is an error of its own.
    failed = len(result.failures) + len(result.errors) + len(result.unexpectedSuccesses)
    print(f"test cases: {result.passed + failed} | {result.passed} passed | {failed} failed")
    return 0 if result.wasSuccessful() and result.passed else 1


if __name__ == "__main__":
    sys.exit(main())
