"""An instance of the auditor: `python -m services.audit`."""

import sys

from services.audit.service import serve
from services.process import main

sys.exit(main("audit", serve))
