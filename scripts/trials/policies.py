"""The policies that trials are run with, by the name that their server processes know them by."""

from __future__ import annotations

from dataclasses import replace

from mesh import Policy, Retry

PRODUCTION = replace(Policy.production(), timeout=2.0, attempt_timeout=1.0)
# Nothing but retries within their budget: no breaker hides what they add to an outage.
RETRIES = Policy(timeout=2.0, attempt_timeout=1.0, retry=Retry(attempts=3))

POLICIES = {"production": PRODUCTION, "retries": RETRIES}
