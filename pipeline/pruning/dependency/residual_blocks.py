"""Whole blocks that can go: values that a sum or a concatenation can do without, with all that only leads to them.

Of the values that a sum adds up one stays, its shortcut: the one that keeps fewest layers. Every other one that layers
make can go, in a sum of several each by itself; blocks may so lie within blocks. What a sum is left without counts as
zero, and where nothing is left of a sum within a sum, that counts as zero, too.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from torch import fx

from pipeline.pruning.dependency.redundant_relu import drop_idle_relus
from pipeline.pruning.dependency.regions import Regions
from pipeline.pruning.dependency.sums import operands, without
from pipeline.pruning.tracing.shapes import shape


@dataclass(frozen=True, slots=True)
class Block:
    """A branch that can be removed."""

    name: str
    """Of the sum's node, or of the branch's own where another block has that or a concatenation joins it."""
    layers: frozenset[str]
    """Layers with weights that go with the branch."""
    holds: frozenset[str]
    """All modules, and parameters by themselves, that go with it."""
    node: str
    """The sum that does without it; of a concatenation, the node that is joined."""
    place: int | None = None
    """Among what the sum adds up; None: it is one of several that are concatenated."""
    separable: bool = False
    """It is a sum whose operands go one by one: they say by themselves whether all of it goes."""

    def within(self, other: Block) -> bool:
        """Return whether it goes with another block."""
        return self.layers < other.layers


def residual_blocks(graph: fx.GraphModule) -> tuple[Block, ...]:
    """Return the blocks of a traced network that sums can do without, in forward order."""
    return _Sums(graph).blocks()


def branches(graph: fx.GraphModule, joined: Mapping[str, Sequence[str]]) -> tuple[Block, ...]:
    """Return the branches that concatenations along channels can do without; each of these keeps one that stays.

    Args:
        joined: node of each concatenation → the nodes that it joins.
    """
    nodes, regions = {node.name: node for node in graph.graph.nodes}, Regions(graph)
    found: dict[str, Block] = {}
    for name in dict.fromkeys(name for names in joined.values() for name in names):
        region = regions.behind(nodes[name], [nodes[cat] for cat in joined])
        if (layers := regions.layers(region)) and not _reads_the_image(region):
            found[name] = Block(name, layers, regions.held(region), name)
    for names in joined.values():
        if all(name in found for name in names):  # else the concatenation could be left with nothing
            found.pop(max(names, key=lambda name: (shape(nodes[name]) or (0, 0))[1]))
    return tuple(found[node.name] for node in graph.graph.nodes if node.name in found)


def distinct(blocks: Iterable[Block]) -> tuple[Block, ...]:
    """Return blocks without those that take the layers of another one and no more; each with a name of its own."""
    found: dict[frozenset[str], Block] = {}
    for block in sorted(blocks, key=lambda b: len(b.holds)):
        found.setdefault(block.layers, block)
    named: dict[str, Block] = {}
    for block in found.values():
        name = next(name for name in _names(block) if name not in named)
        named[name] = replace(block, name=name)
    return tuple(named.values())


def _names(block: Block) -> Iterator[str]:
    yield block.name
    number = 2
    while True:
        yield f"{block.name}#{number}"
        number += 1


def remove_blocks(graph: fx.GraphModule, blocks: Iterable[Block]) -> None:
    """Take blocks out of ``graph``, in place: sums and concatenations lose what they read of them."""
    gone: dict[str, set[int]] = {}
    nodes = {node.name: node for node in graph.graph.nodes}
    for block in blocks:
        if block.place is None:  # first, as long as a branch that is a sum is called so
            _disjoin(nodes[block.node])
        else:
            gone.setdefault(block.node, set()).add(block.place)
    _thin_out_sums(graph, gone)
    drop_idle_relus(graph)
    graph.graph.eliminate_dead_code()
    graph.delete_all_unused_submodules()
    _drop_unread_weights(graph)
    graph.recompile()


def _thin_out_sums(graph: fx.GraphModule, gone: Mapping[str, set[int]]) -> None:
    """Take operands out of sums; one that is left alone takes the sum's place, and of none the sum goes in turn."""
    added = {node: operands(node) for node in graph.graph.nodes if operands(node)}
    nothing: set[fx.Node] = set()
    for node, values in added.items():
        lost = gone.get(node.name, set()) | {place for place, value in enumerate(values) if value in nothing}
        if not lost:
            continue
        left = without(node, lost)
        if left is None:
            nothing.add(node)
        elif left is not node:
            node.replace_all_uses_with(left)


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


