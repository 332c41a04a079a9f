"""Band-limited convolution for PyTorch (Dziedzic et al., ICML 2019)."""

from blconv import functional as functional
from blconv import reference as reference
from blconv.convert import LayerCompression as LayerCompression
from blconv.convert import NetworkCompression as NetworkCompression
from blconv.convert import band_limit as band_limit
from blconv.convert import effective_compression as effective_compression
from blconv.convert import set_compression as set_compression
from blconv.layers import BandLimitedConv2d as BandLimitedConv2d
