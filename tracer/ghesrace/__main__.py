# SPDX-License-Identifier: Apache-2.0
"""`python -m ghesrace` runs the command where its script is not on PATH, as in a lab guest."""

import sys

from .cli import main

if __name__ == "__main__":
    sys.exit(main())
