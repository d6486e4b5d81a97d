"""Whole blocks: where an addition joins a branch to a shortcut, the branch can go and the shortcut stays."""

from __future__ import annotations

import operator
from dataclasses import dataclass

import torch
from torch import fx, nn
from torch.nn import functional

from pipeline.pruning.tracing import shape

_ADDITIONS = {operator.add, operator.iadd, torch.add, "add", "add_"}

_RELUS = {functional.relu, torch.relu, "relu", "relu_"}


@dataclass(frozen=True, slots=True)
class Block:
    """A branch that can be removed."""

    name: str
    """The addition's node."""
    shortcut: str
    """The node that takes the addition's place."""
    layers: frozenset[str]
    """Convolutions and linear layers that go with the branch."""


def find_blocks(graph: fx.GraphModule) -> tuple[Block, ...]:
    """Return the residual blocks of a traced network whose shapes were propagated, in forward order."""
    ancestors = _ancestors(graph)
    found = [_block(graph, node, ancestors) for node in graph.graph.nodes if _is_addition(node)]
    blocks = [block for block in found if block is not None]
    # Of nested blocks the inner ones: a plan could not say what is left of a group inside a removed outer one.
    return tuple(b for b in blocks if not any(b is not inner and inner.layers <= b.layers for inner in blocks))


def remove_blocks(graph: fx.GraphModule, names: frozenset[str]) -> None:
    """Take the named blocks out of ``graph``, in place: each addition becomes its shortcut."""
    blocks = {block.name: block for block in find_blocks(graph) if block.name in names}
    if missing := names - blocks.keys():
        raise KeyError(f"no such block: {', '.join(sorted(missing))}")
    nodes = {node.name: node for node in graph.graph.nodes}
    for block in reversed(blocks.values()):  # a block's shortcut may be the addition of the block before it
        nodes[block.name].replace_all_uses_with(nodes[block.shortcut])
        graph.graph.erase_node(nodes[block.name])
    _merge_activations(graph)
    graph.graph.eliminate_dead_code()
    graph.delete_all_unused_submodules()
    graph.recompile()


def _merge_activations(graph: fx.GraphModule) -> None:
    """Drop a ReLU that reads nothing but another ReLU: without the addition between them it changes nothing."""
    for node in list(graph.graph.nodes):
        if _is_relu(graph, node) and _is_relu(graph, node.all_input_nodes[0]):
            node.replace_all_uses_with(node.all_input_nodes[0])


def _is_relu(graph: fx.GraphModule, node: fx.Node) -> bool:
    if node.op == "call_module":
        return isinstance(graph.get_submodule(str(node.target)), nn.ReLU)
    return node.target in _RELUS and len(node.all_input_nodes) == 1


def _is_addition(node: fx.Node) -> bool:
    if node.kwargs:  # torch.add's alpha scales one side
        return False
    return (
        node.op in ("call_function", "call_method")
        and node.target in _ADDITIONS
        and len(node.all_input_nodes) == 2
        and all(shape(n) is not None and shape(n) == shape(node) for n in node.all_input_nodes)
    )


def _ancestors(graph: fx.GraphModule) -> dict[fx.Node, frozenset[fx.Node]]:
    """Return for each node itself and all nodes that it depends on."""
    ancestors: dict[fx.Node, frozenset[fx.Node]] = {}
    for node in graph.graph.nodes:
        ancestors[node] = frozenset({node}).union(*(ancestors[n] for n in node.all_input_nodes))
    return ancestors


def _block(graph: fx.GraphModule, addition: fx.Node, ancestors: dict[fx.Node, frozenset[fx.Node]]) -> Block | None:
    a, b = addition.all_input_nodes
    sides = sorted(
        ((x, y, ancestors[x] - ancestors[y]) for x, y in ((a, b), (b, a))), key=lambda s: len(_layers(graph, s[2]))
    )
    (_, _, shortcut_nodes), (_, shortcut, branch) = sides
    layers, on_shortcut = _layers(graph, branch), _layers(graph, shortcut_nodes)
    leaks = any(user not in branch and user is not addition for node in branch for user in node.users)
    if leaks or len(on_shortcut) > 1 or len(layers) <= len(on_shortcut):
        return None
    return Block(addition.name, shortcut.name, layers)


def _layers(graph: fx.GraphModule, nodes: frozenset[fx.Node]) -> frozenset[str]:
    return frozenset(
        str(n.target)
        for n in nodes
        if n.op == "call_module" and isinstance(graph.get_submodule(str(n.target)), (nn.Conv2d, nn.Linear))
    )
