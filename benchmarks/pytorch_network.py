"""The network of `deep_reid.nets.deep_sort` in PyTorch, to compare the speed of the same work.

With our weights (`load_weights`) it has our features, logits, losses and gradients:
``tests/whole/test_benchmarks.py`` checks that. Images and feature maps have the memory format
"channels last", which TensorFlow has, too, and which is faster on CPUs.
"""

import torch
from torch import nn
from torch.nn import functional

FEATURE_SIZE = 128
DROP_PROBABILITY = 0.4
INITIAL_STDDEV = 1e-3
WEIGHT_DECAY = 1e-8
LOGIT_SCALE_PENALTY = 0.1
NUM_FLAT = 16 * 8 * 128  # of images of 128 x 64

# scope, channels in, stride, preactivate
RESIDUAL_BLOCKS = (
    ("conv2_1", 32, 1, False),
    ("conv2_3", 32, 1, True),
    ("conv3_1", 32, 2, True),
    ("conv3_3", 64, 1, True),
    ("conv4_1", 64, 2, True),
    ("conv4_3", 128, 1, True),
)
# From a layer's attributes in PyTorch to its variables in TensorFlow.
_OF_BATCH_NORM = {"bias": "beta", "running_mean": "moving_mean", "running_var": "moving_variance"}
_OF_WEIGHTS = {"weight": "weights", "bias": "biases"}
# (height, width, in, out) -> (out, in, height, width), and (in, out) -> (out, in).
_AXES = {4: (3, 2, 0, 1), 2: (1, 0), 1: (0,)}


class ResidualBlock(nn.Module):
    """A pre-activated residual block, as in `deep_reid.nets.residual`.

    A stride of 2 halves height and width, which must be even, and doubles the channels.
    """

    def __init__(self, num_channels, stride, preactivate):
        super().__init__()
        self.stride = stride
        num_out = num_channels * stride
        self.bn = _batch_norm(num_channels) if preactivate else nn.Identity()
        self.preactivation = nn.ELU(inplace=True) if preactivate else nn.Identity()
        # With a stride of 2, TensorFlow pads one side only: see `forward`.
        padding = 1 if stride == 1 else 0
        self.conv1 = nn.Conv2d(num_channels, num_out, 3, stride, padding, bias=False)
        self.bn1 = _batch_norm(num_out)
        self.activation = nn.ELU(inplace=True)
        self.dropout = nn.Dropout(DROP_PROBABILITY)
        self.conv2 = nn.Conv2d(num_out, num_out, 3, padding=1)
        self.projection = nn.Identity()
        if stride > 1:
            self.projection = nn.Conv2d(num_channels, num_out, 1, stride, bias=False)

    def forward(self, inputs):
        """Apply the block to feature maps, (N, C, H, W)."""
        network = self.preactivation(self.bn(inputs))
        if self.stride == 2:
            network = functional.pad(network, (0, 1, 0, 1))
        network = self.dropout(self.activation(self.bn1(self.conv1(network))))
        return self.projection(inputs) + self.conv2(network)


class DeepSortNetwork(nn.Module):
    """The network, with its cosine softmax classifier."""

    def __init__(self, num_classes):
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, 32, 3, padding=1, bias=False),
            _batch_norm(32),
            nn.ELU(inplace=True),
            nn.Conv2d(32, 32, 3, padding=1, bias=False),
            _batch_norm(32),
            nn.ELU(inplace=True),
            # On even sizes, this is TensorFlow's padding "SAME": the last window is smaller.
            nn.MaxPool2d(3, 2, ceil_mode=True),
        )
        self.blocks = nn.Sequential(*(ResidualBlock(*block[1:]) for block in RESIDUAL_BLOCKS))
        self.dropout = nn.Dropout(DROP_PROBABILITY)
        self.fc1 = nn.Linear(NUM_FLAT, FEATURE_SIZE, bias=False)
        self.fc1_bn = _batch_norm(FEATURE_SIZE, nn.BatchNorm1d)
        self.fc1_activation = nn.ELU(inplace=True)
        self.mean_vectors = nn.Parameter(torch.empty(FEATURE_SIZE, num_classes))
        self.scale = nn.Parameter(torch.zeros(()))
        for weights in (*self.decaying_weights(), self.mean_vectors):
            bound = 2 * INITIAL_STDDEV
            nn.init.trunc_normal_(weights, std=INITIAL_STDDEV, a=-bound, b=bound)

    def decaying_weights(self):
        """List the weights with an L2 penalty: of convolutions, projections, and the last layer."""
        layers = [m for m in self.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
        return [layer.weight for layer in layers]

    def forward(self, images):
        """Turn float32 images (N, 3, 128, 64), RGB in [0, 1], into unit features (N, 128)."""
        network = self.blocks(self.stem(images))
        # TensorFlow's order; with channels last, this makes no copy.
        network = network.permute(0, 2, 3, 1).flatten(1)
        network = self.fc1_activation(self.fc1_bn(self.fc1(self.dropout(network))))
        return functional.normalize(network.float(), dim=1)

    def classify(self, features):
        """Compute logits (N, num_classes): scaled cosines to one unit vector per class."""
        mean_vectors = functional.normalize(self.mean_vectors, dim=0)
        return functional.softplus(self.scale) * (features @ mean_vectors)

    def compute_loss(self, features, labels):
        """Compute the total loss: cross entropy and penalties."""
        loss = functional.cross_entropy(self.classify(features), labels)
        squares = sum(weights.square().sum() for weights in self.decaying_weights())
        scale_penalty = LOGIT_SCALE_PENALTY / 2 * self.scale.square()
        return loss + WEIGHT_DECAY / 2 * squares + scale_penalty

    def load_weights(self, variables):
        """Copy the variables of a checkpoint.

        Parameters
        ----------
        variables : mapping of str to np.ndarray
            By TensorFlow's names. The classifier's may be missing.
        """
        with torch.no_grad():
            for scope, layer in self._layers_by_scope().items():
                is_norm = isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d)
                for attribute, name in (_OF_BATCH_NORM if is_norm else _OF_WEIGHTS).items():
                    tensor = getattr(layer, attribute, None)  # an nn.Identity has none
                    if tensor is not None:
                        values = variables[f"{scope}/{name}"]
                        tensor.copy_(torch.tensor(values.transpose(_AXES[values.ndim])))
            if "ball/scale" in variables:
                self.mean_vectors.copy_(torch.tensor(variables["ball/mean_vectors"]))
                self.scale.copy_(torch.tensor(variables["ball/scale"]))

    def _layers_by_scope(self):
        layers = {"fc1": self.fc1, "fc1/fc1/bn": self.fc1_bn}
        for scope, index in (("conv1_1", 0), ("conv1_2", 3)):
            layers |= {scope: self.stem[index], f"{scope}/{scope}/bn": self.stem[index + 1]}
        for (scope, *_), block in zip(RESIDUAL_BLOCKS, self.blocks, strict=True):
            layers |= {
                f"{scope}/bn": block.bn,
                f"{scope}/1": block.conv1,
                f"{scope}/1/{scope}/1/bn": block.bn1,
                f"{scope}/2": block.conv2,
                f"{scope}/projection": block.projection,
            }
        return layers


def _batch_norm(num_channels, layer=nn.BatchNorm2d):
    # As in TensorFlow: a decay of 0.999, a bias, and no factor.
    batch_norm = layer(num_channels, eps=1e-3, momentum=1e-3)
    batch_norm.weight.requires_grad_(False)
    return batch_norm
