"""How reports call people and images: by the names and paths that the data have."""

import dataclasses
import os
from collections.abc import Callable

from deep_reid.errors import printable
from deep_reid.system import files


@dataclasses.dataclass(frozen=True)
class Names:
    """Names of identities and images, to be shown.

    Parameters
    ----------
    name_of : callable
        Returns the name of an identity, by its label.
    folder : str or Path, optional
        Paths within it are shown from there on. A file stands for its folder.
    """

    name_of: Callable[[int], str] = str
    folder: files.Path | None = None

    def identity(self, label: int) -> str:
        """Return the name of an identity."""
        return printable(self.name_of(int(label)))

    def path(self, filename: files.Path) -> str:
        """Return the path of an image within the folder; as it is, if it lies elsewhere."""
        path = os.fspath(filename)
        if self.folder is not None:
            folder = os.fspath(self.folder)
            folder = os.path.dirname(folder) if os.path.isfile(folder) else folder
            relative = os.path.relpath(path, folder or ".")
            path = path if relative.split(os.sep)[0] == os.pardir else relative
        return printable(path)


BY_LABEL = Names()
"""People by their labels, images by their whole paths."""
