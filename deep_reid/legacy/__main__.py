"""Starts the runner: ``python -m deep_reid.legacy``."""

import sys

from deep_reid.legacy.command import main

sys.exit(main(sys.argv[1:]))
