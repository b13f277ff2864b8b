"""`python -m router.simulator`: the same as `hearth simulate`."""

import sys

from router.cli.main import app

app(["simulate", *sys.argv[1:]], prog_name="hearth")
