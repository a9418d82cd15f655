"""The shop's own pages on the gateway."""
