"""Runs scripts that were written for TensorFlow 1, with nothing edited.

::

    python -m deep_reid.legacy [--engine=own|deep_reid] SCRIPT [ARGS...]
    python -m deep_reid.legacy [--engine=own|deep_reid] -m PACKAGE.MODULE [ARGS...]

Old code sees ``tensorflow`` as in release 1, with the parts of ``tf.contrib`` that TF-Slim has, and
the names that NumPy and scikit-learn removed since. Only the files of the old code see this:
libraries, also TensorFlow with its lazy imports, see today's modules.

With ``--engine=own``, the modules beside the script run as they are. With ``--engine=deep_reid``,
modules that the original package had (``train_app``, ``queued_trainer``, ...) come from this
package, all others from beside the script.

`command` reads the arguments and reports errors, `program` starts the script as Python does,
`old_code` decides which files are old code and what an import gives them, `tensorflow_1` and
`contrib` make the TensorFlow that they see, `modules` and `originals` find the modules that their
names stand for, and `faults` describes in one line what they ask for and cannot get.
"""
