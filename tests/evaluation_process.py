"""An evaluation as a process of its own, beside `training_process.py`."""

import argparse
import logging
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

import tiny
from training_process import draw_images

from deep_reid import evaluation
from deep_reid.errors import ReidError
from deep_reid.system import signals


def main():
    """Evaluate; exit as the scripts do."""
    parser = argparse.ArgumentParser()
    parser.add_argument("log_dir")
    parser.add_argument("eval_dir")
    parser.add_argument("--run_id", default="run")
    parser.add_argument("--timeout_secs", type=float, default=20)
    parser.add_argument("--keep_best", action="store_true")
    args = parser.parse_args()
    images, labels = draw_images()
    logging.basicConfig(
        level=logging.INFO, format="%(levelname)s %(message)s", stream=sys.stdout, force=True
    )
    try:
        with signals.handled():
            evaluation.eval_loop(
                tiny.preprocess,
                tiny.create_network_factory(False),
                images,
                labels,
                None,
                args.log_dir,
                args.eval_dir,
                run_id=args.run_id,
                num_galleries=2,
                eval_interval_secs=0.2,
                timeout_secs=args.timeout_secs,
                keep_best=args.keep_best,
            )
    except signals.Stopped as stop:
        return stop.exit_code
    except ReidError as error:
        logging.error("%s: %s", type(error).__name__, error)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
