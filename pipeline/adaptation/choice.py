"""Choice of the controller's settings: the rule by a grid, a learned policy where there is something to be learnt.

Everything here sees the tuning and the selection streams alone; the streams that judge come later.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from pipeline.adaptation.cost_at_accuracy import Ratio, cost_ratio, hull_of, joined, mean_cost_at, stacked
from pipeline.adaptation.learning import PRICES, LearnedPolicy, Trained, train
from pipeline.adaptation.policies import (
    ConditionOracle,
    FixedPolicy,
    Keep,
    RulePolicy,
    RuleSettings,
    alone,
    cascades,
    gated_cascades,
    gates,
    keeps,
)
from pipeline.adaptation.replay import Floats, Outcome, Policy, replay
from pipeline.adaptation.streams import Ladder, Streams
from pipeline.events import Listener, Note, Stage, StageProgress

LEAST_CEILING = 1.1
"""What knowing the condition has to save over the rule for a policy to be trained."""
SAVING_POINTS = 0.02
"""By how much less accurate the controller may be while a sensor is beyond its limit."""
_AT_ONCE = 500
"""Settings that are replayed together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LearnedPoint:
    """At which price the learned policy works, and when it keeps answers."""

    price: float
    keep: Keep


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One operating point of the controller."""

    rule: RuleSettings
    learned: LearnedPoint | None


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What was chosen, and by what."""

    floor: float
    """Accuracy on the selection streams that is not to be missed."""
    families: dict[str, list[RuleSettings]]
    """Settings on the tuning streams' hull, of each kind of rule."""
    points: dict[str, Point]
    ceiling: Ratio
    """The rule's cost over the condition oracle's, at the floor."""
    trained: Trained | None
    """None: there was nothing to be learnt."""
    prices: list[LearnedPoint]
    """At which the learned policy is on the hull."""
    learned_ratio: Ratio | None
    """The learned policy's cost over the rule's, at the floor."""
    ships: str
    """``rule`` or ``learned``."""
    why: str


CASCADE, GATE, RULE, CASCADE_KEEPING, RULE_KEEPING = (
    "cascade", "gate", "rule, nothing kept", "cascade, answers kept", "rule",
)  # fmt: skip


def choose(
    tuning: Sequence[Streams], selection: Sequence[Streams], *, plain: int, floor: float | None, seed: int,
    listen: Listener,
) -> Choice:  # fmt: skip
    """Choose the rule's settings, print what could be gained beyond, and train where that is enough.

    Args:
        tuning: streams that settings and networks are fitted to.
        selection: of other images and other kinds of corruption; among what is left, these choose.
        plain: the variant that would be deployed alone.
        floor: accuracy on the selection streams; None: the plain variant's own there.
        seed: of the training.
        listen: hears every step.
    """
    variants = len(tuning[0].ladder.costs)
    by_itself = outcome(selection, FixedPolicy(range(variants)))
    wanted = float(by_itself.accuracy[plain].mean()) if floor is None else floor
    families = _families(tuning, variants, listen)
    listen(Stage("Choose the rule's settings on other images and other corruptions"))
    rule = outcome(selection, RulePolicy(families[RULE_KEEPING]))
    chosen = _at_floor(rule, wanted)
    saving = _at_floor(rule, wanted - SAVING_POINTS)
    target = by_itself.accuracy[plain] if floor is None else np.full(rule.accuracy.shape[1], wanted)
    missing = max(0.0, wanted - float(rule.accuracy.mean(1).max()))  # where nothing reaches it, as near as can be
    target = target - missing
    oracle = _oracle(selection, families[RULE_KEEPING])
    ceiling = cost_ratio(rule, oracle, target)
    listen(Note(_ceiling_in_words(ceiling)))
    points = {
        "normal": Point(rule=families[RULE_KEEPING][chosen], learned=None),
        "saving": Point(rule=families[RULE_KEEPING][saving], learned=None),
    }
    found = Choice(
        floor=wanted, families=families, points=points, ceiling=ceiling, trained=None, prices=[], learned_ratio=None,
        ships="rule", why="knowing the condition would save too little to be learnt",
    )  # fmt: skip
    if not ceiling.value >= LEAST_CEILING:
        return found
    return _with_learned(found, tuning, selection, rule, target, plain, seed, listen)


def outcome(streams: Sequence[Streams], policy: Policy) -> Outcome:
    """Return what becomes of a policy on several sets of streams, as one."""
    return joined([replay(one, policy) for one in streams])


def _families(tuning: Sequence[Streams], variants: int, listen: Listener) -> dict[str, list[RuleSettings]]:
    """Return the settings on the hull of each kind of rule, a variant by itself among them."""
    single = alone(variants)
    kinds = {CASCADE: list(cascades(variants)), GATE: list(gates(variants)), "both": list(gated_cascades(variants))}
    listen(Stage("Tune the rule"))
    done = 0

    def on_part(settings: int) -> None:
        nonlocal done
        done += settings
        listen(StageProgress(done, "settings"))

    found = {name: _best(tuning, [*single, *settings], on_part) for name, settings in kinds.items()}
    found[RULE] = _best(tuning, list(dict.fromkeys([*found[CASCADE], *found[GATE], *found.pop("both")])), on_part)
    listen(Stage("Tune when answers are kept"))
    for name, whole in ((CASCADE_KEEPING, found[CASCADE]), (RULE_KEEPING, found[RULE])):
        found[name] = _best(tuning, [replace(one, keep=keep) for one in whole for keep in keeps()], on_part)
    return found


