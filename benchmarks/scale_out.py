"""Predicts training in a cluster: images/s by the number of workers, and the servers that it needs.

In a synchronous step, each process that trains reads all weights from the servers, computes, and
sends as many bytes of gradients. Nothing overlaps in this model, so it is a lower bound:

    step = time to compute + 2 * max(bytes / speed of a trainer, n * bytes / speed of all servers)

python benchmarks/scale_out.py --images_per_sec=94 [--gbit_per_sec 10] [--num_servers 1]
"""

import argparse
import dataclasses
import math
import pathlib
import sys

# Replaces this script's folder, where modules would be found under other names.
sys.path[0] = str(pathlib.Path(__file__).parents[1])

from benchmarks.workers import closing_all  # noqa: E402

NUM_WORKERS = (1, 2, 4, 8, 16, 32, 64)
# The servers' part of a step for which `num_servers_needed` adds servers.
SERVERS_SHARE = 0.1


@dataclasses.dataclass(frozen=True)
class Cluster:
    """A cluster that trains.

    Parameters
    ----------
    images_per_sec : float
        Of one process alone, measured.
    batch_size : int
        Of each process.
    num_bytes : int
        Of the weights, and of their gradients.
    bytes_per_sec : float
        That one machine can send, and receive at the same time.
    num_servers : int
        The weights are spread evenly over them.
    """

    images_per_sec: float
    batch_size: int
    num_bytes: int
    bytes_per_sec: float
    num_servers: int = 1

    @property
    def secs_to_compute(self):
        """Seconds of a step of one process alone."""
        return self.batch_size / self.images_per_sec

    def secs_to_transfer(self, num_trainers):
        """Return the seconds in which all read the weights, and send the gradients."""
        slowest = max(1, num_trainers / self.num_servers)
        return 2 * slowest * self.num_bytes / self.bytes_per_sec

    def secs_per_step(self, num_trainers):
        """Return the seconds of a synchronous step."""
        return self.secs_to_compute + self.secs_to_transfer(num_trainers)

    def speed(self, num_trainers):
        """Return the images/s of all processes."""
        return num_trainers * self.batch_size / self.secs_per_step(num_trainers)

    def num_servers_needed(self, num_trainers):
        """Return how many servers keep their part below `SERVERS_SHARE` of the time to compute."""
        secs_of_one = 2 * num_trainers * self.num_bytes / self.bytes_per_sec
        return max(1, math.ceil(secs_of_one / (SERVERS_SHARE * self.secs_to_compute)))


def main():
    """Print the bytes and a table."""
    args = parse_arguments()
    with closing_all() as start:
        num_bytes = start("benchmarks.in_tensorflow:WeightSize", num_classes=args.num_classes).ask(
            "num_bytes"
        )
    cluster = Cluster(
        args.images_per_sec,
        args.batch_size,
        num_bytes,
        args.gbit_per_sec * 1e9 / 8,
        args.num_servers,
    )
    print(
        f"Weights: {num_bytes / 2**20:.1f} MiB; each process that trains reads them in each step,"
    )
    print("and sends gradients of the same size.")
    print(f"A step of {args.batch_size} images takes {cluster.secs_to_compute:.2f} s to compute.\n")
    print(format_table(cluster, args.bytes_per_image))


def format_table(cluster, bytes_per_image):
    """Return a table in Markdown by the number of processes that train."""
    lines = [
        "| trainers | images/s | of n times one | servers' traffic, Gbit/s each way | data, MB/s "
        "| servers to take |",
        "|---|---|---|---|---|---|",
    ]
    for number in NUM_WORKERS:
        speed = cluster.speed(number)
        traffic = number * cluster.num_bytes / cluster.secs_per_step(number)
        lines.append(
            f"| {number} | {speed:.0f} | {speed / (number * cluster.images_per_sec):.2f} "
            f"| {traffic * 8 / 1e9:.2f} | {speed * bytes_per_image / 1e6:.1f} "
            f"| {cluster.num_servers_needed(number)} |"
        )
    return "\n".join(lines)


def parse_arguments():
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__.partition("\n")[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--images_per_sec", type=_positive(float), required=True, help="of one process, measured")
    add("--batch_size", type=_positive(int), default=128, help="images of each process in a step")
    add("--num_classes", type=_positive(int), default=1502, help="classes of the network")
    add("--gbit_per_sec", type=_positive(float), default=10.0, help="network of one machine")
    add("--num_servers", type=_positive(int), default=1, help="parameter servers")
    add("--bytes_per_image", type=_positive(float), default=3000.0, help="of an image file")
    return parser.parse_args()


def _positive(kind):
    def read(text):
        value = kind(text)
        if not 0 < value < math.inf:
            raise argparse.ArgumentTypeError(f"{text} must be positive and finite")
        return value

    read.__name__ = kind.__name__  # argparse names it in errors
    return read


if __name__ == "__main__":
    main()
