"""`python -m router.simulator`: the same as `hearth simulate`."""

import sys

from router.simulator.command import main

sys.exit(main())
