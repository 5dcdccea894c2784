"""The list of checks."""

from pathlib import Path

from imgcls_jax import config as c
from imgcls_jax.doctor import examination
from imgcls_jax.doctor.findings import CHECKS, Check, Subject, error, examine, warning


def test_every_check_has_a_test():
    folder = Path(__file__).parents[1]
    tests = "".join(
        path.read_text() for path in (*folder.glob("doctor/test_*_checks.py"), folder / "cli/test_doctor.py")
    )
    assert [check.name for check in CHECKS if check.name not in tests] == []


def test_errors_come_first_and_unknown_things_are_left_out():
    settings = c.Data(c.Arrays(), c.Canvas(8, 8), (8, 8), (0.5,) * 3, (0.25,) * 3)
    checks = [
        Check("late", lambda subject: iter([warning("w", evidence="e", fix="f")]), (), quick=True),
        Check("early", lambda subject: iter([error("x", evidence="e", fix="f")]), ("workdir",), quick=False),
    ]
    findings, made = examine(Subject(settings), checks)
    assert ([finding.check for finding in findings], made) == (["late"], ["late"])
    findings, made = examine(Subject(settings, workdir=Path()), checks)
    assert ([finding.check for finding in findings], made) == (["early", "late"], ["late", "early"])
    assert examine(Subject(settings, workdir=Path(), quick=True), checks)[1] == ["late"]
    assert examination.sentence(findings[0]) == "x (e): f"
