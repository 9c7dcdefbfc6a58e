"""How many votes tell one of two checkpoints from the other, and how often intervals hold."""

from __future__ import annotations

import argparse
import math
from itertools import combinations
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit
from scipy.stats import binom

from clipwatch.statistics.votes import preferences, wilson

PREFERRED: Final = (0.55, 0.6, 0.65, 0.7, 0.8)
FEW: Final = (10, 20, 40, 80, 200)
CHECKPOINTS: Final = (3, 5, 10)
OF_A_PAIR: Final = (3, 10, 30)
POWER: Final = 0.8
MOST: Final = 200


def told(votes: int) -> NDArray[np.bool_]:
    """Return by the number of votes for the first whether the interval of two leaves out one half.

    Args:
        votes: That were cast.
    """
    intervals = [wilson(chosen, votes) for chosen in range(votes + 1)]
    return np.array([low > 1 / 2 or high < 1 / 2 for _, low, high in intervals])


def power(votes: int, share: float) -> float:
    """Return how often so many votes tell that the first is preferred with this probability."""
    chosen = np.arange(votes + 1)
    right = told(votes) & (chosen > votes / 2)
    return float(binom.pmf(chosen, votes, share)[right].sum())


def needed(share: float) -> int:
    """Return from how many votes on `POWER` of all votings tell it; more never tell it less often.

    The power goes up and down with the number, as votes are whole.
    """
    most = math.ceil(4 / (share - 1 / 2) ** 2)
    return 1 + max(votes for votes in range(1, most) if power(votes, share) < POWER)


def covered(votes: int, share: float) -> float:
    """Return how often the interval of two holds the truth."""
    intervals = [wilson(chosen, votes) for chosen in range(votes + 1)]
    holds = np.array([low <= share <= high for _, low, high in intervals])
    return float(binom.pmf(np.arange(votes + 1), votes, share)[holds].sum())


def stopped(generator: np.random.Generator, rounds: int) -> float:
    """Return how often equal ones are told apart by who looks after every vote."""
    chosen = generator.integers(0, 2, size=(rounds, MOST)).cumsum(axis=1)
    seen = np.zeros(rounds, dtype=bool)
    for votes in range(FEW[0], MOST + 1):
        seen |= told(votes)[chosen[:, votes - 1]]
    return float(seen.mean())


def several(
    generator: np.random.Generator, count: int, votes: int, spread: float, rounds: int
) -> tuple[float, float, float]:
    """Vote on so many checkpoints, again and again.

    Args:
        generator: Of their strengths and of the votes.
        count: Checkpoints.
        votes: On each pair of them.
        spread: Standard deviation of the strengths, in logits; 0 for equal ones.
        rounds: How often.

    Returns:
        How often all intervals hold at once; how often one of a pair is told from the other that
        is not preferred in truth; and how often the best is named the best or tied with it.
    """
    names = [str(place) for place in range(count)]
    hold = wrong = kept = 0
    for _ in range(rounds):
        strengths = spread * generator.normal(size=count)
        won: dict[tuple[str, str], int] = {}
        for i, j in combinations(range(count), 2):
            chosen = int(generator.binomial(votes, expit(strengths[i] - strengths[j])))
            won |= {(names[i], names[j]): chosen, (names[j], names[i]): votes - chosen}
        found = preferences(names, won)
        if found is None:  # there are votes on each pair
            continue
        truth = {(a, b): float(expit(strengths[int(a)] - strengths[int(b)])) for a, b in found.over}
        hold += all(low <= truth[it] <= high for it, (_, low, high) in found.over.items())
        wrong += any(truth[it] <= 1 / 2 for it in found.surely())
        kept += names[int(np.argmax(strengths))] in {found.best, *found.tied}
    return hold / rounds, wrong / rounds, kept / rounds


def main() -> None:
    """Compute and simulate, and print three tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=2000, help="of each simulation (2000)")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    print("| preferred in | votes that tell it, 80 % of votings |")
    print("|---|---|")
    for share in PREFERRED:
        print(f"| {share:.0%} | {needed(share)} |")
    generator = np.random.default_rng(options.seed)
    early = stopped(generator, options.rounds)
    print(f"\n{early:.3f} of votings on equal ones end with a preference within {MOST} votes,")
    print(f"if somebody looks after each from the {FEW[0]}th on and stops at the first one.")
    print("\n| two checkpoints, votes | " + " | ".join(f"{it:.0%}" for it in (0.5, *PREFERRED)))
    print("|---" * (len(PREFERRED) + 2) + "|")
    for votes in FEW:
        cells = [f"{covered(votes, share):.3f}" for share in (0.5, *PREFERRED)]
        print(f"| {votes} | {' | '.join(cells)} |")
    print(
        "\n| checkpoints | votes on each pair | in all | spread, logits | all intervals hold | "
        "one told wrongly | the best is kept |"
    )
    print("|---" * 7 + "|")
    for count in CHECKPOINTS:
        for votes in OF_A_PAIR:
            for spread in (0.0, 0.5, 1.5):
                found = several(generator, count, votes, spread, options.rounds // 4)
                cells = [f"{it:.3f}" for it in found]
                total = votes * math.comb(count, 2)
                print(f"| {count} | {votes} | {total} | {spread:g} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
