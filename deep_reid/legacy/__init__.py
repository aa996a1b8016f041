"""Runs scripts that were written for TensorFlow 1, with nothing edited.

::

    python -m deep_reid.legacy [--engine=own|deep_reid] SCRIPT [ARGS...]
    python -m deep_reid.legacy [--engine=own|deep_reid] -m PACKAGE.MODULE [ARGS...]

Old code sees ``tensorflow`` as release 1 had it, with ``tf.contrib`` as far as TF-Slim has it, and
the names that NumPy and scikit-learn removed since. Only the files of the old code see this:
libraries, TensorFlow's own lazy imports among them, go on to see today's modules.

With ``--engine=own``, the modules beside the script run as they are. With ``--engine=deep_reid``,
modules that the original package had (``train_app``, ``queued_trainer``, ...) come from this
package, all others from beside the script.

`command` reads the arguments and answers errors, `program` starts the script as Python does,
`old_code` decides which files are old code and what an import gives them, `tensorflow_1` and
`contrib` are what they see as TensorFlow, `modules` decides which module a name stands for, and
`faults` describes what cannot be had in one line.
"""
