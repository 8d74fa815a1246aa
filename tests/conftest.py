"""Settings for all tests."""

from hypothesis import HealthCheck, settings

# No deadline: a busy machine is no bug. Time is judged by counts and ratios where it matters.
settings.register_profile("default", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("thorough", parent=settings.get_profile("default"), max_examples=5000)
settings.load_profile("default")
