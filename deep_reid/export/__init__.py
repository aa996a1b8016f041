"""What leaves training: features, weights, frozen graphs."""

from deep_reid.system.lazy import hand_on

__getattr__, __dir__ = hand_on(
    __name__,
    {
        "Encoder": "encoder",
        "PreciseBatchNorm": "precise_batch_norm",
        "encode": "encoding",
        "encode_with_frozen_graph": "encoding",
        "finalize": "encoding",
        "freeze": "encoding",
    },
)
