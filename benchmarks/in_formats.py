"""The contenders in the runtimes that networks are exported for."""

from benchmarks.workers import CropEncoder
from deep_reid.config import ComputeSettings
from deep_reid.export.formats import FORMATS


class Encoding(CropEncoder):
    """Encodes crops by a file that `deep_reid.export` wrote, without resizing them."""

    def __init__(self, format_name, model_path, crops_path):
        super().__init__(crops_path)
        model = FORMATS[format_name].load(str(model_path), ComputeSettings(), False)
        self.encode, self.close = model.launch()
