"""An instance of the orders service: `python -m services.orders`."""

import sys

from services.orders.service import serve
from services.process import main

sys.exit(main("orders", serve))
