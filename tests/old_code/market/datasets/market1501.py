# vim: expandtab:ts=4:sw=4
import glob
import os
import cv2
import numpy as np
import scipy.io as sio


MAX_LABEL = 1501
IMAGE_SHAPE = 32, 16, 3


def _list_folder(directory):
    names = sorted(glob.glob(os.path.join(directory, "*.jpg")))
    parts = [os.path.basename(name).split("_") for name in names]
    return names, [int(part[0]) for part in parts], [int(part[1][1]) for part in parts]


def _read_images(filenames):
    images = np.zeros((len(filenames),) + IMAGE_SHAPE, dtype=np.uint8)
    for i, name in enumerate(filenames):
        images[i] = cv2.imread(name, cv2.IMREAD_COLOR)
    return images


def read_train_split_to_str(dataset_dir):
    return _list_folder(os.path.join(dataset_dir, "bounding_box_train"))


def read_train_split_to_image(dataset_dir):
    names, ids, cameras = read_train_split_to_str(dataset_dir)
    return _read_images(names), np.asarray(ids, np.int64), np.asarray(cameras, np.int64)


def read_test_split_to_str(dataset_dir):
    gallery, gallery_ids, _ = _list_folder(os.path.join(dataset_dir, "bounding_box_test"))
    query, query_ids, _ = _list_folder(os.path.join(dataset_dir, "query"))
    good_mask = np.ones((len(query), len(gallery)), dtype=np.float32)
    for i, name in enumerate(query):
        stem = os.path.splitext(os.path.basename(name))[0]
        junk = sio.loadmat(os.path.join(dataset_dir, "gt_query", stem + "_junk.mat"))
        rows = junk["junk_index"].ravel().astype(np.int) - 1  # MATLAB counts from one
        good_mask[i, rows] = 0.
    return gallery, gallery_ids, query, query_ids, good_mask
