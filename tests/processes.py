"""Processes that start at once: forked from a server that has imported TensorFlow.

Its import takes seconds. The server never computes, so that what is forked from it can.
"""

import concurrent.futures
import multiprocessing

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["deep_reid.compat"])
TIMEOUT_SECS = 240


def call(function, *args):
    """Call a function in a process of its own; return what it returns, or raise what it raises.

    Parameters
    ----------
    function : callable
        A function of a module, by its name.
    *args
        What can be pickled.
    """
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=CONTEXT) as executor:
        return executor.submit(function, *args).result(TIMEOUT_SECS)
