"""How the machine computes."""

import dataclasses
from typing import Any

from deep_reid.config.kinds import Choice, On, Switch, count
from deep_reid.config.setting import MACHINE, Checked, documented, setting

PRECISIONS = ("float32", "bfloat16", "float16")
_THREADS = count(at_most=1024)
_OF_MACHINE: dict[str, Any] = {
    "modes": ("train", "eval", "test", "search", "track", "export"),
    "group": "machine",
    "belongs_to": MACHINE,
}


@documented
@dataclasses.dataclass(frozen=True, kw_only=True)
class ComputeSettings(Checked):
    """How TensorFlow computes; no setting but the precision changes the results.

    Raises
    ------
    UsageError
        If a setting breaks its rule.
    """

    precision: str = setting(
        PRECISIONS[0],
        Choice(PRECISIONS),
        "type that the network is computed in; weights, statistics, losses and scores stay float32",
        **_OF_MACHINE,
        is_main=True,
        synonyms=("dtype", "fp16", "bf16", "half", "amp", "mixed_precision"),
        otherwise="weights are float32",
    )
    intra_op_threads: int | None = setting(
        None, _THREADS, "threads that one op uses", **_OF_MACHINE, default_text="all cores"
    )
    inter_op_threads: int | None = setting(
        None, _THREADS, "ops that run in parallel", **_OF_MACHINE, default_text="all cores"
    )
    gpu_memory_growth: bool = setting(
        True,
        Switch(),
        "take GPU memory only when it is needed, so that two processes fit on a GPU",
        **_OF_MACHINE,
    )
    xla: bool = setting(
        False, On(), "compile with XLA: faster on some GPUs, not on CPUs", **_OF_MACHINE
    )

    @staticmethod
    def of(compute: "ComputeSettings") -> "ComputeSettings":
        """Return the settings that this class defines, such as those in a `RunConfig`.

        Parameters
        ----------
        compute : ComputeSettings

        Returns
        -------
        ComputeSettings

        Raises
        ------
        TypeError
            If it is something else, such as the name of a precision.
        """
        if not isinstance(compute, ComputeSettings):
            raise TypeError(f"compute is {compute!r}: use ComputeSettings(precision=...)")
        names = [field.name for field in dataclasses.fields(ComputeSettings)]
        return ComputeSettings(**{name: getattr(compute, name) for name in names})
