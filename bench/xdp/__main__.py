"""What the XDP program costs a packet, beside floors of the same traffic in the same run.

    sudo make bench-xdp                     # 15 rounds, half an hour
    sudo make bench-xdp ARGS=--short        # 2 rounds of fewer packets, 90 s; for iterating
    sudo .venv/bin/python -m bench.xdp --only 'tcp-*/tunnel' --program new=/tmp/new.bpf.o

Runs on this machine's own kernel, in a network namespace of its own. Needs root, clang, gcc,
libbpf-dev, two processors (one is kept busy), and 6 GB of memory. Ends with status 1 if a case did
not take the path that it names; a missed bar is printed, not an error.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from bench.xdp.summary import summarize

HERE = Path(__file__).parent
OUT = HERE.parent / "out" / "xdp"
OBJECT = HERE.parent.parent / "kernlb" / "datapath" / "xdp" / "objects" / "kernlb.bpf.o"
LIMIT = 7200  # seconds, of a whole run


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.xdp", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--short", action="store_true", help="fewer packets, fewer floors")
    parser.add_argument("--rounds", type=int, help="default: 15, or 2 with --short")
    parser.add_argument("--only", metavar="TRAFFIC/CASE", help="a pattern, such as 'tcp-*/*'")
    parser.add_argument(
        "--program",
        action="append",
        metavar="NAME=OBJECT",
        help="what to measure; again for variants side by side (default: the one that is shipped)",
    )
    parser.add_argument("--cpu", type=int, default=1, help="where to run")
    parser.add_argument(
        "--quiet",
        type=int,
        metavar="SECONDS",
        help="wait so long for the other processors to be idle (default: 5, with --short 0)",
    )
    parser.add_argument("--csv", type=Path, default=OUT / "xdp.csv", help="where figures go")
    parser.add_argument("--markdown", action="store_true")
    return parser.parse_args()


def main() -> int:
    given = arguments()
    short: bool = given.short
    quiet = given.quiet if given.quiet is not None else 0 if short else 5
    command = [OUT / "xdpbench", "-d", OUT, "-o", given.csv, "-c", given.cpu, "-q", quiet]
    command += ["-r", given.rounds or (2 if short else 15)]
    command += ["-s"] if short else []
    command += ["-t", given.only] if given.only else []
    for program in given.program or [f"kernlb={OBJECT}"]:
        command += ["-p", program]
    subprocess.run(["make", "-s", "-C", HERE, f"OUT={OUT}"], check=True, timeout=300)
    done = subprocess.run([str(word) for word in command], timeout=LIMIT)
    if done.returncode:
        return 1
    print(summarize(given.csv, given.markdown))
    return 0


if __name__ == "__main__":
    sys.exit(main())
