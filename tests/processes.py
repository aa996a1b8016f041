"""Processes that start at once: forked from a server that has imported TensorFlow.

Its import takes seconds. The server never computes, so that what is forked from it can.
"""

import concurrent.futures
import fcntl
import multiprocessing
import os
import pty
import runpy
import struct
import sys
import tempfile
import termios

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


def run_script(path, argv, cwd, python_path, output, **environment):
    """Run a script in the process that calls this, as Python does, and end it.

    Parameters
    ----------
    path : str or Path
    argv : sequence of str
    cwd : str or Path
    python_path : sequence of str or Path
        Where modules are looked for, before all others.
    output : str or Path
        The file for what it writes to standard output and error.
    **environment
        Variables to set.

    Returns
    -------
    int
        The exit code.
    """
    descriptor = os.open(output, os.O_WRONLY | os.O_CREAT)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.environ.update(environment)
    tempfile.tempdir = None  # the server has found it before
    return _run_here(path, argv, cwd, python_path)


def start_script(path, argv, cwd, python_path, output, **environment):
    """Start a script as `run_script` runs it, in a process of its own.

    Returns
    -------
    multiprocessing.Process
        Its exit code is the script's.
    """
    arguments = path, argv, cwd, python_path, output
    process = CONTEXT.Process(target=_end_with_script, args=arguments, kwargs=environment)
    process.start()
    return process


def _end_with_script(*arguments, **environment):
    sys.exit(run_script(*arguments, **environment))


def run_script_on_terminal(path, argv, cwd, python_path):
    """Run a script as `run_script` does, on a terminal of 100 columns.

    Returns
    -------
    int, str
        The exit code, and what the terminal showed.
    """
    process_id, terminal = pty.fork()
    if process_id == 0:
        code = 1
        try:
            fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
            code = _run_here(path, argv, cwd, python_path)
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    shown = b""
    while True:
        try:
            part = os.read(terminal, 4096)
        except OSError:  # it has ended
            part = b""
        if not part:
            break
        shown += part
    os.close(terminal)
    return os.waitstatus_to_exitcode(os.waitpid(process_id, 0)[1]), shown.decode()


def _run_here(path, argv, cwd, python_path):
    os.chdir(cwd)
    sys.path[:0] = [os.path.dirname(path), *map(str, python_path)]
    sys.argv = [str(path), *argv]
    try:
        runpy.run_path(str(path), run_name="__main__")
    except SystemExit as error:
        return error.code
    return 0
