"""What the benchmarks' workers run in tests: free of TensorFlow, so that they start at once."""

import os
import time


class Sleeper:
    """What a worker may be asked for."""

    def __init__(self, secs=0.0, reason=None, mark=None):
        if reason is not None:
            raise RuntimeError(reason)
        if mark is not None:
            mark.touch()
        self._secs = secs

    def measure(self, count):
        if self._secs < 0:
            raise ValueError("less than nothing\nand more")
        time.sleep(self._secs * count)
        return self._secs

    def read(self, name):
        return os.environ.get(name)

    def die(self):
        os._exit(3)

    def pid(self):
        return os.getpid()
