"""
One call of a step, and what came of it: the only place that knows what `do` and `undo` may raise.

    returned                    Done: it happened
    Refused                     No: it did not, and will not (from a step that can be refused)
    Later                       NotYet: it will have to be asked again
    anything else, no answer    Lost: perhaps it happened; asked again with the same request_id
"""

import asyncio
import logging

from mesh.saga.course import Ask, Done, Lost, No, NotYet, Outcome
from mesh.saga.machine import Do
from mesh.saga.saga import Later, Refused, Saga

logger = logging.getLogger("mesh.saga")


async def call(saga: Saga, ask: Ask) -> Outcome:
    """Make the call that `ask` announced."""
    step = saga.steps[ask.command.step]
    forward = isinstance(ask.command, Do)
    function = step.do if forward else step.undo
    assert function, "only what has a call is called"
    try:
        async with asyncio.timeout(step.timeout):
            return Done(await function(ask.context))
    except Later as later:
        return NotYet(later.seconds)
    except Refused as refusal:
        if forward and step.kind != "retriable":
            return No(refusal.reason)
        cause = f"refused, where there is no way but on: {refusal.reason}"
    except TimeoutError:
        cause = f"no answer within {step.timeout} s"
    except Exception as error:  # noqa: BLE001 - whatever it is, nobody knows what happened
        cause = f"{type(error).__name__}: {error}"
    attempt = ask.context.attempts + 1
    logger.warning("saga %s: %s, attempt %d: %s", ask.context.id, ask.command, attempt, cause)
    return Lost(cause)
