"""`python -m demo`."""

import sys

from demo.demo import main

sys.exit(main())
