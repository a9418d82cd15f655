"""Outlier detection (gRFC A50)."""


class Tally:
    """What one endpoint answered in the present interval."""
