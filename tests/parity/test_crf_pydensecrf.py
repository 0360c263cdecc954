"""The lattices against pydensecrf on real photographs with a trained DeepLab's unaries.

Needs `pip install pydensecrf2 ai-edge-litert`; the first builds C++. Without them, the committed
marginals of tests/golden/crf_pydensecrf.npz are what `tests/kernels` compares with.
"""

import numpy as np
import pytest
from densecrf import VARIANTS, pydensecrf
from PIL import Image

from seg_jax.kernels.crf import mean_field

pytest.importorskip("pydensecrf", reason="pip install pydensecrf2: the C++ to compare with")
pytest.importorskip(
    "ai_edge_litert.interpreter", reason="pip install ai-edge-litert: a DeepLab's unaries"
)
pytestmark = pytest.mark.slow
SIZES = [(321, 321), (375, 500), (513, 513)]


@pytest.fixture(scope="module")
def deeplab(test_data):
    """Google's DeepLab v3 MobileNetV2 0.5: uint8 picture [h w 3] -> energies, float32 [h w 21]."""
    from ai_edge_litert.interpreter import Interpreter

    path = test_data / "weights" / "deeplabv3_mnv2_dm05_voc" / "deeplabv3.tflite"
    network = Interpreter(str(path), num_threads=1)
    network.allocate_tensors()
    (given,), (result,) = network.get_input_details(), network.get_output_details()

    def energies(rgb):
        small = Image.fromarray(rgb).resize((257, 257), Image.Resampling.BILINEAR)
        network.set_tensor(given["index"], np.float32(small)[None] / 127.5 - 1)
        network.invoke()
        logits = network.get_tensor(result["index"])[0]
        size = rgb.shape[1], rgb.shape[0]
        planes = [Image.fromarray(plane) for plane in np.moveaxis(logits, -1, 0)]
        planes = [plane.resize(size, Image.Resampling.BILINEAR) for plane in planes]
        logits = np.stack(planes, axis=-1)
        p = np.exp(logits - logits.max(-1, keepdims=True))
        return -np.log(np.maximum(p / p.sum(-1, keepdims=True), 1e-5))

    return energies


@pytest.fixture(scope="module")
def photographs(test_data, deeplab):
    """Energies and picture of the first 20 of VOC's val list that are 375 x 500."""
    root = test_data / "data" / "VOCdevkit" / "VOC2012"
    found = []
    for name in (root / "ImageSets" / "Segmentation" / "val.txt").read_text().split():
        with Image.open(root / "JPEGImages" / f"{name}.jpg") as picture:
            rgb = np.array(picture.convert("RGB"))
        if rgb.shape == (375, 500, 3):
            found.append((deeplab(rgb), rgb))
        if len(found) == 20:
            break
    return found


def compare(unary, rgb, params, implementation):
    theirs = pydensecrf(unary, rgb, params)
    ours = np.asarray(mean_field(unary, rgb, params, implementation=implementation))
    changed = (theirs.argmax(-1) != unary.argmin(-1)).mean()
    print(f"max |dQ| {np.abs(ours - theirs).max():.1e}, the CRF changed {changed:.2%} of labels")
    assert (ours.argmax(-1) == theirs.argmax(-1)).all()
    assert np.abs(ours - theirs).max() < 2e-3
    return changed


@pytest.mark.parametrize("implementation", ["lattice_numba", "lattice"])
@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize("size", SIZES, ids=lambda s: f"{s[0]}x{s[1]}")
def test_three_photographs(size, name, implementation, photographs, deeplab):
    changed = []
    for _, rgb in photographs[:3]:
        resized = Image.fromarray(rgb).resize(size[::-1], Image.Resampling.BILINEAR)
        rgb = np.array(resized)
        changed.append(compare(deeplab(rgb), rgb, VARIANTS[name], implementation))
    assert min(changed) > 0.01, "a CRF that changes nothing proves nothing"


@pytest.mark.parametrize("implementation", ["lattice_numba", "lattice"])
@pytest.mark.parametrize("name", VARIANTS)
def test_twenty_voc_pictures(name, implementation, photographs):
    # Some are background only, and stay it.
    changed = [compare(*pair, VARIANTS[name], implementation) for pair in photographs]
    assert np.mean(changed) > 0.01, "a CRF that changes nothing proves nothing"
