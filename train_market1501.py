"""Train, evaluate and export a re-identification network on Market-1501.

python train_market1501.py --mode=train     trains until Ctrl-C, or --number_of_steps
python train_market1501.py --mode=eval      in a second terminal: scores each new checkpoint
python train_market1501.py --mode=freeze    writes market1501.pb, for Deep SORT

All modes and settings: python train_market1501.py --help
"""

import sys

from deep_reid import cli

if __name__ == "__main__":
    sys.exit(cli.main("datasets.market1501:Market1501"))
