"""``python -m fastrobust``: the command line."""

import sys

from fastrobust.cli import main

if __name__ == "__main__":
    sys.exit(main())
