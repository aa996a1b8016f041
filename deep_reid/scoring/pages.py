"""Pages of HTML, from the templates beside this module. Only `render` imports jinja2."""

import pathlib

from deep_reid.errors import UsageError
from deep_reid.scoring.charts import COLORS, format_distance
from deep_reid.system import files


def check_dependencies(flag: str = "--report_dir") -> None:
    """Check that the packages of the extra ``report`` are installed.

    Parameters
    ----------
    flag : str
        What needs them, for the message.

    Raises
    ------
    UsageError
        If one is missing; the message names what to install.
    """
    try:
        import jinja2  # noqa: F401
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise UsageError(
            f"{flag} needs matplotlib and jinja2: pip install 'deep-reid[report]' "
            "(in a clone: pip install -e '.[report]')"
        ) from error


def write_page(path: files.Path, template: str, **context: object) -> None:
    """Write a page, whole or not at all.

    Parameters
    ----------
    path : str or Path
    template : str
        Its file name.
    **context
        What the template shows.
    """
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(pathlib.Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["distance"] = format_distance
    page = environment.get_template(template).render(context, colors=COLORS)
    files.write_output(path, page)
