from seg_jax import types


def test_voc_palette_is_the_development_kits():
    palette = types.voc_palette()
    # The colours every VOC paper prints: aeroplane, bicycle, cat, person, tvmonitor, void.
    assert palette[[0, 1, 2, 8, 15, 20, 255]].tolist() == [
        [0, 0, 0], [128, 0, 0], [0, 128, 0], [64, 0, 0], [192, 128, 128], [0, 64, 128],
        [224, 224, 192],
    ]  # fmt: skip
    assert len({tuple(colour) for colour in palette.tolist()}) == 256


def test_voc_has_twenty_classes_and_background():
    assert len(types.VOC_CLASSES) == len(set(types.VOC_CLASSES)) == 21
    assert types.VOC_CLASSES.index("person") == 15
