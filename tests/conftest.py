"""What holds for all tests: properties are judged by what they find, not by the host's speed."""

from hypothesis import HealthCheck, settings

# On a busy host an example takes as long as it takes, and so does making one: by hypothesis' own
# clocks (0.2 s an example, a second for the first) a property fails now and then without fault.
settings.register_profile(
    "house", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)
settings.load_profile("house")
