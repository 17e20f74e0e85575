"""What per-example outcomes can tell: intervals, ties and corrections for having picked (docs/statistics.md).

Two questions are kept apart: how good is this adapter (`intervals`, over examples) and how good is this configuration
(`seeds` and `configurations`, over seeds too).
"""

from __future__ import annotations

from reports.statistics.alignment import read_outcomes
from reports.statistics.bootstrap import replicates, resample_counts
from reports.statistics.configurations import BesideBest, compare_configurations
from reports.statistics.evidence import Evidence, gather
from reports.statistics.intervals import bca, intervals, wilson
from reports.statistics.outcomes import Outcomes
from reports.statistics.paired import paired_comparison
from reports.statistics.samples import MacroF1Sample, MeanSample, RatioSample, Sample, estimates
from reports.statistics.seeds import SeedSummary, over_seeds
from reports.statistics.selection import holm, optimism, simultaneous_level
from reports.statistics.ties import TieSet, tie_set
from reports.statistics.unpaired import Comparison, compare, interval

__all__ = [
    "BesideBest",
    "Comparison",
    "Evidence",
    "MacroF1Sample",
    "MeanSample",
    "Outcomes",
    "RatioSample",
    "Sample",
    "SeedSummary",
    "TieSet",
    "bca",
    "compare",
    "compare_configurations",
    "estimates",
    "gather",
    "holm",
    "interval",
    "intervals",
    "optimism",
    "over_seeds",
    "paired_comparison",
    "read_outcomes",
    "replicates",
    "resample_counts",
    "simultaneous_level",
    "tie_set",
    "wilson",
]
