"""Semantic segmentation from FCN to DeepLab v3+ in JAX.

Importing the package is cheap: JAX and the data libraries are loaded by the module that needs them.
"""

__version__ = "0.1.0"
