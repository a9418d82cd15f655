"""The old shop: `python -m services.legacy --port 8090`."""

import sys

from services.legacy.service import serve
from services.process import main

sys.exit(main("legacy", serve))
