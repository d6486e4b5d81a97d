"""Follow each channel through a traced network: a label a channel, carried by rules from operator to operator.

Labels are integers. A layer that makes channels gives out new ones; an addition ties the labels that meet in it; a
view, a concatenation or a shuffle moves them; what reads channels notes whose labels lie along which axis of which
weight. Whatever has no rule pins the labels that go into it. Tied labels then come or go together, and a label that is
pinned stays; that is all that there is to know about how a network may be cut.
"""

from pipeline.pruning.dependency.propagation.labels import Book, Edit
from pipeline.pruning.dependency.propagation.propagate import follow

__all__ = ["Book", "Edit", "follow"]
