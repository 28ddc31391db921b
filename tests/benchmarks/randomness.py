"""Evidence for the random numbers: tests of words, streams and noise values, and what the map itself gets wrong.

`python tests/benchmarks/randomness.py` runs everything, and writes the results into docs/randomness.md.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

import numpy as np
from randomness_checks import Finding
from randomness_deviates import deviate_findings
from randomness_map import Exact, Relaxed, exact, relaxed
from randomness_source import PRODUCT, Source
from randomness_words import WORD_TESTS, avalanche, neighbours
from scipy import stats

from robustcheck.sensing.deviates import NOISES, Noise

DOCUMENT: Final = Path(__file__).resolve().parents[2] / "docs" / "randomness.md"
DRAWS: Final = 10**8
SIGMAS: Final = (1.0, 2.0, 3.0, 4.0, 5.0, 6.0)
EPS: Final = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
_START, _END = "<!-- results -->", "<!-- /results -->"

Parts = dict[str, list[Finding]]


def battery(source: Source = PRODUCT, draws: int = DRAWS, say: Callable[[str], None] = lambda _: None) -> Parts:
    """Every test of one generator.

    Args:
        source: what to test.
        draws: words of the one stream, and values of each noise, rounded up to whole blocks of 2^20; pairs of streams
            take a twentieth of it each.
        say: told what is next.
    """
    parts: Parts = {"Words of one stream": [], "Neighbouring counters and streams": [], "One bit changed": []}
    for test in WORD_TESTS:
        say(test.__name__)
        parts["Words of one stream"] += test(source, draws)
    say("neighbours")
    parts["Neighbouring counters and streams"] += neighbours(source, draws // 20)
    say("avalanche")
    parts["One bit changed"] += avalanche(source, draws)
    for noise in NOISES:
        say(noise)
        parts[f"Noise values, {noise}"] = deviate_findings(source, noise, draws)
    return parts


def table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    """A Markdown table; all columns but the first are set to the right."""
    rule = ("---", *["---:"] * (len(head) - 1))
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, rule, *rows))


def battery_section(parts: Parts) -> str:
    """All findings, a table a part, after the p-values as a whole."""
    findings = [finding for part in parts.values() for finding in part]
    p = np.array([finding.p for finding in findings])
    least = findings[int(p.argmin())]
    text = [
        f"{p.size} tests. The smallest p-value is {p.min():.2g} ({least.test}); the smallest of as many independent"
        f" ones would be below {1 - 0.5 ** (1 / p.size):.2g} half of the time. Times the number of tests it is"
        f" {min(1.0, p.size * p.min()):.2g}. Below 0.01 are {int((p < 0.01).sum())}, where {p.size / 100:.1f} are"
        f" expected; below 0.1 are {int((p < 0.1).sum())}, where {p.size / 10:.0f} are."
    ]
    for name, found in parts.items():
        rows = [(f.test, f"{f.numbers:,}", f.statistic, f"{f.p:.2g}") for f in found]
        text.append(f"### {name}\n\n{table(('test', 'numbers', 'statistic', 'p'), rows)}")
    return "\n\n".join(text)


def map_section(laws: dict[Noise, Relaxed], visited: Exact, draws: int) -> str:
    """What `randomness_map` found, in tables.

    Args:
        laws: noise → distances of the relaxed law.
        visited: of the Gaussian, with the thresholds of `SIGMAS` and `EPS` counted.
        draws: number of draws to hold the changes of error probabilities against.
    """
    distances = table(
        ("law of one value, relaxed", *laws),
        [
            ("total variation distance", *(f"{law.total_variation:.2e}" for law in laws.values())),
            ("largest difference of P(\\|x\\| ≤ t)", *(f"{law.kolmogorov:.2e}" for law in laws.values())),
            (
                "draws by which a test that knows the table tells",
                *(f"{law.draws_to_tell:.1e}" for law in laws.values()),
            ),
            ("end", *(f"{law.end:.7g}" for law in laws.values())),
            ("probability beyond the end", *(f"{law.beyond:.2e}" for law in laws.values())),
        ],
    )
    whole = table(
        ("the Gaussian, all 2^32 values", ""),
        [
            ("largest error of a quantile", f"{visited.quantile_error:.3e} σ"),
            ("largest difference of P(\\|x\\| ≤ t)", f"{visited.kolmogorov:.2e}"),
            ("largest value", f"{visited.largest:.6f} σ"),
            ("variance − 1", f"{visited.moments[0] - 1:+.1e}"),
            ("mean of x⁴ − 3", f"{visited.moments[1] - 3:+.1e}"),
        ],
    )
    tails = [
        (f"{t:g}", f"{normal:.6e}", f"{visited.beyond[t]:.6e}", f"{visited.beyond[t] / normal - 1:+.1e}")
        for t, normal in ((t, float(2 * stats.norm.sf(t))) for t in SIGMAS)
    ]
    errors = [
        (f"{ep:g}", f"{found - ep:+.1e}", f"{np.sqrt(ep * (1 - ep) / draws):.1e}")
        for ep, found in ((ep, visited.beyond[threshold_of(ep)]) for ep in EPS)
    ]
    return "\n\n".join(
        [
            "### The map",
            distances,
            whole,
            table(("t [σ]", "P(\\|x\\| > t), normal", "by the map", "relative difference"), tails),
            table(("EP", "change of EP by the map", f"standard error of {draws:.0e} draws"), errors),
        ]
    )


def threshold_of(ep: float) -> float:
    """Half a step in standard deviations where this is the error probability: P(|x| > t) = EP."""
    return float(stats.norm.isf(ep / 2))


def report(draws: int = DRAWS, say: Callable[[str], None] = lambda _: None) -> str:
    """The Markdown of docs/randomness.md's results.

    Args:
        draws: see `battery`.
        say: told what is next.
    """
    parts = battery(PRODUCT, draws, say)
    say("map")
    visited = exact("gaussian", (*SIGMAS, *map(threshold_of, EPS)))
    laws = {noise: relaxed(noise) for noise in NOISES}
    command = f"`python tests/benchmarks/randomness.py --draws {draws}` wrote what follows."
    return "\n\n".join([command, battery_section(parts), map_section(laws, visited, draws)])


def put(document: str, text: str) -> str:
    """The document with the text between its markers; ValueError where it has none."""
    if _START not in document or _END not in document:
        raise ValueError(f"expected {_START} and {_END} in the document")
    before, _, rest = document.partition(_START)
    return f"{before}{_START}\n\n{text.strip()}\n\n{_END}{rest.partition(_END)[2]}"


def main(arguments: list[str] | None = None) -> None:
    """Run everything and write the results into the document."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, default=DRAWS, help="words, and values of each noise (default 10^8)")
    parser.add_argument("-o", "--out", type=Path, default=DOCUMENT, help="document with the markers to write between")
    options = parser.parse_args(arguments)
    document = options.out.read_text(encoding="utf-8")
    put(document, "")
    start = time.perf_counter()

    def say(what: str) -> None:
        print(f"{time.perf_counter() - start:5.0f} s  {what}", file=sys.stderr, flush=True)

    text = report(options.draws, say)
    options.out.write_text(put(document, text), encoding="utf-8")
    say("done")


if __name__ == "__main__":
    main()
