"""A rule's settings in a sentence."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.adaptation.policies import RuleSettings


def rule_in_words(rule: RuleSettings, names: Sequence[str]) -> str:
    """Return what a rule does.

    >>> rule_in_words(RuleSettings(start=0, escalate_to=1, threshold=0.6), ["cheap", "plain"])
    'cheap answers; where its margin is below 0.6, plain answers as well'
    """
    parts = [f"{names[rule.start]} answers"]
    if rule.is_gated:
        parts.append(f"where margins average below {rule.gate:g}, {names[rule.instead]} does")
    if rule.escalates:
        parts.append(f"where its margin is below {rule.threshold:g}, {names[rule.escalate_to]} answers as well")
        if rule.sticky_difference:
            parts.append(f"and goes on while frames differ by less than {rule.sticky_difference:g} of 255")
    if rule.keep.frames:
        parts.append(
            f"an answer of margin above {rule.keep.margin:g} is kept for up to {rule.keep.frames} frames that differ "
            f"by less than {rule.keep.difference:g}"
        )
    return "; ".join(parts)
