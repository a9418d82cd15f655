"""The shop of before: an HTTP service that the gateway strangles, route by route."""
