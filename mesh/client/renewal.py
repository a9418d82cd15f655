"""
When a connection is renewed: by us, and before its server says goodbye.

    READY --> age x 0.5 to 0.8 --> a second connection --> READY: takes over --> the first drains
                                                      \\--> cannot be had: the first stays

A server that limits the age of connections ends them by GOAWAY, and a call that is handed over just
as it arrives fails unsent, which grpcio cannot tell from a call that was processed.  Servers of the
mesh say their limit in the registry (meta max_connection_age, seconds); any other that is listed so
is treated alike.
"""

from __future__ import annotations

from random import Random

from discovery.model import Endpoint

META = "max_connection_age"
# Of the age: spread, so that the clients of a server do not come back all at once.
SOONEST, LATEST = 0.5, 0.8
# How long a second connection may take to stand; seconds.
PATIENCE = 20.0


def renewed_after(endpoint: Endpoint, rng: Random) -> float | None:
    """How old a connection to it becomes, seconds; None where its server names no limit."""
    age = age_of(endpoint)
    return None if age is None else age * rng.uniform(SOONEST, LATEST)


def age_of(endpoint: Endpoint) -> float | None:
    """The limit that its server names; what makes no sense names none."""
    try:
        age = float(endpoint.meta.get(META, ""))
    except ValueError:
        return None
    return age if 0.0 < age < float("inf") else None
