"""Band-limited convolution for PyTorch (Dziedzic et al., ICML 2019)."""

from blconv import functional as functional
from blconv import reference as reference
from blconv.convert import band_limit as band_limit
from blconv.convert import calibrate as calibrate
from blconv.convert import set_compression as set_compression
from blconv.energy import EnergyBand as EnergyBand
from blconv.fused.block import BandLimitedBlock as BandLimitedBlock
from blconv.layers import BandLimitedConv1d as BandLimitedConv1d
from blconv.layers import BandLimitedConv2d as BandLimitedConv2d
from blconv.summary import LayerCompression as LayerCompression
from blconv.summary import NetworkCompression as NetworkCompression
from blconv.summary import effective_compression as effective_compression
from blconv.summary import explain as explain
from blconv.summary import summary as summary
