"""The package as of now, and the same as a newer and as an older version: for ways up and down."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from tests.packaging import artefacts

NEWER, OLDER = "99.1", "0.0.1"


@dataclass(frozen=True, slots=True)
class Packages:
    now: Path
    newer: Path
    older: Path


def built(folder: Path) -> Packages:
    """All three from the checkout as it is, copied to ``folder``: it may go on while they serve."""
    made = [artefacts.deb(version) for version in (None, NEWER, OLDER)]
    return Packages(*(Path(shutil.copy(each, folder)) for each in made))
