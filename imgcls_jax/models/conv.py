"""The one function through which every convolution of the models goes."""

from jax import lax

conv = lax.conv_general_dilated
