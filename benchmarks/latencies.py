"""Quantiles of the histogram that the load prints."""

QUANTILES = {"p50": 0.5, "p99": 0.99, "p99.9": 0.999}


def quantiles(histogram: list[list[int]]) -> dict[str, float]:
    """Return microseconds by the quantiles' names, and the longest time as "max".

    :param histogram: pairs of nanoseconds, at most, and how many took that; ascending
    :raises ValueError: it is empty, or not ascending
    """
    bounds = [bound for bound, _ in histogram]
    total = sum(count for _, count in histogram)
    if total <= 0 or bounds != sorted(bounds):
        raise ValueError("not a histogram: pairs of ascending nanoseconds and counts")
    result = {name: _quantile(histogram, share * total) for name, share in QUANTILES.items()}
    return {**result, "max": bounds[-1] / 1000}


def _quantile(histogram: list[list[int]], rank: float) -> float:
    """The time that at least `rank` messages did not exceed."""
    seen = 0
    for bound, count in histogram:
        seen += count
        if seen >= rank:
            return bound / 1000
    raise AssertionError("the ranks of a share are at most the total")
