"""Tracks on frames, and videos."""

import cv2
import numpy as np
import pytest
from tracks import HEIGHT, WIDTH, write_frames

from deep_reid.errors import DataError, RunError
from deep_reid.tracking import pictures


def list_frames(folder):
    return {int(path.stem): path for path in sorted(folder.iterdir())}


def test_a_track_has_always_one_color_and_its_neighbours_have_others():
    colors = [pictures.color_of(track) for track in range(1, 200)]
    assert colors == [pictures.color_of(track) for track in range(1, 200)]
    assert len(set(colors)) == len(colors)
    distances = np.abs(np.diff(np.array(colors), axis=0)).max(axis=1)
    assert distances.min() > 60


def test_boxes_are_drawn_in_their_colors_also_far_outside():
    image = np.zeros((360, 640, 3), np.uint8)
    boxes = np.array([[7, 100, 100, 60, 120], [8, -1e12, -1e12, 2e12, 5e11], [9, 630, 350, 9, 9]])
    drawn = pictures.draw(image, boxes)
    assert drawn is image
    assert tuple(image[160, 100].tolist()) == pictures.color_of(7)
    assert tuple(image[220, 130].tolist()) == pictures.color_of(7)
    assert not image[300, 300].any()


def test_a_video_has_all_frames_with_their_tracks(tmp_path):
    (tmp_path / "img1").mkdir()
    for number in range(1, 7):  # gray, lighter with each frame
        image = np.full((HEIGHT, WIDTH, 3), 30 * number, np.uint8)
        cv2.imwrite(str(tmp_path / "img1" / f"{number}.png"), image)
    frames = list_frames(tmp_path / "img1")
    tracks = np.array([[3, 1, 10, 10, 30, 30]], np.float64)
    counts = []
    path = tmp_path / "out" / "a.mp4"
    pictures.write_video(path, frames, tracks, 12.5, counts.append)
    assert counts == [1] * 6
    video = cv2.VideoCapture(str(path))
    assert video.get(cv2.CAP_PROP_FPS) == 12.5
    size = video.get(cv2.CAP_PROP_FRAME_WIDTH), video.get(cv2.CAP_PROP_FRAME_HEIGHT)
    assert size == (WIDTH, HEIGHT)
    images = [video.read()[1] for _ in range(6)]
    assert not video.read()[0]
    for number, image in enumerate(images, 1):
        expected = pictures.draw_frame(frames[number], tracks, number)
        assert np.abs(image.astype(int) - expected).mean() < 8  # compressed


def test_a_frame_that_cannot_be_read_leaves_no_video(tmp_path):
    write_frames(tmp_path / "img1", 3)
    (tmp_path / "img1" / "000002.png").write_bytes(b"")
    frames = list_frames(tmp_path / "img1")
    with pytest.raises(DataError, match="000002.png cannot be decoded"):
        pictures.write_video(tmp_path / "out" / "a.mp4", frames, np.empty((0, 6)), 25)
    assert list((tmp_path / "out").iterdir()) == []


def test_a_video_that_opencv_cannot_write_is_one_line(tmp_path, monkeypatch):
    class Closed:
        fourcc = staticmethod(cv2.VideoWriter.fourcc)

        def __init__(self, *_):
            pass

        def isOpened(self):  # noqa: N802 - of OpenCV
            return False

        def release(self):
            pass

    write_frames(tmp_path / "img1", 1)
    monkeypatch.setattr(cv2, "VideoWriter", Closed)
    path = tmp_path / "a.mp4"
    with pytest.raises(RunError, match=r"a.mp4: .* 96 x 48 pixels: .*--no-video"):
        pictures.write_video(path, list_frames(tmp_path / "img1"), np.empty((0, 6)), 25)
    assert not path.exists()


@pytest.mark.parametrize(("width", "expected"), [(64, (64, 32)), (500, (WIDTH, HEIGHT))])
def test_pictures_of_a_page_are_at_most_so_wide(width, expected):
    jpeg = pictures.encode_jpeg(np.zeros((HEIGHT, WIDTH, 3), np.uint8), width)
    image = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
    assert (image.shape[1], image.shape[0]) == expected
