"""`python -m vislab` is the command `vislab`."""

import sys

from .cli.main import main

sys.exit(main())
