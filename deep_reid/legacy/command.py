"""The command line: reads the arguments, starts the script, answers its errors."""

import os
import sys
from collections.abc import Sequence

from deep_reid.errors import ReidError, first_line
from deep_reid.images import channel_order
from deep_reid.legacy import arguments, faults, program, traces
from deep_reid.legacy.modules import FolderFinder
from deep_reid.legacy.old_code import OldCode
from deep_reid.legacy.originals import OriginalFinder
from deep_reid.system import signals


def main(argv: Sequence[str]) -> int:
    """Run a script of old code.

    Parameters
    ----------
    argv : sequence of str
        The arguments of the runner, then those of the script.

    Returns
    -------
    int
        Exit code: 0, 1 (an error of the run), 2 (usage), 130 (Ctrl-C), 143 (SIGTERM),
        129 (SIGHUP). The script's own ``sys.exit`` and errors pass through.
    """
    try:
        command = arguments.parse(argv)
        if command.wants_help:
            sys.stdout.write(arguments.HELP)
            return 0
        folder = program.find_script(command.script) if command.script else os.getcwd()
        with signals.handled(is_insistent=False):
            _run(command, folder)
    except KeyboardInterrupt as error:
        cause, exit_code = signals.describe(error)
        _say(f"interrupted{cause}")
        return exit_code
    except ReidError as error:
        _say(f"error: {first_line(error)}")
        return error.exit_code
    return 0


def _run(command, folder):
    # Python puts the working folder there, except with -P.
    if sys.path and os.path.realpath(sys.path[0] or ".") == os.path.realpath("."):
        del sys.path[0]
    sys.path.insert(0, folder)
    # Keras 3 took over tf.layers, tf.nn.rnn_cell and tf.keras, and refuses graph mode.
    os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
    old_code = OldCode(folder, command.engine)
    old_code.install()
    if command.engine == "deep_reid":
        channel_order.KEEP_ORDER_OF_ARRAYS.set(True)
        sys.meta_path.insert(0, OriginalFinder(old_code, command.module, _say))
    else:
        sys.meta_path.insert(0, FolderFinder(folder))
    sys.excepthook = _create_excepthook(old_code)
    if command.script:
        program.run_script(command.script, command.arguments, old_code.builtins)
    else:
        program.run_module(command.module, command.arguments, old_code.builtins)


def _create_excepthook(old_code):
    """Create a hook that describes what old code lacks in one line, and shows other traces."""

    def answer(kind, error, trace):
        error = traces.without_runner(error.with_traceback(trace))
        fault = faults.describe(error, old_code)
        if fault is None:
            sys.__excepthook__(kind, error, error.__traceback__)
        else:
            _say(f"error: {fault}")

    return answer


def _say(line):
    sys.stderr.write(f"deep_reid.legacy: {line}\n")
