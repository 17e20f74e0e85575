import math

import pytest
from scipy import stats

from reports.statistics import over_seeds
from reports.statistics.student import t975, two_sided_p


@pytest.mark.parametrize("freedom", [1, 2, 5, 10, 11, 15, 30, 200])
def test_student_quantiles(freedom) -> None:
    assert t975(freedom) == pytest.approx(stats.t.ppf(0.975, freedom), rel=1e-9)


@pytest.mark.parametrize("freedom", [1, 2, 3, 10, 30, 199, 5000])
@pytest.mark.parametrize("t", [0.0, 0.5, 1.97, -2.6, 5.0])
def test_student_p_values(freedom, t) -> None:
    assert two_sided_p(t, freedom) == pytest.approx(2 * stats.t.sf(abs(t), freedom), rel=1e-9)


def test_seeds_and_examples_add_up() -> None:
    found = over_seeds([0.70, 0.72, 0.74], 0.01)
    assert found is not None and found.seeds == 3 and found.mean == pytest.approx(0.72)
    half = math.hypot(4.303 * 0.02 / math.sqrt(3), 1.96 * 0.01)
    assert found.bounds == pytest.approx((0.72 - half, 0.72 + half), abs=1e-4)


def test_one_seed_cannot_say() -> None:
    assert over_seeds([0.7], 0.01) is None


def test_an_interval_ends_where_the_metric_does() -> None:
    found = over_seeds([0.99, 0.95], 0.01, (0.0, 1.0))
    assert found is not None and found.bounds[1] == 1 and 0.6 < found.bounds[0] < 0.8
