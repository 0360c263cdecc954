"""Architectures, one module a paper: `seg_jax.models.unet.UNet`, ..."""
