"""The objects of `synthetic_voc`: one sprite for each of VOC's twenty classes."""

from seg_jax.data.synthetic.sprites import Sprite, box, fill, legs, line, oval, wheel

_BLACK, _WHITE = (32, 30, 34), (236, 236, 232)

# The three pairs below share one sprite each: only the scene distinguishes the two classes.
_PET = Sprite(
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
)
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
_CATTLE = Sprite(
    aspect=1.5,
    colors=((128, 84, 58), (52, 34, 28), (226, 208, 190), _BLACK),
    texture="patches",
    parts=(
        *legs("dark", 0.55, 0.16, 0.26, 0.6, 0.7, width_px=2.2),
        line("dark", (0.1, 0.34), (0.04, 0.62), width_px=1.3),
        oval("body", 0.42, 0.42, 0.34, 0.22),
        fill("body", (0.6, 0.3), (0.84, 0.04), (0.96, 0.12), (0.74, 0.5)),
        oval("light", 0.92, 0.16, 0.07, 0.09),
    ),
)

SPRITES: dict[str, Sprite] = {
    "aeroplane": Sprite(
        aspect=2.1,
        colors=((176, 192, 214), (88, 104, 136), _WHITE, (210, 60, 60)),
        parts=(
            fill("dark", (0.36, 0.52), (0.56, 0.5), (0.3, 0.95), (0.22, 0.95)),
            fill("dark", (0.4, 0.44), (0.56, 0.46), (0.36, 0.1), (0.3, 0.1)),
            oval("body", 0.52, 0.5, 0.46, 0.13),
            fill("accent", (0.06, 0.46), (0.2, 0.46), (0.08, 0.1), (0.0, 0.1)),
            line("dark", (0.3, 0.48), (0.86, 0.48), width_px=1.0),
        ),
    ),
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
    "bird": Sprite(
        aspect=1.2,
        colors=((244, 214, 40), (150, 110, 20), _WHITE, (240, 110, 30)),
        parts=(
            *legs("accent", 0.66, 0.46, 0.56, width_px=1.0),
            fill("dark", (0.02, 0.34), (0.3, 0.4), (0.28, 0.6)),
            oval("body", 0.48, 0.52, 0.28, 0.22),
            oval("body", 0.74, 0.28, 0.14, 0.16),
            fill("accent", (0.85, 0.22), (1.0, 0.3), (0.85, 0.36)),
            fill("dark", (0.32, 0.44), (0.62, 0.44), (0.3, 0.7)),
        ),
    ),
    "boat": Sprite(
        aspect=1.2,
        colors=((150, 74, 40), (84, 42, 24), (240, 232, 214), (70, 120, 200)),
        texture="hatch",
        parts=(
            line("dark", (0.48, 0.76), (0.48, 0.02), width_px=1.5),
            fill("light", (0.52, 0.08), (0.52, 0.66), (0.92, 0.66)),
            fill("light", (0.44, 0.2), (0.44, 0.66), (0.14, 0.66)),
            fill("body", (0.02, 0.74), (0.98, 0.74), (0.84, 0.98), (0.18, 0.98)),
            line("accent", (0.06, 0.8), (0.94, 0.8), width_px=1.4),
        ),
    ),
    "bottle": Sprite(
        aspect=0.36,
        colors=((24, 110, 72), (10, 62, 42), (150, 214, 180), (236, 226, 190)),
        parts=(
            box("body", 0.36, 0.06, 0.64, 0.36),
            box("dark", 0.32, 0.0, 0.68, 0.08),
            fill(
                "body",
                (0.36, 0.3),
                (0.64, 0.3),
                (0.94, 0.46),
                (0.94, 0.98),
                (0.06, 0.98),
                (0.06, 0.46),
            ),
            box("accent", 0.06, 0.58, 0.94, 0.82),
        ),
    ),  # fmt: skip
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
    "cat": _PET,
    "chair": Sprite(
        aspect=0.66,
        colors=((196, 152, 92), (140, 98, 50), _WHITE, (150, 40, 40)),
        parts=(
            *(line("dark", (x, 0.04), (x, 0.54), width_px=1.5) for x in (0.1, 0.3, 0.5)),
            line("dark", (0.06, 0.06), (0.54, 0.06), width_px=2.0),
            line("dark", (0.06, 0.3), (0.54, 0.3), width_px=1.4),
            *legs("dark", 0.56, 0.1, 0.5, 0.9, width_px=1.6),
            fill("accent", (0.04, 0.5), (0.6, 0.5), (0.98, 0.6), (0.98, 0.66), (0.04, 0.62)),
        ),
    ),
    "cow": _CATTLE,
    "diningtable": Sprite(
        aspect=1.8,
        colors=((178, 116, 170), (112, 62, 108), (236, 220, 236), _WHITE),
        texture="checks",
        parts=(
            *legs("dark", 0.44, 0.08, 0.92, width_px=2.0),
            *(line("dark", (x, 0.3), (x, 0.74), width_px=1.4) for x in (0.26, 0.74)),
            fill("body", (0.2, 0.14), (0.8, 0.14), (0.99, 0.42), (0.01, 0.42)),
            box("dark", 0.01, 0.42, 0.99, 0.5),
        ),
    ),
    "dog": _PET,
    "horse": _CATTLE,
    "motorbike": Sprite(
        aspect=1.7,
        colors=((230, 40, 150), _BLACK, (190, 190, 196), (120, 16, 80)),
        parts=(
            oval("dark", 0.2, 0.7, 0.18, 0.28),
            oval("light", 0.2, 0.7, 0.08, 0.13),
            oval("dark", 0.8, 0.7, 0.18, 0.28),
            oval("light", 0.8, 0.7, 0.08, 0.13),
            fill(
                "body",
                (0.2, 0.5),
                (0.1, 0.3),
                (0.46, 0.34),
                (0.66, 0.24),
                (0.7, 0.66),
                (0.36, 0.74),
            ),
            line("light", (0.8, 0.7), (0.66, 0.12), width_px=1.8),
            line("dark", (0.56, 0.08), (0.72, 0.14), width_px=1.5),
        ),
    ),  # fmt: skip
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
    "sheep": Sprite(
        aspect=1.4,
        colors=((240, 236, 222), (44, 40, 40), _WHITE, (200, 190, 170)),
        texture="dots",
        parts=(
            *legs("dark", 0.6, 0.24, 0.36, 0.58, 0.7, width_px=1.6),
            *(
                oval("body", x, y, 0.16, 0.2)
                for x, y in (
                    (0.22, 0.5),
                    (0.34, 0.36),
                    (0.48, 0.34),
                    (0.62, 0.38),
                    (0.68, 0.54),
                    (0.54, 0.6),
                    (0.36, 0.6),
                )
            ),
            oval("dark", 0.86, 0.4, 0.11, 0.16),
        ),
    ),  # fmt: skip
    "sofa": Sprite(
        aspect=2.0,
        colors=((112, 66, 196), (70, 36, 132), (150, 110, 220), _BLACK),
        texture="checks",
        parts=(
            box("body", 0.1, 0.1, 0.9, 0.6),
            box("light", 0.12, 0.48, 0.88, 0.72),
            box("dark", 0.0, 0.34, 0.14, 0.88),
            box("dark", 0.86, 0.34, 1.0, 0.88),
            box("body", 0.12, 0.7, 0.88, 0.88),
            line("accent", (0.08, 0.88), (0.08, 0.98)),
            line("accent", (0.92, 0.88), (0.92, 0.98)),
        ),
    ),
    "train": _CARRIAGE,
    "tvmonitor": Sprite(
        aspect=1.25,
        colors=((44, 46, 56), (20, 20, 26), (90, 220, 250), (150, 150, 160)),
        parts=(
            line("accent", (0.5, 0.7), (0.5, 0.96), width_px=1.8),
            line("accent", (0.26, 0.96), (0.74, 0.96), width_px=1.8),
            box("body", 0.02, 0.04, 0.98, 0.76),
            box("light", 0.09, 0.12, 0.91, 0.66),
            fill("dark", (0.3, 0.66), (0.5, 0.34), (0.66, 0.5), (0.76, 0.4), (0.91, 0.66)),
        ),
    ),
}
