"""Which device is where in a mesh."""

from dataclasses import dataclass

import jax
import pytest

from imgcls_jax import config as c
from imgcls_jax.errors import UserError
from imgcls_jax.parallel import mesh as meshes


@dataclass(frozen=True)
class Chip:
    """A TPU core as `mesh_utils` sees it."""

    id: int
    coords: tuple[int, int, int]
    slice_index: int = 0
    process_index: int = 0
    platform: str = "tpu"
    device_kind: str = "TPU v5 lite"
    core_on_chip: int = 0


def slices(count):
    """Slices of 2×2 chips."""
    return [Chip(4 * s + 2 * y + x, (x, y, 0), s, s) for s in range(count) for y in range(2) for x in range(2)]


@pytest.fixture
def machine(monkeypatch):
    def of(devices):
        monkeypatch.setattr(jax, "device_count", lambda: len(devices))
        return devices

    return of


@pytest.mark.parametrize("fsdp", [1, 2, 4])
def test_no_row_of_fsdp_spans_two_slices(fsdp, machine):
    grid = meshes._grid(machine(slices(2)), fsdp)
    assert grid.shape == (8 // fsdp, fsdp)
    assert sorted(chip.id for chip in grid.flat) == list(range(8))
    assert all(len({chip.slice_index for chip in row}) == 1 for row in grid)
    # The rows of a slice stay together, so that most steps of a ring are within one.
    assert [row[0].slice_index for row in grid] == [0] * (4 // fsdp) + [1] * (4 // fsdp)


def test_neighbors_of_fsdp_are_neighbors_in_the_torus(machine):
    for row in meshes._grid(machine(slices(1)), 2):
        (x, y, _), (other_x, other_y, _) = (chip.coords for chip in row)
        assert abs(x - other_x) + abs(y - other_y) == 1


def test_fsdp_over_two_slices_is_refused(machine):
    with pytest.raises(UserError, match="mesh.fsdp = 8 would split parameters across 2 slices: lower it"):
        meshes._grid(machine(slices(2)), 8)


def test_a_cpus_devices_are_in_jaxs_order():
    devices = jax.devices()
    mesh = meshes.make(c.Mesh(fsdp=2))
    assert [device.id for device in mesh.devices.flat] == [device.id for device in devices]
    assert meshes.platform(mesh) == "cpu"
