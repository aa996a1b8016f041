"""The recipes that the study compares: flags of ``train_custom.py --mode=train``.

Own images always have one class for each identity to train on.
"""

_HE = ["--weight_init=he"]
_SCALE = ["--logit_scale_init=16", "--logit_scale_penalty=0"]
_DECAY = ["--batch_norm_decay=0.9"]
_RATE = ["--learning_rate=3e-3"]
_START = [*_HE, *_SCALE, *_DECAY]
_COSINE = ["--lr_schedule=cosine"]
_MARGIN = ["--logit_margin=0.3"]
_BASE = [*_START, *_RATE, *_COSINE, *_MARGIN]
_AUGMENT = ["--augment=flip,crop,erase,color"]
_BACKGROUND = ["--augment=flip,background"]
_RECOLOR = ["--recolor_identities"]

CONFIGURATIONS = {
    "faithful": ["--recipe=faithful"],
    # One change of the start at a time, then all.
    "he weights": _HE,
    "scale 16": _SCALE,
    "decay 0.9": _DECAY,
    "start": _START,
    "start without he weights": [*_SCALE, *_DECAY],
    # One more change at a time.
    "start + cosine": [*_START, *_COSINE],
    "start + rate": [*_START, *_RATE],
    "start + rate + cosine": [*_START, *_RATE, *_COSINE],
    "start + exponential": [*_START, "--lr_schedule=exponential"],
    "start + crop": [*_START, "--augment=flip,crop"],
    "start + erase": [*_START, "--augment=flip,erase"],
    "start + color": [*_START, "--augment=flip,color"],
    "start + background": [*_START, *_BACKGROUND],
    "start + margin": [*_START, *_MARGIN],
    "start + smoothing": [*_START, "--label_smoothing=0.1"],
    "start + triplet": [*_START, "--triplet_weight=1"],
    "start + magnet": [*_START, "--magnet_weight=1"],
    "start + averages": [*_START, "--ema_decay=0.98"],
    "start + adamw": [*_START, "--optimizer=adamw", "--weight_decay=0.05"],
    "start + sgd": [*_START, "--optimizer=sgd", "--learning_rate=0.03"],
    "start + more of each": [*_START, "--num_images_per_id=8"],
    # Together: "cosine + margin" stands for the start, the rate, and both of these.
    "cosine + margin": _BASE,
    "cosine + margin + color": [*_BASE, "--augment=flip,color"],
    "cosine + margin + crop": [*_BASE, "--augment=flip,crop"],
    "cosine + margin + crop, erase": [*_BASE, "--augment=flip,crop,erase"],
    "cosine + margin + crop, color": [*_BASE, "--augment=flip,crop,color"],
    "cosine + margin + all changes": [*_BASE, *_AUGMENT],
    "cosine + margin + triplet": [*_BASE, "--triplet_weight=1"],
    "cosine + margin + averages": [*_BASE, "--ema_decay=0.98"],
    "cosine + margin + warmup": [*_BASE, "--warmup_steps=50"],
    "cosine + margin + decay": [*_BASE, "--optimizer=adamw", "--weight_decay=0.05"],
    "cosine + margin + background": [*_BASE, *_BACKGROUND],
    "cosine + margin + recoloring": [*_BASE, *_RECOLOR],
    "cosine + margin + recoloring + background": [*_BASE, *_RECOLOR, *_BACKGROUND],
    "cosine + margin + all changes + recoloring": [*_BASE, *_AUGMENT, *_RECOLOR],
    # Cosine + margin; with few identities + recoloring + background.
    "strong": ["--recipe=strong"],
    "strong, constant rate": ["--recipe=strong", "--lr_schedule=constant"],
    "triplet": ["--loss_mode=triplet"],
    "triplet, strong": ["--loss_mode=triplet", "--recipe=strong"],
}
