"""Train, evaluate and export a re-identification network on your own images.

python train_custom.py --dataset=DIR --mode=train    trains until Ctrl-C, or --number_of_steps
python train_custom.py --mode=eval                   in a second terminal: scores each checkpoint
python train_custom.py --mode=freeze                 writes custom.pb, for Deep SORT

DIR has one folder of images per identity. It may also be a CSV file with the columns
path,identity[,camera][,split], or a MOTChallenge sequence; see docs/own-data.md.

All modes and settings: python train_custom.py --help
"""

import sys

from deep_reid import cli

if __name__ == "__main__":
    sys.exit(cli.main("datasets.custom:Custom"))
