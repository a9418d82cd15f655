"""What the gateway allows and how long it waits: one record, every field with its unit."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """
    Defaults an engineer would sign for production.

    `body_bytes`       largest request body, and the largest message made of it: gRPC's own default
    `header_bytes`     all request headers together
    `body_seconds`     how long a client may take to send its body
    `timeout`          seconds a unary call may take when the client does not say (Grpc-Timeout)
    `max_timeout`      the most that Grpc-Timeout may ask for, in seconds
    `branch_seconds`   how long one branch of a page may take
    `ping_seconds`     silence on an event stream before a comment keeps it open
    `leave_seconds`    how soon it is noticed that a client has gone
    `write_seconds`    how long a client may take to read one piece of its answer
    `inflate_ratio`    a gzip body may hold so many times its own size (64 KiB are always allowed)
    `connections`      how many clients may be connected; one more waits to be accepted
    `streams`          how many streams and WebSockets are open at the same time; one more is 503
    `requests`         how many requests are served at the same time; one more is 503
    `drain_seconds`    how long a stopping gateway waits for the requests it serves
    """

    body_bytes: int = 4 * 1024 * 1024
    header_bytes: int = 32 * 1024
    body_seconds: float = 10.0
    timeout: float = 30.0
    max_timeout: float = 3600.0
    branch_seconds: float = 1.0
    ping_seconds: float = 15.0
    leave_seconds: float = 0.02
    write_seconds: float = 10.0
    inflate_ratio: int = 100
    connections: int = 10_000
    streams: int = 500
    requests: int = 1000
    drain_seconds: float = 8.0
