"""Starts the runner: ``python -m deep_reid.legacy``."""

import sys

from deep_reid.legacy.command import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
