"""Format numbers for readers: grouped, rounded, with their unit."""

import math
from datetime import datetime

_SIZES = ("B", "kB", "MB", "GB", "TB", "PB")
_COUNTS = ("", "k", "M", "G", "T", "P", "E", "Z", "Y")
MINUTE, HOUR = 60, 3600
DIGEST_CHARS = 12  # of a digest that are shown


def format_int(value: float) -> str:
    """Format an integer: ``12,345``."""
    return f"{value:,.0f}"


def format_si(value: float) -> str:
    """Format with three significant digits and an SI suffix: ``12.3M``."""
    return _format_scaled(value, _COUNTS, "").strip()


def format_tick(value: float) -> str:
    """Format a round number on an axis: ``0.25``, ``2500``, ``10k``, ``1.5M``."""
    if abs(value) < 10_000:
        return f"{value:.6g}"
    text = format_si(value)
    number, unit = text.rstrip("".join(_COUNTS)), text.lstrip("-0123456789.,")
    return (number.rstrip("0").rstrip(".") if "." in number else number) + unit


def format_bytes(value: float) -> str:
    """Format a size in powers of 1000: ``12.3 MB``."""
    return _format_scaled(value, _SIZES, " ")


def _format_scaled(value: float, units: tuple[str, ...], gap: str) -> str:
    step = 0
    # 999.5 would round to 1000 of the smaller unit.
    while abs(value) >= 999.5 and step < len(units) - 1:
        value /= 1000
        step += 1
    digits = 0 if step == 0 or abs(value) >= 100 else 1 if abs(value) >= 10 else 2
    return f"{value:,.{digits}f}{gap}{units[step]}"


def format_percent(part: float, total: float) -> str:
    """Format a percentage, ``12.3 %``: 0 and 100 only if exact, a dash if the total is 0."""
    if not total:
        return "–"
    percent = 100 * part / total
    if 0 < percent < 0.1:
        return "< 0.1 %"
    if 99.9 < percent < 100:
        return "> 99.9 %"
    return f"{percent:.0f} %" if percent in (0, 100) else f"{percent:.1f} %"


def format_duration(value: float | None) -> str:
    """Format seconds: ``0.4 s``, ``2 min 05 s``, ``3 h 10 min``."""
    if value is None:
        return "–"
    if value < MINUTE:
        return f"{value:.1f} s" if value < 59.95 else "1 min 00 s"
    whole_seconds = round(value)
    if whole_seconds < HOUR:
        return f"{whole_seconds // MINUTE} min {whole_seconds % MINUTE:02d} s"
    minutes = round(value / MINUTE)
    return f"{minutes // 60} h {minutes % 60:02d} min"


def format_float(value: float | None, digits: int = 3) -> str:
    """Format with a number of decimals; a dash for ``None`` and NaN."""
    if value is None or not math.isfinite(value):
        return "–"
    return f"{value:,.{digits}f}"


def format_delta(value: float) -> str:
    """Format a relative difference: ``−12.3 %`` for -0.123."""
    return f"{100 * value:+.1f} %".replace("-", "−")


def format_4g(value: object) -> str:
    """Format a float with four significant digits, anything else with ``str``."""
    if isinstance(value, bool) or not isinstance(value, float):
        return str(value)
    return f"{value:.4g}"


def format_time(iso: str) -> str:
    """Format a time, ``31 January 2026, 12:00 UTC``; return other text unchanged."""
    try:
        when = datetime.fromisoformat(iso)
    except ValueError:
        return iso
    return f"{when.day} {when:%B %Y, %H:%M} UTC"


def short_digest(digest: str) -> str:
    """Return the beginning of a digest."""
    return digest[:DIGEST_CHARS]
