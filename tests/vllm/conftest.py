"""How the shipped Compose files are run is described once, for the tests of those files."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "compose"))