@dataclass(frozen=True, slots=True)
class _Operand:
    """A value that a sum adds up."""

    sum: fx.Node
    place: int
    node: fx.Node
    region: frozenset[fx.Node]
    layers: frozenset[str]
    inner: tuple[_Operand, ...] = field(default=(), repr=False)
    """Where it is a sum itself that nothing else reads: what that adds up."""


class _Sums:
    """Finds the blocks of a network's sums, the inner ones before those around them."""

    def __init__(self, graph: fx.GraphModule) -> None:
        self._graph, self._regions = graph, Regions(graph)
        self._added = {node: found for node in graph.graph.nodes if (found := operands(node))}
        self._found: list[Block] = []
        self._names: set[str] = set()
        self._depends = _depends_on_the_image(graph)

    def blocks(self) -> tuple[Block, ...]:
        for node in self._added:
            if not self._is_inner(node):
                self._choose(shape(node), self._operands(node))
        order = {node.name: place for place, node in enumerate(self._graph.graph.nodes)}
        return tuple(sorted(self._found, key=lambda block: order[block.node]))

    def _is_inner(self, node: fx.Node) -> bool:
        """Return whether a sum is only an operand of another one."""
        return len(node.users) == 1 and node in self._added.get(next(iter(node.users)), ())

    def _operands(self, node: fx.Node) -> tuple[_Operand, ...]:
        found = []
        for place, value in enumerate(self._added[node]):
            reader = node if node in value.users else node.all_input_nodes[0]  # a sum of a stack
            region = self._regions.behind(value, [reader])
            inner = self._operands(value) if value in self._added and self._is_inner(value) else ()
            found.append(_Operand(node, place, value, region, self._regions.layers(region), inner))
        return tuple(found)

    def _choose(self, whole: tuple[int, ...] | None, added: Sequence[_Operand]) -> None:
        """Let all operands of a sum go but its shortcut; of a shortcut that is a sum itself, all but that one's."""
        able = [operand for operand in added if self._can_stay(operand, whole)]
        if not able:
            return
        shortcut = min(able, key=self._weight_of_staying)
        for operand in sorted(added, key=lambda o: -len(o.layers)):
            if operand is not shortcut:
                self._let_go(operand)
        self._choose(whole, shortcut.inner)

    def _let_go(self, operand: _Operand) -> None:
        """Note an operand as a block, and those of a sum within it, each by itself."""
        for inner in sorted(operand.inner, key=lambda o: -len(o.layers)):
            self._let_go(inner)
        apart = frozenset[str]().union(*(inner.layers for inner in operand.inner))
        if operand.layers and not _reads_the_image(operand.region):
            name = operand.sum.name if operand.sum.name not in self._names else operand.node.name
            self._names.add(name)
            held = self._regions.held(operand.region)
            self._found.append(Block(
                name, operand.layers, held, operand.sum.name, operand.place, separable=operand.layers == apart
            ))  # fmt: skip

    def _can_stay(self, operand: _Operand, whole: tuple[int, ...] | None) -> bool:
        """Return whether an operand can be all that is left of a sum: it depends on the image, and has its shape."""
        if operand.inner:
            return any(self._can_stay(inner, whole) for inner in operand.inner)
        return operand.node in self._depends and shape(operand.node) == whole

    def _weight_of_staying(self, operand: _Operand) -> tuple[int, int, int]:
        return self._left(operand), len(operand.layers), self._regions.parameters(operand.layers)

    def _left(self, operand: _Operand) -> int:
        """Return how many layers an operand keeps when all goes that can go within it."""
        if operand.inner:
            apart = frozenset[str]().union(*(inner.layers for inner in operand.inner))
            return len(operand.layers - apart) + min(self._left(inner) for inner in operand.inner)
        inside = (block.layers for block in self._found if block.layers <= operand.layers)
        return len(operand.layers - frozenset[str]().union(*inside))


def _reads_the_image(region: frozenset[fx.Node]) -> bool:
    return any(node.op == "placeholder" for node in region)


def _depends_on_the_image(graph: fx.GraphModule) -> set[fx.Node]:
    found: set[fx.Node] = set()
    for node in graph.graph.nodes:
        if node.op == "placeholder" or any(source in found for source in node.all_input_nodes):
            found.add(node)
    return found
