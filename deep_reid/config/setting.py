"""What is written of a setting, in one place: all else follows from it.

From a field that `setting` makes come its check, its flag on the command line, its line in
``--help``, the modes that take or refuse it, and what a resumed run keeps of it.
"""

import dataclasses
import inspect
import textwrap

MODES = ("train", "eval", "test", "export", "finalize", "freeze")
GROUPS = ("run", "data", "training", "saving", "machine", "evaluation", "test", "export")
"""Under which ``--help=all`` lists settings, and ``--help=GROUP`` those of one group."""

RUN = "run"
MACHINE = "machine"


@dataclasses.dataclass(frozen=True)
class Setting:
    """What is known of a setting beside its name and default.

    Parameters
    ----------
    kind : object
        One of `deep_reid.config.kinds`.
    help : str
        One sentence, for ``--help`` and for the documentation.
    modes : tuple of str
        The modes that take it; no other mode has its flag.
    group : str
        One of `GROUPS`.
    is_main : bool
        Whether the short help shows it.
    belongs_to : {"run", "machine"}
        A resumed run keeps what belongs to the run. What belongs to the machine is set anew.
    is_fixed : bool
        Whether a run can never change it, since it decides on the variables of a checkpoint.
    flags : tuple of str
        Its names on the command line; none: it is not to be set there.
    default_text : str, optional
        What the help says of the default, where the value does not say it.
    detail : str
        What the documentation says beyond the help.
    otherwise : str
        What to do in a mode that does not take it.
    """

    kind: object
    help: str
    modes: tuple
    group: str
    is_main: bool = False
    belongs_to: str = RUN
    is_fixed: bool = False
    flags: tuple | None = None
    default_text: str | None = None
    detail: str = ""
    otherwise: str = ""


def setting(default, kind, help_text, *, modes=("train",), group="training", **facts):
    """Create a field of a class of settings.

    Parameters
    ----------
    default : object
        `dataclasses.MISSING` where there is none. None: the setting may be left open.
    kind, help_text, modes, group, **facts
        As in `Setting`.

    Returns
    -------
    dataclasses.Field
    """
    known = Setting(kind, help_text, tuple(modes), group, **facts)
    return dataclasses.field(default=default, metadata={"setting": known})


def list_settings(settings_class):
    """List the settings of a class.

    Parameters
    ----------
    settings_class : type

    Returns
    -------
    dict of str -> Setting
    """
    fields = dataclasses.fields(settings_class)
    return {x.name: x.metadata["setting"] for x in fields if "setting" in x.metadata}


def flags_of(name, facts):
    """Return the flags of a setting, the main one first.

    Parameters
    ----------
    name : str
    facts : Setting

    Returns
    -------
    tuple of str
    """
    return (f"--{name}",) if facts.flags is None else facts.flags


@dataclasses.dataclass(frozen=True, kw_only=True)
class Checked:
    """Base of the classes of settings: checks and normalizes each value when it is made."""

    def __post_init__(self):
        """Check the settings, each by its kind."""
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if value is None and field.default is None:
                continue
            kind = field.metadata["setting"].kind
            object.__setattr__(self, field.name, kind.check(field.name, value))


def documented(settings_class):
    """Add the list of its settings to the docstring of a class.

    Parameters
    ----------
    settings_class : type

    Returns
    -------
    type
        The same.
    """
    lines = []
    for field in dataclasses.fields(settings_class):
        facts = field.metadata["setting"]
        optional = ", optional" if field.default is None else ""
        lines.append(f"{field.name} : {facts.kind.type_name}{optional}")
        text = ". ".join(filter(None, (facts.help[0].upper() + facts.help[1:], facts.detail)))
        lines += textwrap.wrap(text.rstrip(".") + ".", 92, initial_indent="    ",
                               subsequent_indent="    ")  # fmt: skip
    head, _, tail = settings_class.__doc__.partition("\n    Raises\n")
    parameters = textwrap.indent("\n".join(["Parameters", "-" * 10, *lines]), "    ")
    settings_class.__doc__ = f"{head}\n{parameters}\n\n    Raises\n{tail}"
    return settings_class


def takes_settings(settings_class, base):
    """Write the settings that a function takes as ``**settings`` into its signature.

    Parameters
    ----------
    settings_class : type
        The class that is made of them.
    base : type
        A class whose settings the function takes in another way.

    Returns
    -------
    callable
        A decorator.
    """

    def decorate(function):
        signature = inspect.signature(function)
        kinds = inspect.Parameter
        own = [p for p in signature.parameters.values() if p.kind is not kinds.VAR_KEYWORD]
        known = {parameter.name for parameter in own} | set(list_settings(base))
        further = [
            kinds(field.name, kinds.KEYWORD_ONLY, default=field.default)
            for field in dataclasses.fields(settings_class)
            if field.name not in known and field.metadata["setting"].flags != ()
        ]
        function.__signature__ = signature.replace(parameters=[*own, *further])
        return function

    return decorate
