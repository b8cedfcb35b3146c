"""`python -m sivt_lightning` is `sivt`."""

import sys

from sivt_lightning.cli import main

if __name__ == "__main__":
    sys.exit(main())
