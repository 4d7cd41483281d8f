# SPDX-License-Identifier: GPL-2.0-only
"""Prints KTAP: tests are functions, run in the order in which they are defined."""

import sys
import traceback

tests = []


class Skip(Exception):
    """Raised by a test that cannot run here; says why."""


def test(function):
    """Decorator."""
    tests.append(function)
    return function


def run():
    """Runs them all; a string that one returns is shown behind its result."""
    print(f"KTAP version 1\n1..{len(tests)}")
    bad = 0
    for number, function in enumerate(tests, 1):
        name = function.__name__
        try:
            said = function()
            print(f"ok {number} {name}" + (f" # {said}" if said else ""))
        except Skip as why:
            print(f"ok {number} {name} # SKIP {why}")
        except Exception as error:
            bad += 1
            for line in traceback.format_exc().splitlines():
                print("# " + line)
            print(f"not ok {number} {name} # {str(error).splitlines()[0] if str(error) else type(error).__name__}")
        sys.stdout.flush()
    sys.exit(bad > 0)
