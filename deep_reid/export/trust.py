"""Which ops a graph of somebody else may have: those of networks, which only compute."""

from deep_reid.errors import DataError
from deep_reid.runtime.compat import tf

# What this package's networks and TF-Slim's consist of, with the preprocessing of users. No op here
# reads or writes files, opens connections, runs programs, calls Python, or keeps a state.
_ALLOWED_OPS = frozenset(
    """
    Abs Add AddN AddV2 All Any ArgMax ArgMin Assert AvgPool AvgPool3D BatchMatMul BatchMatMulV2
    BatchMatMulV3 BatchNormWithGlobalNormalization BatchToSpaceND BiasAdd BiasAddV1 BroadcastArgs
    BroadcastTo Cast Ceil CheckNumerics ClipByValue Concat ConcatV2 Const Conv2D Conv3D Cos
    CropAndResize Cumsum DepthToSpace DepthwiseConv2dNative Div DivNoNan Einsum Elu EnsureShape
    Enter Equal Erf Exit Exp ExpandDims ExtractImagePatches Fill Floor FloorDiv FloorMod
    FusedBatchNorm FusedBatchNormV2 FusedBatchNormV3 Gather GatherNd GatherV2 Greater GreaterEqual
    Identity IdentityN If InvertPermutation IsFinite IsInf IsNan L2Loss LRN LeakyRelu Less LessEqual
    LinSpace Log Log1p LogSoftmax LogicalAnd LogicalNot LogicalOr LoopCond MapDefun MatMul Max
    MaxPool MaxPoolV2 Maximum Mean Merge Min Minimum MirrorPad Mod Mul MulNoNan Multinomial Neg
    NextIteration NoOp NotEqual OneHot OnesLike Pack Pad PadV2 PartitionedCall Placeholder
    PlaceholderWithDefault Pow PreventGradient Prod RandomStandardNormal RandomUniform
    RandomUniformInt Range Rank RealDiv Reciprocal Relu Relu6 Reshape ResizeArea ResizeBicubic
    ResizeBilinear ResizeNearestNeighbor Reverse ReverseV2 Rint Round Rsqrt Select SelectV2 Selu
    Shape ShapeN Sigmoid Sign Sin Size Slice Softmax Softplus Softsign SpaceToBatchND SpaceToDepth
    Split SplitV Sqrt Square SquaredDifference Squeeze StatefulPartitionedCall StatelessIf
    StatelessWhile StopGradient StridedSlice Sub Sum Switch Tanh TensorArrayCloseV3
    TensorArrayConcatV3 TensorArrayGatherV3 TensorArrayReadV3 TensorArrayScatterV3
    TensorArraySizeV3 TensorArrayV3 TensorArrayWriteV3 TensorListConcatV2 TensorListElementShape
    TensorListFromTensor TensorListGather TensorListGetItem TensorListLength TensorListReserve
    TensorListSetItem TensorListStack Tile TopKV2 Transpose TruncateDiv TruncatedNormal Unpack
    Where While Xdivy ZerosLike _FusedBatchNormEx _FusedConv2D _FusedMatMul
    """.split()
)


def check_ops(graph_def: tf.GraphDef, path: str) -> None:
    """Check that a graph, and the functions in it, have known ops only.

    Parameters
    ----------
    graph_def : tf.GraphDef
    path : str
        Its file, for the message.

    Raises
    ------
    DataError
        If there are others, such as ``ReadFile`` or ``PyFunc``.
    """
    functions = {function.signature.name for function in graph_def.library.function}
    nodes = [graph_def.node, *(function.node_def for function in graph_def.library.function)]
    ops = {node.op for part in nodes for node in part}
    # A function with the name of an op would be called in its place, with what is in it: checked.
    unknown = sorted(ops - _ALLOWED_OPS - functions)
    if unknown:
        raise DataError(
            f"{path} has ops that a network does not need, and that may read or write files or run "
            f"programs: {', '.join(map(repr, unknown[:5]))}; if you trust who made it, give "
            "--trust_graph (in Python trust=True)"
        )
