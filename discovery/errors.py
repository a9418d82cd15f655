"""
The one error discovery raises: who or what could not be found, named with the offending value.
"""


class DiscoveryError(Exception):
    """A registry that cannot be used as asked: a bad URL or setting, or a refused registration."""
