from imgcls_jax.plan import hlo

# 8 f32 in and 8 out of the fusion; a loop of three rounds, each with an all-reduce of 16 bf16.
TEXT = """\
HloModule step, is_scheduled=true

%add (a: f32[], b: f32[]) -> f32[] {
  %a = f32[] parameter(0)
  %b = f32[] parameter(1)
  ROOT %sum = f32[] add(%a, %b)
}

%inside (p: f32[8]) -> f32[8] {
  %p = f32[8]{0} parameter(0)
  ROOT %m = f32[8]{0} multiply(%p, %p)
}

%body (t: (bf16[16])) -> (bf16[16]) {
  %t = (bf16[16]{0}) parameter(0)
  %e = bf16[16]{0} get-tuple-element(%t), index=0
  %ar = bf16[16]{0} all-reduce(%e), replica_groups={{0,1}}, to_apply=%add, backend_config={"estimated_cycles":"10"}
  ROOT %r = (bf16[16]{0}) tuple(%ar)
}

%condition (t: (bf16[16])) -> pred[] {
  %t2 = (bf16[16]{0}) parameter(0)
  ROOT %c = pred[] constant(true)
}

ENTRY %main (x: f32[8], y: bf16[16]) -> f32[16] {
  %x = f32[8]{0} parameter(0)
  %y = bf16[16]{0} parameter(1)
  %f = f32[8]{0} fusion(%x), kind=kLoop, calls=%inside, backend_config={"estimated_cycles":"100"}
  %in = (bf16[16]{0}) tuple(%y)
  %loop = (bf16[16]{0}) while(%in), condition=%condition, body=%body, backend_config={"known_trip_count":{"n":"3"}}
  %g-start = (f32[8]{0}, f32[16]{0}) all-gather-start(%f), dimensions={0}
  ROOT %g = f32[16]{0} all-gather-done(%g-start)
}
"""


def test_collectives_count_those_of_a_loop_as_often_as_it_runs():
    assert hlo.parse(TEXT).collectives() == {"all-reduce": (3, 3 * 16 * 2), "all-gather": (1, 16 * 4)}


def test_a_reduce_scatter_moves_what_it_sums():
    scatter = TEXT.replace("%ar = bf16[16]{0} all-reduce(%e)", "%ar = bf16[8]{0} reduce-scatter(%e)")
    assert hlo.parse(scatter).collectives()["reduce-scatter"] == (3, 3 * 16 * 2)


def test_traffic_is_what_operations_outside_fusions_read_and_write():
    fusion, all_reduces = (8 + 8) * 4, 3 * (16 + 16) * 2
    gather = (8 + 16) * 4
    assert hlo.parse(TEXT).traffic() == fusion + all_reduces + gather


def test_cycles_add_up_over_runs():
    assert hlo.parse(TEXT).cycles() == 100 + 3 * 10
