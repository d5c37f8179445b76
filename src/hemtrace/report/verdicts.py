"""Verdicts of the checks on pipeline and heat maps: what came of them, why, and by what rule."""

from collections.abc import Mapping, Sequence
from typing import Any

from hemtrace.labels import SUBTYPES
from hemtrace.report.cells import cell, interval, number

# A map of a random network that ranks the pixels half as like the trained one as that is to itself.
_MOST_ALIKE = 0.5
_SHARE_IN_WORDS = {0.8: "four times in five", 0.9: "nine times in ten"}


def tell_leak(nulls: Mapping[str, Any]) -> str:
    """Say what the test for leaks found, and how large a leak it would have found.

    Parameters
    ----------
    nulls
        `nulls` of what `evaluate` gives.
    """
    test = nulls["leak_test"]
    if test is None:
        return "No network was trained on shuffled labels in this run (evaluate.shuffled)."
    difference = test["difference"]
    rule = (
        "Rule: failed where the whole 95 % interval of the network's AUC on those labels, less "
        "that of the position alone, lies above zero."
    )
    if test["passed"] is None:
        return f"Cannot be told, because {_why_no_difference(difference)}. {rule}"
    beyond = (
        f"an AUC of {number(test['network']['value'])}, the position alone "
        f"{number(test['position']['value'])} on the same labels; difference "
        f"{cell(difference)}"
    ).replace("\n", ", 95 % ")
    verdict = (
        "Passed, because what learned from shuffled labels knows no more of them than the position "
        f"does ({beyond}): no large leak was found."
        if test["passed"]
        else "Failed, because what learned from shuffled labels knows more of them than the "
        f"position does ({beyond}): training has seen test patients."
    )
    return (
        f"{verdict} {rule} {_tell_detectable(test['detectable'])} It finds none of a patient under "
        "two names: for those, see Leaks."
    )


def _why_no_difference(difference: Mapping[str, Any]) -> str:
    without = "it has no figure" if difference["value"] is None else "its figure has no interval"
    return f"{without}: {difference['why']}"


def _tell_detectable(found: Mapping[str, Any]) -> str:
    if found["shift"] is None:
        return f"How large a leak it would have found is not known: {found['why']}."
    often = _SHARE_IN_WORDS.get(found["power"], f"in {found['power']:.0%} of such tests")
    bearers = found["bearers"]
    return (
        f"With {found['patients']:,} patients, {bearers:,} bearing a shuffled label of a "
        f"bleed, a leak that lifts the AUC by {found['shift']:.2f} would have been found {often}; "
        f"a smaller one may be missed (by {found['permutations']:,} permutations of the patients' "
        "labels)."
    )


def judge_peaks(found: Mapping[str, Any]) -> str:
    """Say for which subtypes the maps peak on the bleed more often than by chance.

    Parameters
    ----------
    found
        What `explain` gives.
    """
    if found["labels"] is None:
        return "Not made: these data come without lesion masks."
    scored = {name: found["labels"][name]["all"] for name in SUBTYPES}
    worse = _find_worse(found)
    sure = [name for name, own in scored.items() if _is_above_chance(own)]
    open_ = [name for name in SUBTYPES if name not in worse and name not in sure]
    rule = (
        "Rule: failed for a subtype whose peaks hit its bleeds less often than chance, passed "
        "where the whole 95 % interval lies above chance."
    )
    told = [
        f"Failed for {_join(worse)}, because their peaks hit the bleed less often than by chance: "
        f"{'; '.join(_tell_peaks(name, scored[name]) for name in worse)}."
        if worse
        else "",
        f"Passed for {_join(sure)}, because their peaks hit it more often than by chance."
        if sure
        else "",
        f"Cannot be told for {_join(open_)}, because the hits have no interval above chance."
        if open_
        else "",
    ]
    return " ".join([*filter(None, told), rule])


def tell_worse_than_chance(found: Mapping[str, Any]) -> str:
    """Name the subtypes whose maps do worse than chance; nothing where there are none."""
    worse = _find_worse(found)
    if not worse:
        return ""
    own = {name: found["labels"][name]["all"] for name in worse}
    peaks = "; ".join(_tell_peaks(name, own[name]) for name in worse)
    return f"The maps of {_join(worse)} peak on the bleed less often than by chance: {peaks}."


def _find_worse(found: Mapping[str, Any]) -> list[str]:
    if found["labels"] is None:
        return []
    scored = {name: found["labels"][name]["all"] for name in SUBTYPES}
    return [
        name
        for name, own in scored.items()
        if own["n"] and own["pointing"]["value"] < own["pointing_chance"]
    ]


def _is_above_chance(own: Mapping[str, Any]) -> bool:
    low = own["pointing"]["low"] if own["n"] else None
    return low is not None and low > own["pointing_chance"]


