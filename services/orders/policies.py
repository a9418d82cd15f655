"""
How long the saga waits for whom, and what it does about silence.

Every call has a deadline and, inside it, room for a second server when the first hangs.  Asking
again is safe: commands carry the saga's request_id, everything else is idempotent by contract.
Behind the deadline the saga's own runner asks again, for as long as the order has time.
"""

from __future__ import annotations

from dataclasses import replace

from mesh import Policy

# Seconds for one call, all of its attempts included, and for one attempt.
QUICK, ATTEMPT = 2.0, 0.8
# A slow card takes two seconds: it gets as long as that twice.
PATIENT, CARD = 6.0, 2.9

INVENTORY = replace(Policy.production(), timeout=QUICK, attempt_timeout=ATTEMPT)
PAYMENTS = INVENTORY.override(
    "shop.payments.v1.PaymentService/ChargePayment", timeout=PATIENT, attempt_timeout=CARD
)
