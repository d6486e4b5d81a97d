"""Symbolic channel propagation: a label a channel, carried by rules from operator to operator.

Labels are integers. A layer that makes channels gives out new ones; an addition couples the labels that meet in it; a
view, a concatenation or a shuffle moves them; what reads channels notes whose labels lie along which axis of which
weight. Whatever has no rule freezes the labels of its inputs. Coupled labels come or go together, and a frozen label
stays; that is all that there is to know about how a network may be cut.
"""

from pipeline.pruning.dependency.propagation.labels import Edit, PropagationState
from pipeline.pruning.dependency.propagation.propagate import propagate

__all__ = ["Edit", "PropagationState", "propagate"]
