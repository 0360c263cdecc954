"""Networks with weights: published ones in their authors' formats, our releases, and our runs.

loaded = pretrained.load("deeplabv3.tflite")
x = loaded.preprocessing(image)                                # uint8 [h w 3] -> float32
loaded.model.apply(loaded.variables, x[None], train=False)["out"]  # logits [1 h' w' k]
"""

from seg_jax.pretrained.loading import load
from seg_jax.pretrained.network import ImagePreprocessing, Pretrained

__all__ = ["ImagePreprocessing", "Pretrained", "load"]
