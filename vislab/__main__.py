"""`python -m vislab` is the command `vislab`."""

import sys

from .cli import main

sys.exit(main())
