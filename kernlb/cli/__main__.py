"""``python -m kernlb.cli``: the same as ``kernlb``."""

from kernlb.cli import main

main()