def _tell_peaks(name: str, own: Mapping[str, Any]) -> str:
    hits, by_chance = own["n"] * own["pointing"]["value"], own["n"] * own["pointing_chance"]
    return f"{name} on {hits:.0f} of {own['n']:,} slices, by chance on {by_chance:.1f}"


def _join(names: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def judge_planted(found: Mapping[str, Any]) -> str:
    """Say whether the maps point where a bleed was planted.

    Parameters
    ----------
    found
        What `explain` gives.
    """
    planted = found["planted"]
    if planted is None or planted["why"]:
        return f"Not made: {planted['why'] if planted else 'no slices'}."
    own = planted["difference"]
    hits, chance = own["hits"], planted["chance"]
    rule = (
        "Rule: the whole 95 % interval of the hits lies above chance and above the share at every "
        "mirrored or turned place, and every quadrant is hit more often than chance."
    )
    if hits["low"] is None:
        return f"Cannot be told, because the hits have no interval: {hits['why']}. {rule}"
    flips = {turn: place["value"] or 0.0 for turn, place in own["flipped"].items()}
    worst = max(flips, key=lambda turn: flips[turn])
    amiss = []
    if hits["low"] <= chance:
        amiss.append(f"the interval of the hits reaches down to chance ({number(chance, 2)})")
    if hits["low"] <= flips[worst]:
        amiss.append(f"the peak lies as often at its place {worst} ({number(flips[worst], 2)})")
    missed = [name for name, one in own["quadrants"].items() if (one["value"] or 0.0) <= chance]
    if missed:
        amiss.append(f"planted {', '.join(missed)} it is hit no more often than by chance")
    hit = f"{number(hits['value'], 2)} (95 % {interval(hits, 2)})"
    if amiss:
        return f"Failed, because {'; '.join(amiss)}. Hits: {hit}. {rule}"
    return (
        f"Passed, because the change of the map peaks at the planted place in {hit} of the trials, "
        f"by chance in {number(chance, 2)}, and at a mirrored or turned place in "
        f"{number(flips[worst], 2)} at most. {rule}"
    )


def judge_randomisation(found: Mapping[str, Any]) -> str:
    """Say whether the maps change when the network forgets what it learned.

    Parameters
    ----------
    found
        What `explain` gives.
    """
    check = found["randomisation"]
    if check is None or check["why"]:
        return f"Not made: {check['why'] if check else 'no slices'}."
    rule = (
        f"Rule: with random layers, at every step, the whole 95 % interval of the similarity to "
        f"the trained network's maps lies below {_MOST_ALIKE:g} (1 is the same map)"
    )
    random = [step for step in check["steps"] if step["name"] != "trained"]
    last, chance = random[-1], check["pointing_chance"]
    rule += "." if chance is None else ", and the peaks of the last step hit no more than chance."
    unknown = next((step for step in random if step["similarity"]["high"] is None), None)
    if unknown is not None:
        why = unknown["similarity"]["why"]
        return f"Cannot be told, because the similarity has no interval: {why}. {rule}"
    amiss = [
        f"with {_name(step)} random the similarity is {_say(step['similarity'])}"
        for step in random
        if step["similarity"]["high"] >= _MOST_ALIKE
    ]
    pointing = last["pointing"]
    if chance is not None and pointing["low"] is not None and pointing["low"] > chance:
        amiss.append(
            f"with {_name(last)} random the peaks hit a bleed in {_say(pointing)}, by chance in "
            f"{number(chance, 2)}"
        )
    if amiss:
        return f"Failed, because {'; '.join(amiss)}. {rule}"
    if chance is not None and _may_exceed(pointing, chance):
        return (
            f"Cannot be told, because with {_name(last)} random the peaks hit a bleed in "
            f"{_say(pointing)}, by chance in {number(chance, 2)}, and the hits have no interval: "
            f"{pointing['why']}. {rule}"
        )
    return (
        f"Passed, because the maps change: with {_name(last)} random their similarity is "
        f"{_say(last['similarity'])}; that of different patients' maps is "
        f"{number(check['other_patients'], 2)}. {rule}"
    )


def _may_exceed(hits: Mapping[str, Any], chance: float) -> bool:
    """Whether hits without an interval are not known to be as rare as by chance."""
    return hits["low"] is None and (hits["value"] is None or hits["value"] > chance)


def _name(step: Mapping[str, Any]) -> str:
    names = {"all": "all layers", "classifier": "the classifier"}
    return names.get(step["name"], f"the {step['name']} of the layers")


def _say(estimate: Mapping[str, Any]) -> str:
    bounds = interval(estimate, 2)
    return number(estimate["value"], 2) + (f" (95 % {bounds})" if bounds else "")
