"""Cosines of word vectors do not depend on what else is computed at the same time."""

import numpy as np

from tasks.evaluate.cosines import inner_products, to_unit_rows


def test_rows_have_length_one_and_a_cosine_is_the_same_alone_as_among_others() -> None:
    rng = np.random.default_rng(1)
    vectors = rng.normal(size=(200, 37)).astype(np.float32)
    vectors[3] = 0
    rows = to_unit_rows(vectors)
    assert rows.shape == (200, 48)
    np.testing.assert_allclose(np.linalg.norm(np.delete(rows, 3, 0), axis=1), 1, rtol=1e-6)
    assert not rows[3].any()
    products = inner_products(rows[:90], rows)
    expected = rows[:90].astype(np.float64) @ rows.T.astype(np.float64)
    np.testing.assert_allclose(products, expected, atol=1e-6)
    assert inner_products(rows[7:8], rows[50:51]).tobytes() == products[7:8, 50:51].tobytes()
    assert inner_products(rows[50:51], rows[7:8]).tobytes() == products[50:51, 7:8].tobytes()
