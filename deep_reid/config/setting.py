"""The definition of a setting: all else follows from it.

From a field that `setting` makes come its check, its flag on the command line, its line in
``--help``, the modes that take or refuse it, and whether a resumed run keeps it.
"""

import dataclasses
import inspect
import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from deep_reid.config.kinds import Kind

MODES = ("train", "eval", "test", "search", "track", "export", "finalize", "freeze")
GROUPS = {
    "run": "run",
    "data": "network and data (a run keeps them; the other modes take them from there)",
    "training": "training",
    "recipe": "recipe: what a network learns per step",
    "saving": "what training saves and logs",
    "machine": "machine (never taken from a run)",
    "cluster": "cluster of several machines (TF_CONFIG)",
    "evaluation": "evaluation",
    "test": "test",
    "search": "search",
    "track": "track",
    "export": "export, finalize, freeze",
}
"""``--help=all`` lists settings under these titles; ``--help=GROUP`` lists those of one group."""

RUN = "run"
MACHINE = "machine"
COMMAND = "command"

_Function = TypeVar("_Function", bound=Callable[..., Any])
_Class = TypeVar("_Class", bound=type)


@dataclasses.dataclass(frozen=True)
class Setting:
    """A setting of a run or a command.

    Parameters
    ----------
    kind : Kind
    help : str
        One sentence, for ``--help`` and for the documentation.
    modes : sequence of str
        The modes that take it; no other mode has its flag.
    group : str
        One of `GROUPS`.
    is_main : bool
        Whether the short help shows it.
    belongs_to : {"run", "machine", "command"}
        A resumed run keeps what belongs to the run. What belongs to the machine or to the command
        comes from the command line each time.
    is_fixed : bool
        Whether a run can never change it, because the variables of its checkpoints depend on it.
    of_dataset : bool
        Whether it tells how the data set is read: only the data sets that name it in ``SETTINGS``
        have its flag.
    flags : sequence of str
        Its names on the command line, the main one first; ``{name}`` stands for `name`. Empty: it
        has none there.
    synonyms : sequence of str
        Its names in other programs, without hyphens: who types them gets its flag proposed.
    default_text : str, optional
        The default in the help, where the value itself does not tell it.
    detail : str
        What the documentation adds to the help.
    otherwise : str
        What to do in a mode that does not take it.
    needs : dict of str -> str
        The flag that must be given, too, by modes.
    default : object
    name : str
        `list_settings` sets it.
    """

    kind: Kind
    help: str
    modes: Sequence[str]
    group: str
    is_main: bool = False
    belongs_to: str = RUN
    is_fixed: bool = False
    of_dataset: bool = False
    flags: Sequence[str] = ("--{name}",)
    synonyms: Sequence[str] = ()
    default_text: str | None = None
    detail: str = ""
    otherwise: str = ""
    needs: Mapping[str, str] = dataclasses.field(default_factory=dict)
    default: Any = None
    name: str = ""


def setting(
    default: Any,
    kind: Kind,
    help_text: str,
    *,
    modes: Sequence[str] = ("train",),
    group: str = "training",
    **facts: Any,
) -> Any:
    """Create a field of a class of settings.

    Parameters
    ----------
    default : object
        `dataclasses.MISSING`: the setting must be given. None: it may stay open.
    kind, help_text, modes, group, **facts
        As in `Setting`.

    Returns
    -------
    dataclasses.Field
    """
    known = Setting(kind, help_text, modes, group, default=default, **facts)
    return dataclasses.field(default=default, metadata={"setting": known})


def list_settings(settings_class: type) -> dict[str, Setting]:
    """List the settings of a class.

    Parameters
    ----------
    settings_class : type

    Returns
    -------
    dict of str -> Setting
        With `name` and `flags` filled in.
    """
    settings = {}
    for field in dataclasses.fields(settings_class):
        if "setting" in field.metadata:
            known = field.metadata["setting"]
            flags = tuple(flag.format(name=field.name) for flag in known.flags)
            settings[field.name] = dataclasses.replace(known, name=field.name, flags=flags)
    return settings


@dataclasses.dataclass(frozen=True, kw_only=True)
class Checked:
    """Base of the classes of settings: checks and normalizes each value when it is made."""

    def __post_init__(self) -> None:
        """Check the settings, each by its kind."""
        for name, known in list_settings(type(self)).items():
            value = getattr(self, name)
            if value is not None or known.default is not None:
                object.__setattr__(self, name, known.kind.check(name, value))


def documented(settings_class: _Class) -> _Class:
    """Add the list of its settings to the docstring of a class.

    Parameters
    ----------
    settings_class : type

    Returns
    -------
    type
        The same class.
    """
    lines = []
    for name, known in list_settings(settings_class).items():
        optional = ", optional" if known.default is None else ""
        lines.append(f"{name} : {known.kind.type_name}{optional}")
        text = ". ".join(filter(None, (known.help[0].upper() + known.help[1:], known.detail)))
        lines += textwrap.wrap(text.rstrip(".") + ".", 92, initial_indent="    ",
                               subsequent_indent="    ")  # fmt: skip
    head, _, tail = (settings_class.__doc__ or "").partition("\n    Raises\n")
    parameters = textwrap.indent("\n".join(["Parameters", "-" * 10, *lines]), "    ")
    settings_class.__doc__ = f"{head}\n{parameters}\n\n    Raises\n{tail}"
    return settings_class


def takes_settings(settings_class: type, base: type) -> Callable[[_Function], _Function]:
    """Write the settings that a function takes as ``**settings`` into its signature.

    Parameters
    ----------
    settings_class : type
        The function makes an object of this class from them.
    base : type
        A base class of it; the function takes its settings in another way.

    Returns
    -------
    callable
        A decorator.
    """

    def decorate(function: _Function) -> _Function:
        signature = inspect.signature(function)
        kinds = inspect.Parameter
        own = [p for p in signature.parameters.values() if p.kind is not kinds.VAR_KEYWORD]
        known = {parameter.name for parameter in own} | set(list_settings(base))
        further = [
            kinds(name, kinds.KEYWORD_ONLY, default=facts.default)
            for name, facts in list_settings(settings_class).items()
            if name not in known and facts.flags
        ]
        function.__signature__ = signature.replace(  # type: ignore[attr-defined]
            parameters=[*own, *further]
        )
        return function

    return decorate
