"""What a recommendation says, in sentences and tables that the terminal and the Markdown share."""

from __future__ import annotations

from robustcheck.recommend.document import ConsideredOption, Gain, MeasuredLatency, Recommendation, StoppedActivation
from robustcheck.reporting.tables import Line, Table
from robustcheck.reporting.wording import NONE, counted, listed, percent, points

_STOPPED_NOTE = (
    "Stopped: after some seed it was behind the best one by more than its margin, and its later networks are the"
    " reference only. The margin is wider the more the difference varies from seed to seed, so that an activation that"
    " varies more may survive with a lower mean: it is not worse beyond doubt."
)


def headline(found: Recommendation) -> str:
    """The answer in one sentence."""
    if found.verdict == "tie":
        return f"Keep {found.current}: no candidate is better beyond doubt."
    if found.verdict == "winner":
        return f"Put {found.chosen} in place of {found.current}."
    if found.better and found.current not in found.better:
        respects = dict.fromkeys(each for those in found.better.values() for each in those)
        return (
            f"Put {found.chosen} in place of {found.current}; a trade-off with {listed(found.better)}, better in"
            f" {listed(respects)}."
        )
    return f"A trade-off: {found.chosen} is more accurate under noise than {found.current}, at a price."


def paragraph(found: Recommendation) -> tuple[str, ...]:
    """What was tried, the answer, how sure it is, what it costs, and what to do."""
    tried = counted(len(found.candidates) - 1, "other activation")
    sentences = [
        f"{tried} competed with {found.current} in {found.model} on {found.data} behind {found.sensor} at"
        f" {listed(found.points)}, fine-tuned alike, {counted(found.race.seeds, 'network')} each for those that went"
        " all the way.",
        headline(found),
        *(_tie(found) if found.verdict == "tie" else _change(found)),
    ]
    return tuple(sentences)


def _tie(found: Recommendation) -> list[str]:
    others = [each for each in found.race.survivors if each != found.current]
    group = (
        f"{listed(others)} cannot be told from it on validation."
        if others
        else "Every other candidate is worse beyond doubt."
    )
    return [group, *_seen(found, others), "What to do: keep the model as it is; no model was written."]


def _seen(found: Recommendation, others: list[str]) -> list[str]:
    """How much better a candidate would have had to be, and what would show less."""
    if found.race.margin is None or not others:
        return []
    best = found.option(others[0])
    ahead = best.noisy - found.option(found.current).noisy
    return [
        f"With {counted(found.race.seeds, 'network')} each, {best.activation}, the best of the others, would have taken"
        f" its place from {percent(found.race.margin)} points of mean accuracy ahead; it was"
        f" {percent(abs(ahead))} points {'ahead' if ahead >= 0 else 'behind'}.",
        "More networks (--seeds) show smaller differences.",
    ]


def _change(found: Recommendation) -> list[str]:
    noisy = [gain for gain in found.gains if gain.point not in ("clean", "quantised only")]
    told = "; ".join(f"{gain.point}: {_gain(gain)}" for gain in noisy)
    unsure = [gain.point for gain in noisy if gain.lower <= 0]
    tied = [each for each in found.race.survivors if each != found.chosen]
    sentences = [
        f"On the test set, which had no part in the choice, it gains (points of accuracy, with 95 % intervals over"
        f" trained networks): {told}.",
        f"How sure: the chance that {found.current} is to be replaced though no candidate is better is at most"
        f" {percent(found.race.alpha)} %.",
    ]
    if unsure:
        sentences.append(f"At {listed(unsure)} the test set alone does not confirm it: the interval includes 0.")
    if tied:
        sentences.append(f"{listed(tied)} cannot be told from {found.chosen} under noise.")
    sentences.append(_price(found))
    if found.delivered is not None:
        sentences.append(f"What to do: use {listed(found.delivered.files)}; patch.md lists every change.")
    return sentences


def _gain(gain: Gain) -> str:
    return f"{points(gain.difference)} ({points(gain.lower)} to {points(gain.upper)}), to {percent(gain.chosen)} %"


def _price(found: Recommendation) -> str:
    before, after = found.option(found.current), found.option(found.chosen)
    parts = []
    if before.latency is None or after.latency is None:
        parts.append("a latency that could not be measured")
    elif _tied(before.latency, after.latency):
        parts.append(f"no time that could be measured ({_time(after.latency)} an image)")
    else:
        change = after.latency.median_us / before.latency.median_us - 1
        parts.append(
            f"{abs(100 * change):.0f} % {'more' if change > 0 else 'less'} time in ONNX Runtime"
            f" ({_time(before.latency)} → {_time(after.latency)})"
        )
    added = after.parameters - before.parameters
    parts.append(f"{added:+d} parameters" if added else "no parameter")
    told = f"What it costs or saves: {listed(parts)}"
    clean = next((gain for gain in found.gains if gain.point == "clean"), None)
    if clean is not None:
        told += f"; clean accuracy: {points(clean.difference)} ({points(clean.lower)} to {points(clean.upper)})"
    return f"{told}."


def _tied(a: MeasuredLatency, b: MeasuredLatency) -> bool:
    return a.lower_us <= b.upper_us and b.lower_us <= a.upper_us


def _time(latency: MeasuredLatency) -> str:
    return f"{latency.median_us / latency.batch:.3g} µs"


def options_table(found: Recommendation) -> Table:
    """What each option gives and costs."""
    return Table(
        "Options, on validation",
        ("activation", "under noise [%]", "clean [%]", "latency [µs]", "quartiles [µs]", "parameters", "front"),
        tuple(_option(found, option) for option in found.options),
        notes=(
            "Front: no other option is better in one respect and worse in none. Under noise, those that the race did"
            " not stop are equal; clean accuracies are equal unless they differ significantly; latencies whose"
            " quartiles overlap are equal; so are parameters within 1 %.",
            *([_STOPPED_NOTE] if not all(option.leads for option in found.options) else []),
        ),
    )


def _option(found: Recommendation, option: ConsideredOption) -> Line:
    name = option.activation + (" (current)" if option.activation == found.current else "")
    time = option.latency
    return Line(
        (
            name,
            percent(option.noisy) + ("" if option.leads else " (stopped)"),
            percent(option.clean),
            NONE if time is None else f"{time.median_us:.3g}",
            NONE if time is None else f"{time.lower_us:.3g}–{time.upper_us:.3g}",
            str(option.parameters),
            "yes" if option.front else "no",
        ),
        lead=option.activation == found.chosen,
    )


def stop_sentence(stop: StoppedActivation) -> str:
    """Who left the race, when and why."""
    if stop.reason:
        return f"{stop.activation} failed: {stop.reason}"
    return (
        f"{stop.activation} stopped after seed {stop.seeds}: {percent(stop.behind)} points behind {stop.leader},"
        f" {percent(stop.margin)} would have been allowed"
    )


def race_sentences(found: Recommendation) -> tuple[str, ...]:
    """How the race went, and what it spared."""
    race = found.race
    spared = (
        f"The race took {race.steps.total} training steps ({race.steps.trials} of them to tune learning rates), the"
        f" full grid {race.full_grid.total} ({race.full_grid.trials}): {percent(race.saved)} % were saved."
    )
    guarantee = (
        f"After each seed from the second on, those stopped that were already worse beyond doubt; the truly best one is"
        f" stopped with a chance of at most {percent(race.alpha)} %, over all looks together."
    )
    still = counted(len(race.survivors), "activation")
    return (guarantee, f"{len(race.stops)} stopped, {still} went all the way: {listed(race.survivors)}.", spared)
