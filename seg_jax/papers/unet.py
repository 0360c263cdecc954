"""U-Net: Ronneberger, Fischer, Brox (MICCAI 2015, arXiv 1505.04597). No VOC figure exists."""

from functools import partial

from seg_jax.papers.figure import Figure

_UNET = partial(
    Figure, family="U-Net", split="test", pretraining="none", source="MICCAI 2015", date="2015-05"
)

FIGURES = (
    _UNET("U-Net", None, experiment="unet_isbi2012", dataset="ISBI 2012", trained_on="30 images",
          metrics=(("warping error", 0.0003529), ("Rand error", 0.0382)),
          note="mean over 7 rotated versions of the input"),
    _UNET("U-Net, pixel error", None, experiment="unet_isbi2012", dataset="ISBI 2012",
          trained_on="30 images", metrics=(("pixel error", 0.0611),), verified="unverified",
          note="mean over 7 rotated versions of the input"),
    _UNET("U-Net", 92.03, dataset="ISBI 2015 PhC-U373", trained_on="35 images",
          verified="unverified", note="IoU of cells"),
    _UNET("U-Net", 77.56, dataset="ISBI 2015 DIC-HeLa", trained_on="20 images",
          verified="unverified", note="IoU of cells"),
)  # fmt: skip
