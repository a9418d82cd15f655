"""How long the auditor waits for whom: a feed is read for as long as it has something to tell."""

from __future__ import annotations

from mesh import Policy

# Seconds for one page, and for a whole feed.
PAGE, FEED = 10.0, 300.0

BOOKS = Policy.production().override(
    "proxyless.events.v1.EventFeed/Follow", timeout=FEED, attempt_timeout=None
)
