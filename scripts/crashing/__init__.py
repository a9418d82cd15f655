"""The crash matrix: one order, one service killed at its Nth write, and what must be true then."""
