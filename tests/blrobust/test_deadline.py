import time

import pytest

from blrobust import deadline


def test_a_deadline():
    deadline.check()
    with deadline.until(None):
        deadline.check()
    with deadline.until(time.perf_counter() + 1000):
        deadline.check()
    with deadline.until(time.perf_counter()), pytest.raises(deadline.DeadlineError):
        deadline.check()
    deadline.check()
