"""
What the head of a request must be, beyond what the HTTP server looks at (RFC 9110, RFC 9112).

The server refuses what cannot be framed: lengths that differ, chunks with a length, bare CR, folded
lines, space before a colon.  Left to us is what it takes and a proxy in front may take otherwise:
a coding beside "chunked", a Host that is missing, doubled or no host, a target that is no path.
Whoever sends one of these is told 400, and the connection ends.

What cannot be seen from here: a line that ends in LF alone ("a recipient MAY recognize a single LF
as a line terminator", RFC 9112 2.2), spaces after a chunk's size, what a chunk's extension says,
the host in an absolute-form target.  None of them changes where a request ends.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from gateway.status import Problem, problem
from mesh.errors import Code

# "uri-host [ ":" port ]" -- RFC 9110 7.2
_HOST = re.compile(
    rb"(?:(?:[A-Za-z0-9\-._~!$&'()*+,;=]|%[0-9A-Fa-f]{2})*|\[[0-9A-Fa-fv:.]+\])(?::[0-9]{0,5})?"
)


def size(scope: Mapping[str, Any]) -> int:
    """How many bytes the headers are; the Problem that the head is where it is not right."""
    total, hosts, codings = 0, 0, 0
    new = scope.get("http_version") == "1.1"
    for name, value in scope["headers"]:
        total += len(name) + len(value)
        if name == b"host":
            hosts += 1
            # The server makes an empty one of a missing one; in HTTP/1.1 neither is right: a
            # "http" URI with an empty host is to be refused -- RFC 9110 4.2.1
            if _HOST.fullmatch(value) is None or (new and not value):
                raise refused("the Host header is no host", "INVALID_HOST")
        elif name == b"transfer-encoding":
            codings += 1
            # "A sender MUST NOT apply the chunked transfer coding more than once", and no other is
            # known here -- RFC 9112 6.1
            if codings > 1 or value.strip(b" \t").lower() != b"chunked":
                raise refused("the transfer coding is not chunked alone", "INVALID_CODING")
    # "A server MUST respond with a 400 status code to any HTTP/1.1 request message that lacks a
    # Host header field and to any request message that contains more than one" -- RFC 9112 3.2
    if hosts != 1 and (hosts or new):
        raise refused("there must be one Host header", "INVALID_HOST")
    target: bytes = scope["raw_path"]
    if target[:1] != b"/" and not (target == b"*" and scope.get("method") == "OPTIONS"):
        raise refused("the request's target is no path", "INVALID_TARGET")
    return total


def refused(message: str, reason: str) -> Problem:
    """400 to somebody who may have sent more than one request in one."""
    headers = [("connection", "close")]
    return problem(Code.INVALID_ARGUMENT, message, reason=reason, headers=headers)
