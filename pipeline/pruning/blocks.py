"""Whole blocks that can go: a branch beside a shortcut, where an addition joins them, or one among several joined."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import fx, nn

from pipeline.pruning.activations import drop_idle_relus
from pipeline.pruning.shapes import shape

_ADDITIONS = {operator.add, operator.iadd, torch.add, "add", "add_"}

_WITH_WEIGHTS = (nn.modules.conv._ConvNd, nn.Linear)


@dataclass(frozen=True, slots=True)
class Block:
    """A branch that can be removed."""

    name: str
    """The addition's node, or the node that a concatenation loses."""
    layers: frozenset[str]
    """Convolutions and linear layers that go with the branch."""
    shortcut: str | None = None
    """The node that takes the addition's place; None: the branch is one of several that are concatenated."""


def residual_blocks(graph: fx.GraphModule) -> tuple[Block, ...]:
    """Return the blocks of a traced network that a shortcut bypasses, in forward order."""
    ancestors = _ancestors(graph)
    found = [_block(graph, node, ancestors) for node in graph.graph.nodes if is_addition(node)]
    return tuple(block for block in found if block is not None)


def branches(graph: fx.GraphModule, joined: Mapping[str, Sequence[str]]) -> tuple[Block, ...]:
    """Return the branches that concatenations along channels can do without; each of these keeps one that stays.

    Args:
        joined: node of each concatenation → the nodes that it joins.
    """
    nodes = {node.name: node for node in graph.graph.nodes}
    found: dict[str, Block] = {}
    for name in dict.fromkeys(name for names in joined.values() for name in names):
        if all(user.name in joined for user in nodes[name].users) and (layers := _only_for(graph, nodes[name])):
            found[name] = Block(name, layers)
    for names in joined.values():
        if all(name in found for name in names):  # else the concatenation could be left with nothing
            found.pop(max(names, key=lambda name: (shape(nodes[name]) or (0, 0))[1]))
    return tuple(found[node.name] for node in graph.graph.nodes if node.name in found)


def innermost(blocks: Iterable[Block]) -> tuple[Block, ...]:
    """Return of nested blocks the inner ones: a plan could not say what is left of a group in a removed outer one."""
    blocks = tuple(blocks)
    return tuple(b for b in blocks if not any(b is not inner and inner.layers <= b.layers for inner in blocks))


def remove_blocks(graph: fx.GraphModule, blocks: Iterable[Block]) -> None:
    """Take blocks out of ``graph``, in place: additions become their shortcuts, concatenations lose the branches."""
    nodes = {node.name: node for node in graph.graph.nodes}
    for block in reversed(list(blocks)):  # a block's shortcut may be the addition of the block before it
        if block.shortcut is None:
            _disjoin(nodes[block.name])
        else:
            nodes[block.name].replace_all_uses_with(nodes[block.shortcut])
            graph.graph.erase_node(nodes[block.name])
    drop_idle_relus(graph)
    graph.graph.eliminate_dead_code()
    graph.delete_all_unused_submodules()
    _drop_unread_weights(graph)
    graph.recompile()


def _drop_unread_weights(graph: fx.GraphModule) -> None:
    """Delete parameters that nothing reads any more, such as a removed block's layer scale."""
    read = {str(n.target) for n in graph.graph.nodes if n.op == "get_attr"}
    called = tuple(f"{n.target}." for n in graph.graph.nodes if n.op == "call_module")
    for name, _ in [*graph.named_parameters(remove_duplicate=False), *graph.named_buffers(remove_duplicate=False)]:
        if name not in read and not name.startswith(called):
            module, _, attribute = name.rpartition(".")
            delattr(graph.get_submodule(module), attribute)


def _disjoin(branch: fx.Node) -> None:
    for user in list(branch.users):
        rest = [node for node in user.args[0] if node is not branch]  # type: ignore[union-attr]
        user.args = (rest, *user.args[1:])


def is_addition(node: fx.Node) -> bool:
    """Return whether a node of a traced network adds two others of its own shape, as they are."""
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
    return Block(addition.name, layers, shortcut.name)


def _only_for(graph: fx.GraphModule, branch: fx.Node) -> frozenset[str]:
    """Return the layers that nothing needs but ``branch``; none where it shares one with others."""
    inside = {branch}
    for node in reversed(graph.graph.nodes):
        if node.users and all(user in inside for user in node.users):
            inside.add(node)
    layers = _layers(graph, frozenset(inside))
    elsewhere = _layers(graph, frozenset(graph.graph.nodes) - inside)
    return frozenset() if layers & elsewhere else layers


def _layers(graph: fx.GraphModule, nodes: frozenset[fx.Node]) -> frozenset[str]:
    return frozenset(
        str(n.target)
        for n in nodes
        if n.op == "call_module" and isinstance(graph.get_submodule(str(n.target)), _WITH_WEIGHTS)
    )
