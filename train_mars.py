"""Train, evaluate and export a re-identification network on MARS.

python train_mars.py --mode=train     trains until Ctrl-C, or --number_of_steps
python train_mars.py --mode=eval      in a second terminal: scores each new checkpoint
python train_mars.py --mode=freeze    writes mars.pb, for Deep SORT

All modes and settings: python train_mars.py --help
"""

import sys

from deep_reid import cli

if __name__ == "__main__":
    sys.exit(cli.main("datasets.mars:Mars"))
