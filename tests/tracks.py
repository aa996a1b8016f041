"""Small MOTChallenge sequences, written by hand."""

import cv2
import numpy as np

HEIGHT, WIDTH = 48, 96


def walk(num_frames, tracks=(1, 2)):
    """Boxes of persons who walk: rows of frame, track, left, top, width, height."""
    return [
        (frame, track, 4.0 * track + 2.0 * frame, 6.0 * track, 8.0, 16.0)
        for track in tracks
        for frame in range(1, num_frames + 1)
    ]


def write_rows(path, rows, ending):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(",".join(map(str, row)) + f",{ending}\n" for row in rows))


def write_frames(folder, num_frames, first=1):
    folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    for frame in range(first, first + num_frames):
        image = random.integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
        cv2.imwrite(str(folder / f"{frame:06d}.png"), image)


def write_sequence(folder, num_frames=8, rows=None, with_detections=True, with_truth=True):
    """Write a sequence; the detections are the truth itself."""
    rows = walk(num_frames) if rows is None else rows
    write_frames(folder / "img1", num_frames)
    if with_truth:
        write_rows(folder / "gt" / "gt.txt", rows, "1,1,1.0")
    if with_detections:
        found = [(frame, -1, *box) for frame, _, *box in sorted(rows)]
        write_rows(folder / "det" / "det.txt", found, "0.9,-1,-1,-1")
    return folder
