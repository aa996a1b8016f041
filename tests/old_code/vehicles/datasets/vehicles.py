# vim: expandtab:ts=4:sw=4
import os
import cv2
import numpy as np
import tensorflow as tf


MAX_LABEL = 10
IMAGE_SHAPE = (32, 48, 3)


def read_list(dataset_dir):
    """File names, vehicles and cameras as they stand in vehicles.txt."""
    with tf.gfile.GFile(os.path.join(dataset_dir, "vehicles.txt"), "r") as stream:
        names = stream.read().split()
    parts = [name.split("_") for name in names]
    filenames = [os.path.join(dataset_dir, name) for name in names]
    ids = np.asarray([int(part[0]) for part in parts], dtype=np.int)
    cameras = np.asarray([int(part[1][1:]) for part in parts], dtype=np.int)
    return filenames, ids, cameras


def read_images(filenames):
    """Images as OpenCV reads them: uint8, BGR."""
    images = np.zeros((len(filenames),) + IMAGE_SHAPE, dtype=np.uint8)
    for i, filename in enumerate(filenames):
        image = cv2.imread(filename, cv2.IMREAD_COLOR)
        images[i] = cv2.resize(image, IMAGE_SHAPE[:2][::-1])
    return images
