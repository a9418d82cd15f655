"""The feed that notifications follow is a stream without an end: nothing may time it out."""

from __future__ import annotations

from mesh import Policy

FEED = Policy.production().override(
    "proxyless.events.v1.EventFeed/Follow", timeout=None, attempt_timeout=None, bulkhead=None
)
