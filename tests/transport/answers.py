"""Every answer of the tables, by its name."""

from tests.transport.answers_fields import FIELDS
from tests.transport.answers_status import STATUS
from tests.transport.answers_wire import WIRE

ANSWERS = {**STATUS, **FIELDS, **WIRE}
assert len(ANSWERS) == len(STATUS) + len(FIELDS) + len(WIRE)
