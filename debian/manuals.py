"""debian/manuals.py TREE DIRECTORY: kernlb's manual pages, written by the program in TREE."""

import sys
from pathlib import Path

tree, directory = (Path(each).resolve() for each in sys.argv[1:])
sys.path[:0] = [str(tree / "lib"), str(tree / "cp{}{}".format(*sys.version_info))]
sys.argv[1:] = [str(directory)]

from kernlb.cli.manual import main  # noqa: E402  (it is in the tree)

main()
