"""
The sections of a service config: gRPC's own names where gRPC has them, ours beside them.

    gRPC's   retryPolicy  hedgingPolicy  outlier_detection_experimental  ring_hash_experimental ...
    ours     circuitBreaker  bulkhead  rateLimit  clientThrottle  adaptiveLimit  fallback
             faultInjection  subset  zones  slowStart  split
"""

from __future__ import annotations

from mesh.balance.least_request import LeastRequest
from mesh.balance.ring import RingHash
from mesh.balance.round_robin import RoundRobin
from mesh.balance.slow_start import SlowStart
from mesh.balance.split import Split
from mesh.balance.subset import Subset
from mesh.balance.zones import Zones
from mesh.errors import Code
from mesh.policy.adaptive import AdaptiveLimit
from mesh.policy.breaker import Breaker
from mesh.policy.bulkhead import Bulkhead
from mesh.policy.fallback import Fallback
from mesh.policy.fault import Abort, Delay, Fault
from mesh.policy.hedge import Hedge
from mesh.policy.limit import RateLimit
from mesh.policy.outlier import FailurePercentage, Outlier, SuccessRate
from mesh.policy.retry import Retry
from mesh.policy.section import CODES, SECONDS, Field, Section
from mesh.policy.throttle import ClientThrottle

RETRY = Section(
    Retry,
    # "MUST be specified" - gRFC A6, of these five
    Field("attempts", "maxAttempts", int, required=True),
    Field("base", "initialBackoff", SECONDS, required=True),
    Field("cap", "maxBackoff", SECONDS, required=True),
    Field("multiplier", "backoffMultiplier", float, required=True),
    Field("codes", "retryableStatusCodes", CODES, required=True),
    # Ours: a ratio other than retryThrottling's, and another cap on attempts.
    Field("budget", "tokenRatio", float),
    Field("limit", "attemptsLimit", int),
)
HEDGE = Section(
    Hedge,
    Field("attempts", "maxAttempts", int, required=True),
    Field("delay", "hedgingDelay", SECONDS, required=True),
    Field("codes", "nonFatalStatusCodes", CODES, required=True),
    Field("budget", "tokenRatio", float),
    Field("limit", "attemptsLimit", int),
)
BREAKER = Section(
    Breaker,
    Field("failures", "consecutiveFailures", int | None),
    Field("failure_rate", "failureRate", float),
    Field("slow_rate", "slowCallRate", float),
    Field("slow_seconds", "slowCallDuration", SECONDS),
    Field("window_calls", "windowCalls", int),
    Field("window_seconds", "window", SECONDS),
    Field("minimum_calls", "minimumCalls", int),
    Field("cooldown", "openTime", SECONDS),
    Field("growth", "openTimeMultiplier", float),
    Field("longest_cooldown", "maxOpenTime", SECONDS),
    Field("probes", "halfOpenPermits", int),
    Field("probe_seconds", "maxHalfOpenTime", SECONDS),
    Field("codes", "failureStatusCodes", CODES),
    Field("floor", "minimumDeadline", SECONDS),
)
BULKHEAD = Section(
    Bulkhead,
    Field("limit", "maxInFlight", int),
    Field("queue", "maxQueued", int),
    Field("wait", "maxWait", SECONDS),
)
RATE_LIMIT = Section(
    RateLimit,
    Field("rate", "callsPerSecond", float, required=True),
    Field("burst", "burst", int),
    Field("key", "metadataKey", str),
    Field("keys", "maxKeys", int),
)
CLIENT_THROTTLE = Section(
    ClientThrottle,
    Field("k", "multiplier", float),
    Field("window", "window", SECONDS),
    Field("minimum_calls", "minimumCalls", int),
    Field("force", "forcePass", SECONDS),
)
ADAPTIVE_LIMIT = Section(
    AdaptiveLimit,
    Field("initial", "initialLimit", int),
    Field("least", "minLimit", int),
    Field("most", "maxLimit", int),
    Field("interval", "interval", SECONDS),
    Field("samples", "minimumSamples", int),
    Field("tolerance", "tolerance", float),
    Field("smoothing", "smoothing", float),
    Field("retry_after", "retryAfter", SECONDS),
)
FALLBACK = Section(
    Fallback,
    Field("last_good", "lastGood", bool, required=True),
    Field("seconds", "maxAge", SECONDS),
    Field("entries", "maxEntries", int),
    Field("vary", "varyByMetadata", tuple[str, ...]),
    Field("codes", "statusCodes", CODES),
)
DELAY = Section(
    Delay,
    Field("seconds", "fixedDelay", SECONDS),
    Field("per_million", "perMillion", int),
    Field("by_header", "headerDelay", bool),
)
ABORT = Section(
    Abort,
    Field("code", "grpcStatus", Code),
    Field("per_million", "perMillion", int),
    Field("by_header", "headerAbort", bool),
)
FAULT = Section(
    Fault,
    Field("delay", "delay", DELAY),
    Field("abort", "abort", ABORT),
    Field("max_active", "maxActiveFaults", int),
)
SUCCESS_RATE = Section(
    SuccessRate,
    Field("stdev_factor", "stdevFactor", int),
    Field("enforcement_percentage", "enforcementPercentage", int),
    Field("minimum_hosts", "minimumHosts", int),
    Field("request_volume", "requestVolume", int),
)
FAILURE_PERCENTAGE = Section(
    FailurePercentage,
    Field("threshold", "threshold", int),
    Field("enforcement_percentage", "enforcementPercentage", int),
    Field("minimum_hosts", "minimumHosts", int),
    Field("request_volume", "requestVolume", int),
)
OUTLIER = Section(
    Outlier,
    Field("interval", "interval", SECONDS),
    Field("base_ejection_time", "baseEjectionTime", SECONDS),
    Field("max_ejection_time", "maxEjectionTime", SECONDS),
    Field("max_ejection_percent", "maxEjectionPercent", int),
    Field("success_rate", "successRateEjection", SUCCESS_RATE),
    Field("failure_percentage", "failurePercentageEjection", FAILURE_PERCENTAGE),
    Field("consecutive_errors", "consecutiveErrors", int),
    # "if unset, the algorithm is not run" - gRFC A50
    absent={"success_rate": None, "failure_percentage": None, "consecutive_errors": None},
)
ROUND_ROBIN = Section(RoundRobin, Field("weighted", "weighted", bool))
LEAST_REQUEST = Section(
    LeastRequest,
    Field("choices", "choiceCount", int),
    Field("latency", "latency", bool),
)
RING_HASH = Section(
    RingHash,
    Field("header", "requestHashHeader", str, required=True),
    Field("minimum_size", "minRingSize", int),
    Field("maximum_size", "maxRingSize", int),
)
SUBSET = Section(Subset, Field("size", "size", int), Field("seed", "seed", int))
ZONES = Section(
    Zones,
    Field("order", "order", tuple[str, ...], required=True),
    Field("failover_seconds", "failoverTime", SECONDS),
)
SLOW_START = Section(
    SlowStart,
    Field("window", "window", SECONDS),
    Field("least", "minShare", float),
    Field("aggression", "aggression", float),
)
SPLIT = Section(
    Split,
    Field("shares", "shares", dict[str, float], required=True),
    Field("by", "stickyByMetadata", str),
    Field("header", "versionMetadata", str),
)

# By the names that loadBalancingConfig has for them.
BALANCES = {
    "round_robin": ROUND_ROBIN,
    "least_request_experimental": LEAST_REQUEST,
    "ring_hash_experimental": RING_HASH,
}
OUTLIER_DETECTION = "outlier_detection_experimental"
