from hypothesis import settings

# A loaded machine is no reason to fail: only the overall timeout of a test counts.
settings.register_profile("mtdeblur", deadline=None)
settings.load_profile("mtdeblur")
