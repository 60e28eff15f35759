"""The command line: one file a command group, each loaded when it is first used.

Importing this package imports nothing else, so that the console script starts at once.
"""

from __future__ import annotations


def main() -> None:
    """Entry point of ``kernlb``."""
    import gc
    import sys

    gc.disable()  # imports make many objects and hardly any garbage
    from kernlb.cli.quick import quick

    code = quick(sys.argv[1:])
    if code is None:
        from kernlb.cli.app import run

        gc.enable()
        code = run(sys.argv[1:])
    sys.exit(code)
