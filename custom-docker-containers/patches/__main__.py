"""Make the named patches below a directory, in order. The first that cannot be made ends the build.

usage: python3 -m patches ROOT NAME...      names may also come in one argument, with blanks between them
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

from patches.patching import Patch, PatchError, apply


def main(arguments: list[str]) -> int:
    """The exit code: 0 all made, 1 one of them not, 2 wrong usage."""
    if len(arguments) < 2:
        print(__doc__, file=sys.stderr)
        return 2
    root, *words = arguments
    for name in " ".join(words).split():
        try:
            patch: Patch = importlib.import_module(f"patches.{name}").PATCH
            apply(patch, Path(root))
        except ModuleNotFoundError:
            print(f"patch {name}: there is no patch of that name", file=sys.stderr)
            return 2
        except PatchError as error:
            print(f"patch {name}: {error}", file=sys.stderr)
            return 1
        print(f"patch {name}: {patch.file}, {len(patch.changes)} change(s)")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
