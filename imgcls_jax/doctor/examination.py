"""Examine data, config and machine: all checks, or before each training the quick ones."""

import dataclasses
from collections.abc import Sequence

from imgcls_jax.doctor import config_checks, data_checks, machine_checks  # noqa: F401 - they register their checks
from imgcls_jax.doctor.findings import CHECKS, Finding, Subject, examine
from imgcls_jax.errors import UserError


def examine_all(subject: Subject) -> tuple[list[Finding], list[str]]:
    """Make every check that the subject is known well enough for.

    Returns:
      The findings, errors first; and the names of the checks that were made.
    """
    return examine(subject, CHECKS)


def before_loading(subject: Subject) -> tuple[list[Finding], list[str]]:
    """Make the checks that must be made before any image is decoded."""
    return examine(subject, [check for check in CHECKS if "images_to_cache" in check.needs])


def of_memory(subject: Subject) -> list[Finding]:
    """Compare the step's memory with the device's."""
    return examine(subject, [check for check in CHECKS if "step_bytes" in check.needs])[0]


def before_training(subject: Subject) -> list[str]:
    """Make the quick checks; return a sentence for each warning.

    Nothing is changed by them: no random number is drawn, and what they compute stays on the host.

    Raises:
      UserError: something is wrong that makes training pointless.
    """
    findings, _ = examine(dataclasses.replace(subject, quick=True), CHECKS)
    for finding in findings:
        if finding.level == "error":
            raise UserError(sentence(finding))
    return [sentence(finding) for finding in findings]


def sentence(finding: Finding) -> str:
    """Write a finding as one sentence."""
    return f"{finding.what} ({finding.evidence}): {finding.fix}"


def refusal(check: str, refused: UserError) -> Finding:
    """Make a finding of what a part of the program refuses: its sentence is "what is wrong: what to do"."""
    what, _, fix = str(refused).partition(": ")
    return Finding("error", what, "it is refused before training", fix or "see the sentence", check=check)


def document(findings: Sequence[Finding], made: Sequence[str]) -> dict:
    """The findings as plain values, for JSON."""
    return {
        "findings": [dataclasses.asdict(finding) | {"items": list(finding.items)} for finding in findings],
        "checks": list(made),
    }
