"""How sessions are set up, the same for training, evaluation and export."""

from deep_reid.compat import tf

IN_OWN_THREAD = tf.RunOptions(inter_op_thread_pool=-1)
"""How files are read. A file on a dead drive then blocks one of the feed's threads, instead of one
of the few that TensorFlow has for all sessions, and that the training step needs, too."""


def create_session_config():
    """Create the settings of a session.

    Returns
    -------
    tf.ConfigProto
        Ops without a GPU kernel run on the CPU, and GPU memory is taken as it is needed, so that
        evaluation finds room beside training.
    """
    config = tf.ConfigProto(allow_soft_placement=True)
    config.gpu_options.allow_growth = True
    return config


def describe_devices():
    """Name the devices that TensorFlow computes on.

    Returns
    -------
    str
        Such as ``"CPU only"`` or ``"2 GPUs"``.
    """
    num_gpus = len(tf.config.experimental.list_physical_devices("GPU"))
    return f"{num_gpus} GPU{'s' if num_gpus > 1 else ''}" if num_gpus else "CPU only"
