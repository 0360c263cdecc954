"""`synthetic_voc`, drawn when it is first used: see `seg_jax.data.synthetic.dataset`."""

from seg_jax.data.synthetic.dataset import open_split, splits

GET = "it is made when it is first used, or with `data synthesize`"
MAKES_ITSELF = True

__all__ = ["GET", "MAKES_ITSELF", "open_split", "splits"]
