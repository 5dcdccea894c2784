"""Fixtures that several test folders share."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real data sets and weights that CI has; not part of the project."""
    folder = os.environ.get("IMGCLS_TEST_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("real data needed: set IMGCLS_TEST_DATA to the folder that holds data/ and weights/")
    return Path(folder)
