"""Pages of HTML, from the templates beside this module. Only `render` imports jinja2."""

import pathlib
from collections.abc import Mapping

from deep_reid.scoring.charts import COLORS, format_distance
from deep_reid.system import files, packages


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
    packages.require({"matplotlib": "report", "jinja2": "report"}, flag)


def write_page(
    folder: files.Path, filename: str, *, settings: Mapping[str, object], **context: object
) -> pathlib.Path:
    """Write a page, whole or not at all.

    Parameters
    ----------
    folder : str or Path
        Made if it is missing.
    filename : str
        Of the page. Its template has this name with the ending ``.jinja``.
    settings : dict of str to object
        Shown at the end, but for those that are None or empty.
    **context
        What the template shows.

    Returns
    -------
    pathlib.Path
        Name of the page.
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
    page = environment.get_template(f"{filename}.jinja").render(
        context,
        colors=COLORS,
        settings={
            name: _as_text(value) for name, value in settings.items() if not _is_empty(value)
        },
    )
    path = pathlib.Path(folder) / filename
    files.write_output(path, page)
    return path


def _is_empty(value):
    return value is None or (isinstance(value, str | Mapping | list | tuple) and not value)


def _as_text(value):
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_as_text(part)}" for name, part in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
