import os

# Each pytest worker runs PyTorch with one thread that does not spin: with a thread for every core in every
# worker, the threads wait for one another and the suite takes many times as long.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ["MTDEBLUR_CACHE"] = "off"  # tests leave nothing behind

from hypothesis import settings

# A loaded machine is no reason to fail: only the overall timeout of a test counts.
settings.register_profile("mtdeblur", deadline=None)
settings.load_profile("mtdeblur")
