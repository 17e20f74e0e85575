"""The tie set: every trial that the examples cannot rule out as the best.

Multiple comparison with the best. For each trial i the hypothesis "no other trial is better than i" is tested against
all others at once: its statistic is T_i = max_j (q_j - q_i) / s_ij over the paired differences, and its null
distribution that of the same maximum over centred bootstrap resamples. The trials whose hypothesis stands are the tie
set. Only the test of the true best can drop the true best, so the set holds it in at least 95 % of samples whatever the
number of trials; each single test is simultaneous over its K - 1 comparisons.

Sources: Hsu 1981 and 1984 (comparisons with the best, there with normal errors); Romano & Wolf 2005 (the bootstrap of
the maximum); Mogstad, Romano, Shaikh & Wilhelm 2024 (confidence sets for ranks by such tests). The metric is compared
on the scale of `scales` with the noise of `noise`; docs/statistics.md has what the plain scale did.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from reports.statistics.noise import grain, scaled_noise
from reports.statistics.normal import Z95, Bools, Floats
from reports.statistics.samples import Sample, estimates
from reports.statistics.scales import restore

MARGIN = 0.6
"""The tests run at this part of the nominal risk: at all of it the set held the best of 16 equal trials in 93.8 to
94.5 % of samples of 200 examples instead of 95 (docs/statistics.md)."""

FEWEST_EXAMPLES = 10
"""Below so many nothing is ruled out: of 5 examples, all for one trial, even a sign test has p = 0.03."""

_ROUNDING = 1e-9
_CANCELLED, _NOTHING = 1e-6, 1e-24


@dataclass(frozen=True)
class TieSet:
    """Which of K trials may be the best. All arrays are [K], in the order of `trial_ids`.

    Attributes:
        trial_ids: the trials that were compared.
        quality: the metric of each.
        best: the position of the best on these examples.
        p_values: of "no other trial is better", simultaneous over the others; small rules the trial out.
        members: whether the trial may be the best, `p_values > MARGIN * (1 - level)`.
        behind: how far it lies behind the best on these examples, at least 0.
        behind_at_most: how far it may lie behind the true best; this holds for all trials at once, so also for one
            that was picked after looking.
        within_one_error: members that also lie within one standard error of the best's own figure: the
            one-standard-error rule (Breiman et al. 1984), a convention for parsimony and no test.
        level: the level of the set and of `behind_at_most`.
    """

    trial_ids: tuple[str, ...]
    quality: Floats
    best: int
    p_values: Floats
    members: Bools
    behind: Floats
    behind_at_most: Floats
    within_one_error: Bools
    level: float = 0.95

    @property
    def member_ids(self) -> tuple[str, ...]:
        """The ids of the tie set."""
        return tuple(name for name, member in zip(self.trial_ids, self.members, strict=True) if member)

    def at_most_behind(self, trial_id: str) -> float:
        """`behind_at_most` of one trial."""
        return float(self.behind_at_most[self.trial_ids.index(trial_id)])


def tie_set(trial_ids: tuple[str, ...], sample: Sample, replicates: Floats, sign: int, level: float = 0.95) -> TieSet:
    """Compare every trial with the best.

    Args:
        trial_ids: K names, at least 1.
        sample: the metric of the K trials.
        replicates: [B, K], the metric on resamples that all trials share.
        sign: 1 where a larger metric is better, -1 where a smaller one is.
        level: in (0, 1).
    """
    values, size = estimates(sample), grain(sample)
    scaled, noise = scaled_noise(sample, replicates, size)
    scaled, noise = sign * scaled, sign * noise
    risk = MARGIN * (1 - level)
    p_values, reach = compare_with_best(scaled, noise, paired_errors(noise), risk)
    if sample.examples < FEWEST_EXAMPLES:
        p_values[:] = 1
    best = int((sign * values).argmax())
    own_error = float(replicates[:, best].std(ddof=1))
    behind = sign * (values[best] - values)
    members = p_values > risk

    def quality(at: Floats) -> Floats:
        return sign * restore(sign * at, sample.kind, size)

    # near 100 % the same reach is less on the metric's scale: the trial itself may be worse than it looks
    low = scaled - Z95 * noise.std(axis=0)
    at_most = np.maximum(quality(scaled + reach) - quality(scaled), quality(low + reach) - quality(low))
    return TieSet(
        trial_ids=trial_ids,
        quality=values,
        best=best,
        p_values=p_values,
        members=members,
        behind=behind,
        behind_at_most=np.maximum(at_most, 0),
        within_one_error=members & (behind <= own_error),
        level=level,
    )


def paired_errors(noise: Floats) -> Floats:
    """The standard error of every difference between two trials: [B, K] -> [K, K]; 0 for equal noise."""
    covariance = np.atleast_2d(np.cov(noise, rowvar=False))
    variances = np.diag(covariance)
    both = variances[:, None] + variances[None, :]
    squares = both - 2 * covariance
    # where two large numbers cancel only the differences themselves can tell
    for first, second in zip(*np.nonzero(np.triu(squares <= _CANCELLED * both, 1)), strict=True):
        found = float((noise[:, first] - noise[:, second]).var(ddof=1))
        squares[first, second] = squares[second, first] = found if found > _NOTHING else 0
    np.fill_diagonal(squares, 0)
    errors: Floats = np.sqrt(squares)
    return errors


def compare_with_best(values: Floats, noise: Floats, errors: Floats, risk: float) -> tuple[Floats, Floats]:
    """Every trial as the control of all others, by the bootstrap of the largest studentised lead over it.

    If trial b is the true best, its largest error max_j (e_j - e_b) / s_bj stays below its quantile with probability
    1 - risk, and then q_b - q_i is at most its estimate plus that many standard errors for every i at once. The best is
    not known, so the largest such bound over all b holds, whichever trial was picked.

    Args:
        values: [K], larger is better.
        noise: [B, K], centred resamples.
        errors: [K, K], of the differences; 0 where two trials cannot be told apart at all.
        risk: in (0, 1).

    Returns:
        [K] p-values of "no other trial is better", and [K] upper bounds of how far each lies behind the true best.
    """
    p_values, behind = np.empty(len(values)), np.zeros(len(values))
    by_trial = np.ascontiguousarray(noise.T)
    for trial, error in enumerate(errors):
        ahead = values - values[trial]
        weights = np.divide(1, error, out=np.zeros_like(error), where=error > 0)
        lead = (ahead * weights).max()
        leads = by_trial - by_trial[trial]
        leads *= weights[:, None]
        null = leads.max(axis=0)
        # the sample itself counts as one draw (Davison & Hinkley 1997, section 4.2)
        p_values[trial] = (1 + (null >= lead - _ROUNDING).sum()) / (1 + len(null))
        np.maximum(behind, -ahead + np.quantile(null, 1 - risk) * error, out=behind)
    return p_values, behind
