"""How cost grows: the fitted exponents, and a measurement from end to end."""

import json

import numpy as np
import pytest

from benchmarks import growth, scaling


@pytest.mark.parametrize(("exponent", "scale"), [(1.0, 3e-6), (2.0, 0.5), (0.0, 7.0), (-0.5, 1e3)])
def test_the_exponent_of_a_power_law_is_found(exponent, scale):
    sizes = np.array([10, 100, 1000, 10_000])
    found = scaling.fit(sizes, scale * sizes.astype(float) ** exponent)
    assert (found.exponent, found.scale) == pytest.approx((exponent, scale))
    assert (found.first, found.last) == (100, 10_000)


def test_what_is_always_paid_is_left_out():
    """1 s and 1 µs per entry: of the greatest sizes alone nearly linear; by numpy over the same three."""
    sizes = np.array([10**3, 10**4, 10**7, 10**8, 10**9])
    costs = 1 + 1e-6 * sizes
    found = scaling.fit(sizes, costs)
    assert found.exponent == pytest.approx(np.polyfit(np.log(sizes[2:]), np.log(costs[2:]), 1)[0])
    assert 0.95 < found.exponent < 1 and scaling.fit(sizes, costs, points=5).exponent < 0.6


@pytest.mark.parametrize(("sizes", "costs"), [([10], [1.0]), ([10, 100], [1.0, 0.0]), ([10, 100], [1.0])])
def test_too_little_for_a_power_law_is_refused(sizes, costs):
    with pytest.raises(ValueError, match="needs two sizes"):
        scaling.fit(sizes, costs)


def test_points_are_measured_once_and_shown(tmp_path, monkeypatch, capsys):
    def measure(name, size):
        return next(growth.index(what=name, entries=size)) | {"bytes": 8 * size}

    monkeypatch.setattr(scaling, "measure", measure)
    kept = {name: scaling.SERIES[name] for name in ("order", "split", "hash", "cache", "balanced")}
    monkeypatch.setattr(scaling, "SERIES", kept)
    out, picture = tmp_path / "scaling.json", tmp_path / "scaling.png"
    scaling.main(["index", "--most", "10000", "--out", str(out), "--plot", str(picture)])
    before = json.loads(out.read_text())["points"]
    assert {name: set(points) for name, points in before.items()} == {name: {"1000", "10000"} for name in kept}
    printed = capsys.readouterr().out
    assert "order at 1,000: " in printed and "| hash of the split | 10,000 | " in printed and " | 1.00 |" in printed
    assert picture.stat().st_size > 1000
    scaling.main(["index", "--most", "10000", "--out", str(out)])
    assert json.loads(out.read_text())["points"] == before
    with pytest.raises(SystemExit):
        scaling.main(["unknown", "--out", str(out)])


def test_a_folder_of_links_is_made(tmp_path):
    assert growth.make_folder(tmp_path, 300) == 3
    assert [len(list(folder.iterdir())) for folder in sorted(tmp_path.iterdir())] == [100, 100, 100]
