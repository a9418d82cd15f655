"""
The strangler as operators see and move it, on the admin port.

    GET  /admin/strangler                                                  everything
    POST /admin/strangler  {"route": "products", "percent": 25}            hold it there
                           {"route": "products", "action": "resume"}       follow the plan again
                           {"route": "products", "action": "abort", "reason": "prices are wrong"}

Counts and samples are each process's own; standings and evidence are the same in all of them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, Literal

import msgspec

from gateway.exchange import JSON, Answer
from gateway.invalid import Invalid
from gateway.jsontext import dumps
from gateway.strangler import plan
from gateway.strangler.shift import Shift
from gateway.strangler.strangler import Strangler
from mesh.errors import PolicyError
from mesh.policy.section import convert

LONGEST_REASON = 200
# Of all processes' samples, the newest so many are shown.
MOST_SAMPLES = 100


class _Order(msgspec.Struct, forbid_unknown_fields=True):
    """What an operator asks for."""

    route: str
    percent: float | None = None
    action: Literal["resume", "abort"] | None = None
    reason: str = ""


def told(strangler: Strangler) -> dict[str, Any]:
    """What this process alone knows of each route, for `report` to add up."""
    return {name: _told(shift) for name, shift in strangler.shifts.items()}


def _told(shift: Shift) -> dict[str, Any]:
    sides: dict[str, dict[str, int]] = {}
    for (side, what), count in shift.counts.items():
        sides.setdefault(side, {})[what] = count
    shadows = shift.shadows
    return {
        "requests": sides,
        "shadows": dict(shadows.counts) if shadows is not None else {},
        "samples": list(shadows.samples) if shadows is not None else [],
    }


def report(strangler: Strangler, others: Iterable[Mapping[str, Any]] = ()) -> dict[str, Any]:
    """Every route, with what this process and the `others` have counted."""
    everyone = [told(strangler), *others]
    return {
        "refused": strangler.refused,
        "routes": [
            _reported(shift, [each[name] for each in everyone if name in each])
            for name, shift in strangler.shifts.items()
        ],
    }


def _reported(shift: Shift, counted: list[Mapping[str, Any]]) -> dict[str, Any]:
    route, standing = shift.route, shift.standing
    shown: dict[str, Any] = {
        "route": route.name,
        "match": [str(match) for match in route.match],
        "legacy": route.legacy,
        "key": str(route.key) if route.key is not None else "",
        "percent": standing.percent,
        "mode": standing.mode.value,
        "reason": standing.reason,
        "since": standing.since,
        "plan": [{"percent": step.percent, "dwell": step.dwell} for step in route.plan],
        "window": shift.total()._asdict(),
        "requests": {
            side: dict(
                sum((Counter(each["requests"].get(side, {})) for each in counted), Counter())
            )
            for side in ("legacy", "new")
        },
    }
    if standing.mode is plan.Mode.ABORTED:
        shown["aborted_at"] = standing.before
    if route.shadow is not None:
        samples = [sample for each in counted for sample in each["samples"]]
        samples.sort(key=lambda sample: sample["at"], reverse=True)
        shown["shadows"] = dict(sum((Counter(each["shadows"]) for each in counted), Counter()))
        shown["differences"] = samples[:MOST_SAMPLES]
    if shift.unshadowed:
        shown["not_shadowed"] = shift.unshadowed
    return shown


async def ordered(strangler: Strangler, body: bytes) -> Answer:
    """Do what an operator asks for, or Invalid; the answer says where the route stands now."""
    try:
        order = convert(msgspec.json.decode(body), _Order, "$")
    except (msgspec.DecodeError, UnicodeError) as error:
        raise Invalid(f"the body is not JSON: {error}", reason="INVALID_JSON") from None
    except PolicyError as error:
        raise Invalid(f"{error.value!r}: {error.why}", error.field) from None
    shift = strangler.shifts.get(order.route)
    if shift is None:
        known = ", ".join(strangler.shifts) or "none"
        raise Invalid(f"{order.route!r} is no route; there are: {known}", "route")
    if (order.percent is None) is (order.action is None):
        raise Invalid("either a percentage or an action is asked for", "percent")
    if len(order.reason) > LONGEST_REASON:
        raise Invalid(f"is longer than {LONGEST_REASON} characters", "reason")
    await strangler.move(order.route, _moving(shift, order, strangler.now()))
    standing = msgspec.to_builtins(shift.standing)
    # Not kept: in force in this process alone until the file can be written.
    told = {"route": order.route, **standing, "kept": strangler.book.settled}
    return Answer(200, list(JSON), dumps(told))


def _moving(shift: Shift, order: _Order, now: float) -> plan.Standing:
    route, standing = shift.route, shift.standing
    if order.percent is not None:
        try:
            return plan.hold(standing, order.percent, now, order.reason)
        except PolicyError as error:
            raise Invalid(f"{error.value!r} {error.why}", "percent") from None
    if order.action == "resume":
        return plan.resume(route.plan, standing, now)
    reason = order.reason or "by an operator"
    return plan.abort(route.plan, standing, now, reason, back=False)
