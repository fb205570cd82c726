#!/usr/bin/env bash
# What: the parser vnnlib 1.0.2 for VNN-LIB 2.0 and its vnnlib.compat.transform,
#   which turns a query into boxes of inputs and polytopes of outputs.
# Guess: the cases together are the query: assertions are joined by "and", and an
#   equality gives two inequalities.
# Behavior: (1) two assertions that are each an "or" are joined by "or": the
#   query (A or B) and (C or D) becomes A or B or C or D. The same formula within
#   one assertion comes out right. Over inputs, the boxes are infinite in the
#   other input. (2) `==` keeps only its `<=` half. Neither is reported.
#   A query that has no counterexample can thereby get one.
# TARRL: an export should write one assertion with all disjunctions inside and
#   no `==`, and a counterexample that a tool reports should be checked
#   against the text of the query before it is believed.
set -euo pipefail
source "$(dirname "$0")/lib.sh"
python_with 'vnnlib==1.0.2'
"$PYTHON" - <<'PY'
import vnnlib, vnnlib.compat

HEAD = """(vnnlib-version <2.0>)
(declare-network f
  (declare-input X float32 [1,2])
  (declare-output Y float32 [1,2])
)
"""
BOX = [f"({op} X[0,{i}] {v})" for i in (0, 1) for op, v in ((">=", "0.25"), ("<=", "0.5"))]


def cases(*assertions):
    query = vnnlib.parse_query_string(HEAD + "".join(f"(assert {a})\n" for a in assertions))
    return [
        (c.input_box, [(p.coeff_matrix, p.rhs) for p in c.output_constraints])
        for c in vnnlib.compat.transform(query)
    ]


def holds(found, y):
    """Whether some polytope of some case has the output y."""
    row = lambda a, b: sum(c * v for c, v in zip(a, y)) <= b
    return any(all(map(row, a, b)) for _, polytopes in found for a, b in polytopes)


first = "(or (>= Y[0,0] 1.0) (<= Y[0,0] -1.0))"
second = "(or (>= Y[0,1] 1.0) (<= Y[0,1] -1.0))"
apart, together = cases(*BOX, first, second), cases(*BOX, f"(and {first} {second})")
print("two assertions:", apart)
print("one assertion: ", together)
assert holds(apart, (2, 2)) and holds(together, (2, 2))
assert holds(apart, (2, 0)) and not holds(together, (2, 0))

boxes = [box for box, _ in cases(
    "(or (<= X[0,0] 0.1) (>= X[0,0] 0.4))", "(or (<= X[0,1] 0.1) (>= X[0,1] 0.4))", "(>= Y[0,0] 0.0)"
)]
print("boxes of two disjunctions of inputs:", boxes)
assert len(boxes) == 4 and all(sum(b == (float("-inf"), float("inf")) for b in box) == 1 for box in boxes)

[(box, _)] = cases(*BOX[2:], "(== X[0,0] 0.3)", "(>= Y[0,0] 0.0)")
equal = cases(*BOX, "(== Y[0,0] 0.3)")
print("X = 0.3 becomes", box[0], "and Y = 0.3", equal[0][1])
assert box[0] == (float("-inf"), 0.3) and holds(equal, (0.3, 0)) and holds(equal, (-5, 0))
PY
