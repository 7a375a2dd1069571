"""The statistics of a comparison: against scipy, and by simulation where scipy has none."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from src.comparison.statistics import holm_correction, interval, p_values, seeds_needed


@pytest.mark.parametrize("n", [2, 3, 4])
def test_an_interval_of_few_values_is_students(n: int) -> None:
    values = np.random.default_rng(n).normal(size=n)
    expected = stats.t.interval(0.9, n - 1, values.mean(), stats.sem(values))
    assert interval(values, level=0.9) == pytest.approx(expected)


def test_an_interval_of_one_value_or_of_equal_ones() -> None:
    assert interval(np.array([0.5])) is None
    assert interval(np.full(7, 0.1)) == pytest.approx((0.1, 0.1))
    assert interval(np.full(3, 0.1)) == pytest.approx((0.1, 0.1))


# (distribution, its mean, number of values): what the bootstrap-t can do, with five normal values or ten skewed ones
@pytest.mark.parametrize(
    ("draw", "mean", "n"),
    [("normal", 0.0, 3), ("normal", 0.0, 5), ("normal", 0.0, 10), ("normal", 0.0, 20), ("exponential", 1.0, 10)],
)
def test_a_95_percent_interval_covers_the_mean_in_95_of_100_experiments(draw: str, mean: float, n: int) -> None:
    generator = np.random.default_rng(1)
    count, covered = 3000, 0
    for number in range(count):
        low, high = interval(getattr(generator, draw)(size=n), resamples=1000, seed=number)
        covered += low <= mean <= high
    assert 0.93 <= covered / count <= 0.97


def test_paired_p_values_are_scipys() -> None:
    generator = np.random.default_rng(2)
    values = generator.normal(size=(5, 8)) + np.arange(5)[:, None] / 3
    values[3, 2:4] = np.nan
    values[4, :7] = np.nan
    found = p_values(values)
    for i in range(5):
        for j in range(5):
            if i == j or 4 in (i, j):  # the last row has one value only
                assert np.isnan(found[i, j])
            else:
                expected = stats.ttest_rel(values[i], values[j], nan_policy="omit").pvalue
                assert found[i, j] == pytest.approx(expected)


def test_differences_without_any_spread() -> None:
    values = np.array([[1.0, 2.0, 3.0], [2.0, 3.0, 4.0], [1.0, 2.0, 3.0]])
    found = p_values(values)
    assert found[0, 1] == 0.0 and found[0, 2] == 1.0


def test_holms_correction() -> None:
    p = np.array([[np.nan, 0.01, 0.04], [0.01, np.nan, 0.03], [0.04, 0.03, np.nan]])
    # 3 x 0.01; 2 x 0.03; 1 x 0.04, which may not be below its forerunner
    assert holm_correction(p)[0, 1] == pytest.approx(0.03)
    assert holm_correction(p)[1, 2] == holm_correction(p)[0, 2] == pytest.approx(0.06)
    p[0, 2] = p[2, 0] = np.nan  # a pair without a test is none of the family
    assert holm_correction(p)[0, 1] == pytest.approx(0.02) and np.isnan(holm_correction(p)[0, 2])


@pytest.mark.parametrize(("groups", "seeds"), [(2, 5), (5, 5), (10, 3)])
def test_false_findings_against_the_best_of_equal_groups_are_rare(groups: int, seeds: int) -> None:
    generator = np.random.default_rng(3)
    count, found = 2000, 0
    for _ in range(count):
        values = generator.normal(size=(groups, seeds)) + generator.normal(size=seeds)  # a seed is good for all
        best = values.mean(axis=1).argmax()
        found += np.nanmin(holm_correction(p_values(values))[best]) < 0.05
    # at most 0.05, and three standard errors of 2,000 experiments more
    assert found / count <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / count)


def test_the_seeds_that_a_test_needs_give_it_its_power() -> None:
    differences = np.array([0.1, 0.5, 0.3, 0.2, 0.65])
    n = seeds_needed(differences)
    effect = differences.mean() / differences.std(ddof=1)
    generator = np.random.default_rng(4)
    power = {}
    for pairs in (n - 1, n):
        drawn = generator.normal(effect, 1, size=(20_000, pairs))
        power[pairs] = (stats.ttest_1samp(drawn, 0, axis=1).pvalue < 0.05).mean()
    assert power[n - 1] < 0.81 and power[n] > 0.79
    assert seeds_needed(np.array([1.0, -1.0, 1.0, -1.0001])) is None
    assert seeds_needed(np.array([0.2, 0.2, 0.2])) == 2 and seeds_needed(np.zeros(3)) is None