def _best(
    streams: Sequence[Streams], settings: Sequence[RuleSettings], on_part: Callable[[int], None]
) -> list[RuleSettings]:
    """Return the settings on the hull; ``on_part`` hears how many more were replayed."""
    outcomes = []
    for at in range(0, len(settings), _AT_ONCE):
        part = settings[at : at + _AT_ONCE]
        outcomes.append(outcome(streams, RulePolicy(part)))
        on_part(len(part))
    found = stacked(outcomes)
    return [settings[i] for i in hull_of(found)]


def _at_floor(found: Outcome, floor: float) -> int:
    """Return the cheapest setting that reaches the floor; where none does, the most accurate."""
    accuracy, cost = found.accuracy.mean(1), found.cost.mean(1)
    reaching = np.flatnonzero(accuracy >= floor)
    return int(reaching[cost[reaching].argmin()]) if len(reaching) else int(accuracy.argmax())


def _oracle(streams: Sequence[Streams], rules: Sequence[RuleSettings]) -> Outcome:
    """Return the condition oracle at many prices, with each way of keeping answers that the rule has."""
    return stacked([outcome(streams, ConditionOracle(PRICES, keep)) for keep in _distinct_keeps(rules)])


def _distinct_keeps(rules: Sequence[RuleSettings]) -> list[Keep]:
    return list(dict.fromkeys([Keep(), *(one.keep for one in rules)]))


def _ceiling_in_words(ceiling: Ratio) -> str:
    if not np.isfinite(ceiling.value):
        return "ceiling: at the floor nothing is gained by knowing the condition of every frame: the rule ships"
    said = f"ceiling: at the floor, the rule costs {ceiling} what it would cost to know the condition of every frame"
    if ceiling.value >= LEAST_CEILING:
        return f"{said}: a policy is trained"
    return f"{said}; under {LEAST_CEILING}×, so the rule ships and nothing is trained"


def _with_learned(
    found: Choice, tuning: Sequence[Streams], selection: Sequence[Streams], rule: Outcome, target: Floats, plain: int,
    seed: int, listen: Listener,
) -> Choice:  # fmt: skip
    """Train a policy of one stage and one of two, and ship the better one where it is surely cheaper than the rule."""
    costs = tuning[0].ladder.costs.tolist()
    rules, fallback = found.families[RULE_KEEPING], found.points["normal"].rule
    tried = [LearnedPoint(price=price, keep=keep) for keep in _distinct_keeps(rules) for price in PRICES]
    best: tuple[float, Trained, Outcome] | None = None
    for two_stages in (False, True):
        listen(Stage(f"Train a policy of {'two stages' if two_stages else 'one stage'}"))
        trained = train(_together(tuning), reference=plain, two_stages=two_stages, seed=seed)
        seen = outcome(selection, policy_of(trained, costs, tried, fallback))
        cost = mean_cost_at(seen, float(target.mean()))
        listen(Note(f"it would cost {cost:.3f} at the floor, the rule {mean_cost_at(rule, float(target.mean())):.3f}"))
        if best is None or np.isnan(best[0]) or cost < best[0]:
            best = cost, trained, seen
    assert best is not None
    _, trained, seen = best
    ratio = cost_ratio(seen, rule, target)
    on = [tried[i] for i in hull_of(seen)]
    ships = "learned" if ratio.high < 1 else "rule"
    points = {
        name: replace(point, learned=tried[_at_floor(seen, found.floor - less)])
        for (name, point), less in zip(found.points.items(), (0.0, SAVING_POINTS), strict=True)
    }
    why = f"the learned policy costs {ratio} of the rule at the floor"
    listen(Note(f"{why}: {'it' if ships == 'learned' else 'the rule'} ships"))
    return replace(found, trained=trained, prices=on, learned_ratio=ratio, ships=ships, why=why, points=points)


def policy_of(
    trained: Trained, costs: Sequence[float], points: Sequence[LearnedPoint], fallback: RuleSettings
) -> LearnedPolicy:
    """Return the learned policy at these points."""
    return LearnedPolicy(trained, costs, [one.price for one in points], [one.keep for one in points], fallback)


def _together(streams: Sequence[Streams]) -> Streams:
    """Return sets of streams of the same frames as one."""
    first = streams[0]
    return Streams(
        frames=first.frames, ladder=first.ladder,
        **{name: np.concatenate([getattr(one, name) for one in streams])
           for name in ("condition", "image", "view", "slower")},
    )  # fmt: skip


def controller_json(choice: Choice, ladder: Ladder, files: Sequence[str], *, ring: int) -> dict[str, Any]:
    """Return controller.json: see ``deploy.controller``."""
    ships = choice.trained is not None and choice.ships == "learned"
    return {
        "schema": 1,
        "variants": [
            {"name": name, "file": file, "cost": round(float(cost), 5), "latency_ms": round(float(ms), 5)}
            for name, file, cost, ms in zip(ladder.names, files, ladder.costs, ladder.latencies_ms, strict=True)
        ],
        "deadline_ms": float(ladder.deadline_ms) if np.isfinite(ladder.deadline_ms) else None,
        "points": {name: _point(point, ships) for name, point in choice.points.items()},
        "learned": choice.trained.numbers if ships and choice.trained is not None else None,
        "limits": {"temperature_c": [None, 80.0], "throttled": [None, 0.5], "battery": [0.2, None]},
        "ring": ring,
    }  # fmt: skip


def _point(point: Point, ships: bool) -> dict[str, Any]:
    learned = point.learned
    return {
        "rule": point.rule.as_json(),
        "learned": None if learned is None or not ships else {
            "price": learned.price, "keep": {"difference": learned.keep.difference, "margin": learned.keep.margin,
                                             "frames": learned.keep.frames},
        },
    }  # fmt: skip
