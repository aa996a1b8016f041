# vim: expandtab:ts=4:sw=4
import numpy as np


def create_validation_split(data_y, num_validation_y, seed=None):
    """Rows for training and for validation; no identity is on both sides."""
    rng = np.random.RandomState(seed)
    identities = np.unique(data_y)
    if isinstance(num_validation_y, float):
        num_validation_y = int(num_validation_y * len(identities))
    held_out = rng.permutation(identities)[:num_validation_y]
    is_valid = np.isin(data_y, held_out)
    return np.where(~is_valid)[0], np.where(is_valid)[0]


def limit_num_elements_per_identity(data_y, max_num_images_per_id, seed=None):
    """True for the rows to keep."""
    rng = np.random.RandomState(seed)
    keep = np.zeros(len(data_y), dtype=np.bool)
    for identity in np.unique(data_y):
        keep[rng.permutation(np.where(data_y == identity)[0])[:max_num_images_per_id]] = True
    return keep


def create_cmc_probe_and_gallery(data_y, camera_indices=None, seed=None):
    """Rows of one probe and one gallery image for each identity, of two cameras if possible."""
    rng = np.random.RandomState(seed)
    data_y = np.asarray(data_y)
    if camera_indices is None:
        camera_indices = np.zeros(len(data_y), dtype=np.int)
    probes, gallery = [], []
    for identity in np.unique(data_y):
        rows = rng.permutation(np.where(data_y == identity)[0])
        others = rows[camera_indices[rows] != camera_indices[rows[0]]]
        if len(others) == 0:
            others = rows[1:]
        if len(others) > 0:
            probes.append(rows[0])
            gallery.append(others[0])
    return np.asarray(probes), np.asarray(gallery)
