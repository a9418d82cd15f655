"""
Strangling an old HTTP service: its routes move to gRPC by percent, watched, and back by themselves.

    configuration -> Route (split, key, plan, shadow, abort) -> Shift, one a route -> Strangler

Pure, and tested with tables: split, plan, abort, comparing, evidence.  With sockets: legacy,
shadow.  See gateway.strangler.configuration for the file that turns it on.
"""
