"""The growth of self-attention's time: a power law, compared with numpy's fit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.speed.growth import fit

POINTS = st.lists(st.tuples(st.integers(64, 10**6), st.floats(1e-6, 1e3)), min_size=3, max_size=9)


@given(POINTS.filter(lambda points: len({tokens for tokens, _ in points}) > 2))
def test_the_law_is_the_line_that_numpy_fits_to_the_logarithms(points):
    tokens, seconds = zip(*points, strict=True)
    law = fit(tokens, seconds)
    (exponent, intercept), covariance = np.polyfit(np.log(tokens), np.log(seconds), 1, cov=True)
    assert law.exponent == pytest.approx(exponent, rel=1e-6, abs=1e-6)
    assert law.factor == pytest.approx(np.exp(intercept), rel=1e-4)
    assert law.error == pytest.approx(covariance[0, 0] ** 0.5, rel=1e-4, abs=1e-6)
    assert law.at(tokens[0]) == pytest.approx(np.exp(intercept) * tokens[0] ** exponent, rel=1e-4)


def test_an_exact_law_has_no_error():
    law = fit((1024, 4096, 16384), [3e-6 * tokens**1.5 for tokens in (1024, 4096, 16384)])
    assert (law.exponent, law.factor) == pytest.approx((1.5, 3e-6))
    assert law.error == pytest.approx(0, abs=1e-9)


def test_two_points_have_no_standard_error_and_one_has_no_law():
    law = fit([1024, 4096], [1.0, 4.0])
    assert (law.exponent, law.error) == (pytest.approx(1), None)
    assert fit([1024, 1024], [1.0, 4.0]) is None
    assert fit([], []) is None
