"""`python -m fastrnn`: the `fastrnn` command."""

import sys

from fastrnn.cli import main

sys.exit(main())
