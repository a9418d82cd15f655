"""An instance of the payments service: `python -m services.payments`."""

import sys

from services.payments.service import serve
from services.process import main

sys.exit(main("payments", serve))
