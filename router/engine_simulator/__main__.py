"""`python -m router.engine_simulator`."""

import sys

from router.engine_simulator.options import parse
from router.engine_simulator.process import main

if __name__ == "__main__":
    sys.exit(main(parse()))
