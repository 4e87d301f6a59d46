"""For all tests: what a property holds for is drawn, and no example is held to the wall clock."""

from hypothesis import settings

settings.register_profile("patient", deadline=None)
settings.load_profile("patient")
