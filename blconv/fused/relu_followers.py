"""The BatchNorms that are followed by a ReLU and by nothing else, found by a trace of the model."""

import warnings

from torch import fx, nn

from blconv.fused.block import BlockReLU


class _Tracer(fx.Tracer):
    """Tracer that treats modules without children as leaves; torch's tracer would trace into our layers."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return next(m.children(), None) is None or super().is_leaf_module(m, module_qualified_name)


def norms_followed_by_relu(model: nn.Module) -> set[nn.BatchNorm2d]:
    """Return the BatchNorm2d layers whose output always goes to one `nn.ReLU` and nowhere else.

    This must hold in training and in evaluation mode. If the model cannot be traced, for example because its
    control flow depends on values or sizes, gives a warning and returns no layer.
    """
    modes = {module: module.training for module in model.modules()}
    found: list[set[nn.BatchNorm2d]] = []
    try:
        for training in (True, False):
            model.train(training)
            found.append(_followed_by_relu(_Tracer().trace(model), model))
    except Exception as error:  # the model's code may raise anything when it is traced
        warnings.warn(
            f"the model cannot be traced ({error}): its BatchNorms and ReLUs are not joined", stacklevel=3
        )
        return set()
    finally:
        for module, mode in modes.items():
            module.training = mode
    return found[0] & found[1]


def _followed_by_relu(graph: fx.Graph, model: nn.Module) -> set[nn.BatchNorm2d]:
    norms: dict[nn.BatchNorm2d, bool] = {}
    for node in graph.nodes:
        module = _called_module(node, model)
        if isinstance(module, nn.BatchNorm2d):
            followers = [_called_module(user, model) for user in node.users]
            alone = len(followers) == 1 and type(followers[0]) in (nn.ReLU, BlockReLU)
            norms[module] = norms.get(module, True) and alone and not module._forward_hooks
    return {norm for norm, holds in norms.items() if holds}


def _called_module(node: fx.Node, model: nn.Module) -> nn.Module | None:
    return model.get_submodule(str(node.target)) if node.op == "call_module" else None
