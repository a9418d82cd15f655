"""An instance of the inventory service: `python -m services.inventory`."""

import sys

from services.inventory.service import serve
from services.process import main

sys.exit(main("inventory", serve))
