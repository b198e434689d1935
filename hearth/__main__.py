"""`python -m hearth` is the command line."""

import sys

from hearth.cli import main

sys.exit(main())
