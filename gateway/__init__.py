"""
HTTP in, gRPC out: routes, messages and documentation come from the services' own descriptors.

    python -m gateway                                     serves what the registry knows

    async with Gateway(registry).serving(port=0) as url:  the same, embedded
"""
