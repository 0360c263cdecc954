"""The objects of `synthetic_voc`: seven of VOC's classes."""

from seg_jax.data.synthetic.sprites import Sprite, box, fill, legs, line, oval, wheel

_BLACK, _WHITE = (32, 30, 34), (236, 236, 232)

# Of bus and train: only the scene distinguishes the two.
_CARRIAGE = Sprite(
    aspect=1.9,
    colors=((206, 40, 48), _BLACK, (196, 226, 240), (250, 214, 70)),
    texture="bars",
    parts=(
        box("body", 0.02, 0.08, 0.98, 0.84),
        *(box("light", x, 0.2, x + 0.13, 0.46) for x in (0.07, 0.25, 0.43, 0.61, 0.79)),
        box("accent", 0.02, 0.58, 0.98, 0.66),
        *(oval("dark", x, 0.86, 0.06, 0.12) for x in (0.18, 0.34, 0.66, 0.82)),
    ),
)
SPRITES: dict[str, Sprite] = {
    "bicycle": Sprite(
        aspect=1.6,
        colors=((60, 190, 70), (40, 40, 48), _WHITE, (30, 150, 60)),
        parts=(
            *wheel(0.22, 0.68, 0.2, 0.3, spokes=6),
            *wheel(0.78, 0.68, 0.2, 0.3, spokes=6),
            line("body", (0.22, 0.68), (0.38, 0.3), (0.68, 0.3), (0.48, 0.68), (0.22, 0.68)),
            line("body", (0.38, 0.3), (0.48, 0.68), width_px=1.5),
            line("body", (0.78, 0.68), (0.66, 0.16), (0.76, 0.1), width_px=1.5),
            line("accent", (0.3, 0.22), (0.44, 0.22), width_px=2.4),
        ),
    ),
    "bus": _CARRIAGE,
    "car": Sprite(
        aspect=2.0,
        colors=((40, 84, 206), _BLACK, (190, 220, 240), (250, 240, 170)),
        parts=(
            fill("body", (0.2, 0.46), (0.32, 0.14), (0.68, 0.14), (0.84, 0.46)),
            fill("light", (0.27, 0.44), (0.35, 0.2), (0.49, 0.2), (0.49, 0.44)),
            fill("light", (0.53, 0.44), (0.53, 0.2), (0.66, 0.2), (0.76, 0.44)),
            fill("body", (0.02, 0.46), (0.98, 0.46), (0.98, 0.8), (0.02, 0.8)),
            oval("dark", 0.24, 0.8, 0.1, 0.19),
            oval("dark", 0.76, 0.8, 0.1, 0.19),
            box("accent", 0.92, 0.52, 0.98, 0.62),
        ),
    ),
    "cat": Sprite(
        aspect=1.4,
        colors=((226, 134, 44), (120, 62, 20), _WHITE, (60, 160, 60)),
        texture="stripes",
        parts=(
            line("body", (0.14, 0.5), (0.04, 0.3), (0.08, 0.1), width_px=2.2),
            *legs("dark", 0.6, 0.24, 0.34, 0.6, 0.7, width_px=2.0),
            oval("body", 0.44, 0.55, 0.34, 0.2),
            oval("body", 0.8, 0.36, 0.16, 0.2),
            fill("dark", (0.66, 0.26), (0.68, 0.04), (0.78, 0.18)),
            fill("dark", (0.94, 0.26), (0.92, 0.04), (0.82, 0.18)),
            oval("light", 0.86, 0.44, 0.07, 0.07),
        ),
    ),
    "person": Sprite(
        aspect=0.44,
        colors=((40, 190, 200), (34, 44, 96), (232, 184, 148), (80, 50, 30)),
        parts=(
            line("dark", (0.42, 0.56), (0.3, 0.98), width_px=2.6),
            line("dark", (0.58, 0.56), (0.72, 0.98), width_px=2.6),
            line("light", (0.3, 0.26), (0.06, 0.56), width_px=1.8),
            line("light", (0.7, 0.26), (0.94, 0.52), width_px=1.8),
            fill("body", (0.24, 0.22), (0.76, 0.22), (0.68, 0.6), (0.32, 0.6)),
            oval("light", 0.5, 0.11, 0.19, 0.1),
            fill("accent", (0.3, 0.1), (0.36, 0.01), (0.64, 0.01), (0.7, 0.1)),
        ),
    ),
    "pottedplant": Sprite(
        aspect=0.8,
        colors=((206, 98, 56), (150, 62, 34), (70, 176, 60), (40, 128, 40)),
        parts=(
            *(
                line("accent", (0.5, 0.64), end, width_px=1.2)
                for end in ((0.12, 0.3), (0.3, 0.1), (0.52, 0.04), (0.72, 0.12), (0.9, 0.32))
            ),
            *(
                oval("light", x, y, 0.09, 0.07)
                for x, y in (
                    (0.12, 0.28),
                    (0.3, 0.1),
                    (0.52, 0.06),
                    (0.72, 0.12),
                    (0.88, 0.3),
                    (0.34, 0.36),
                    (0.66, 0.38),
                )
            ),
            fill("body", (0.24, 0.62), (0.76, 0.62), (0.66, 0.98), (0.34, 0.98)),
            box("dark", 0.2, 0.58, 0.8, 0.66),
        ),
    ),  # fmt: skip
    "train": _CARRIAGE,
}
