"""
Fakes the mesh tests itself with, for the tests of its users: a clock, dice, and a driver.

    assert play(stack(retrying(Retry(), Ceiling())), DOWN, "ok") == [
        "attempt 1", Sleep(0.06), "attempt 2", "ok"]
"""

from mesh.testing.clock import Ceiling, Clock
from mesh.testing.play import Play, play

__all__ = ["Ceiling", "Clock", "Play", "play"]
