"""What a strangled route is told, and what its old service is: frozen rules, checked when made."""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import urlsplit

from gateway.rule import Template
from gateway.strangler.abort import Abort
from gateway.strangler.comparing import Pointer
from gateway.strangler.key import Key
from gateway.strangler.plan import Plan
from mesh.errors import PolicyError
from mesh.policy import checks
from mesh.policy.config import Policy


@dataclass(frozen=True, kw_only=True, slots=True)
class System:
    """An old HTTP service."""

    # http://host:port and, where it has one, the path that stands before all of its own.
    url: str
    # s: the longest that an answer may take to begin, and each piece of a long one.
    timeout: float = 10.0
    # To this many connections at the same time.
    connections: int = 100
    # Bytes of one answer; what is larger is cut off.
    answer_bytes: int = 64 * 1024 * 1024
    # What may go wrong with it; Policy.production() with `timeout` unless told.
    policy: Policy | None = None

    def __post_init__(self) -> None:
        checks.above_zero("system", timeout=self.timeout)
        checks.whole("system", 1, 10_000, connections=self.connections)
        checks.whole("system", 1, answer_bytes=self.answer_bytes)
        try:
            parts = urlsplit(self.url)
            known = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        except ValueError:
            known = False
        if not known or parts.query or parts.fragment or parts.username:
            raise PolicyError("system.url", self.url, "is not a URL like http://127.0.0.1:8900")


@dataclass(frozen=True, kw_only=True, slots=True)
class Shadow:
    """
    The side that does not answer is asked too, and what it says is compared.

    Only where the contract says NO_SIDE_EFFECTS; the answer never waits for it.
    """

    # Of the requests, so many percent.
    percent: float = 100.0
    # s: the longest that it may take.
    timeout: float = 1.0
    # In flight at the same time in one process; one more is not made, and counted as dropped.
    limit: int = 20
    # Places that may differ; see gateway.strangler.comparing.
    ignore: tuple[Pointer, ...] = ()
    empty_is_absent: bool = False
    # So many of the newest differing answers are kept for operators, in each process.
    samples: int = 20

    def __post_init__(self) -> None:
        checks.between("shadow", 0, 100, percent=self.percent)
        checks.above_zero("shadow", timeout=self.timeout)
        checks.whole("shadow", 1, 1000, limit=self.limit)
        checks.whole("shadow", 0, 100, samples=self.samples)


@dataclass(frozen=True, kw_only=True, slots=True)
class Match:
    """An HTTP method and a path, as the contract or the old service writes them."""

    http_method: str
    template: Template

    def __str__(self) -> str:
        return f"{self.http_method} {self.template}"

    @property
    def shape(self) -> tuple[object, ...]:
        """What two matches for the same requests have in common."""
        return (self.http_method, self.template.flat(), self.template.verb)


@dataclass(frozen=True, kw_only=True, slots=True)
class Route:
    """Paths that move together, and how."""

    name: str
    legacy: str
    match: tuple[Match, ...]
    # What keeps a request on its side; without one it moves with the last.
    key: Key | None = None
    # What deals the keys into buckets: routes with one salt move the same customers.
    salt: str = ""
    plan: Plan = ()
    shadow: Shadow | None = None
    abort: Abort | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Configuration:
    """Everything that the file says."""

    systems: dict[str, System] = field(default_factory=dict)
    routes: tuple[Route, ...] = ()
    # The response header that tells which side has answered; "" is none.
    served_by: str = ""
