"""python -m kernlb.daemon."""

import sys

from kernlb.daemon import main

sys.exit(main())
