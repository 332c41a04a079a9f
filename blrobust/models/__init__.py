"""The networks: ResNet-18 as the paper's authors used it, and ResNet-20."""
