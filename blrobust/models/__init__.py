"""The networks: ResNet-20, and ResNet-18 as the paper's authors used it."""

from blrobust.models.classifier import ARCHITECTURES as ARCHITECTURES
from blrobust.models.classifier import Classifier as Classifier
from blrobust.models.classifier import Normalize as Normalize
from blrobust.models.classifier import build as build
