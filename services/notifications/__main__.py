"""An instance of the notifications service: `python -m services.notifications`."""

import sys

from services.notifications.service import serve
from services.process import main

sys.exit(main("notifications", serve))
