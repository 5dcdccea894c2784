"""Hold the repository as a whole to its rules: what is asked of every file, and the size of the package."""

import ast
import re
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "imgcls_jax"
MODULES = sorted(PACKAGE.rglob("*.py"))

MAX_LINES = 500
MAX_PARTS = 25
MAX_LOOSE_MODULES = 5

# The field's words are American; so are ours.
BRITISH = re.compile(
    "colour|optimis|normalis|initialis|grey|centre|materialis|catalogue|neighbour|licence|labelled|favour|behaviour|"
    "synchronis|serialis|generalis|regularis|summaris|factoris|quantis|analyse"
)
VAGUE = {"utils.py", "util.py", "helpers.py", "helper.py", "common.py", "misc.py"}


def tracked(*patterns):
    """The files that git tracks, or all files where this is no clone."""
    try:
        done = subprocess.run(
            ["git", "ls-files", "-z", *patterns], cwd=ROOT, capture_output=True, check=True, text=True
        )
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("needs a git clone")
    return [ROOT / name for name in done.stdout.split("\0") if name and (ROOT / name).is_file()]


def relative(path):
    return str(path.relative_to(ROOT))


def part(module):
    """The top-level part of the package that a module of it belongs to, such as "training" or "errors"."""
    names = module.split(".")
    return names[1] if len(names) > 1 else ""


def imported(path):
    """The modules that a file imports, anywhere in it, apart from imports that only type checkers follow."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    checked_only = {
        node
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and "TYPE_CHECKING" in ast.unparse(block.test)
        for node in ast.walk(block)
    }
    for node in ast.walk(tree):
        if node in checked_only:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            # `from imgcls_jax import config` imports a part; `from imgcls_jax.config import Data` a name of one.
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def import_graph():
    """{part: the other parts that its modules import}."""
    graph = {}
    for path in MODULES:
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        others = {part(name) for name in imported(path) if name.split(".")[0] == "imgcls_jax"}
        own = part(module)
        if own != "__init__":
            graph.setdefault(own, set()).update(others - {own, ""})
    return graph


def layers():
    contract = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"][0]
    return [re.split(r"\s*[:|]\s*", layer) for layer in contract["layers"]]


def test_the_package_has_few_parts():
    graph = import_graph()
    for name, others in sorted(graph.items()):
        print(f"{name:12} → {' '.join(sorted(others))}")
    loose = [path.name for path in PACKAGE.glob("*.py")]
    print(f"{len(graph)} parts, {len(loose)} loose modules: {' '.join(sorted(loose))}")
    assert len(graph) <= MAX_PARTS
    assert len(loose) <= MAX_LOOSE_MODULES


def test_every_part_has_its_layer_and_imports_none_above():
    """As lint-imports checks it; here without import-linter, which only developers have."""
    place = {name: i for i, names in enumerate(layers()) for name in names}
    graph = import_graph()
    assert set(graph) == set(place)
    upward = [f"{name} → {other}" for name, others in graph.items() for other in others if place[other] < place[name]]
    assert upward == []


def test_no_module_is_long():
    long = {relative(path): lines for path in tracked("*.py") if (lines := path.read_text().count("\n")) > MAX_LINES}
    assert long == {}


def test_every_module_is_named_for_what_it_holds():
    assert [relative(path) for path in tracked("*.py") if path.name in VAGUE] == []


def test_every_module_says_what_it_is_for():
    trees = {
        path: ast.parse(path.read_text())
        for path in tracked("imgcls_jax", "configs", "reproduction", "benchmarks", "examples")
        if path.suffix == ".py"
    }
    silent = [relative(path) for path, tree in trees.items() if tree.body and not ast.get_docstring(tree)]
    assert silent == []


def test_nothing_is_left_to_do():
    marks = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b")
    found = [
        f"{relative(path)}:{number}"
        for path in tracked("*.py", "*.md", "*.toml", "*.yml", "*.sh")
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if marks.search(line) and path != Path(__file__)
    ]
    assert found == []


def test_no_path_of_a_machine():
    paths = re.compile(r"(?<![\w.])/(work|root|home/\w+|Users/\w+)/")
    found = [
        f"{relative(path)}:{number}: {line.strip()}"
        for path in tracked("*.py", "*.md", "*.toml", "*.yml", "*.sh", "*.ipynb", ".ci")
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if paths.search(line) and path != Path(__file__)
    ]
    assert found == []


def test_names_are_american():
    found = []
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text())):
            names = [getattr(node, field) for field in ("name", "id", "arg", "attr") if hasattr(node, field)]
            found += [
                f"{relative(path)}: {name}" for name in names if isinstance(name, str) and BRITISH.search(name.lower())
            ]
        if BRITISH.search(path.stem):
            found.append(relative(path))
    assert sorted(set(found)) == []


def test_every_config_says_what_it_is_and_every_page_names_only_configs_that_exist():
    names = re.compile(r"configs/(\w+)\.py")
    for page in tracked("README.md", "docs", "configs", "reproduction", "launch"):
        if page.suffix not in (".md", ".py", ".sh"):
            continue
        for name in names.findall(page.read_text()):
            assert (ROOT / "configs" / f"{name}.py").exists(), f"{relative(page)} names configs/{name}.py"


def test_every_weight_that_a_page_names_is_in_the_catalog():
    from imgcls_jax.weights import published

    quoted = re.compile(r"[\"'` ]((?:torchvision|akamaster)/\w+\.[A-Z]\w+|dinov2/vit\w+|cifar/\w+)")
    for page in tracked("README.md", "docs", "configs", "examples"):
        if page.suffix in (".md", ".py"):
            for name in quoted.findall(page.read_text()):
                assert name in published(), f"{relative(page)} names the weights {name}"


def test_examples_of_every_language_are_marked():
    """Pages' blocks are run (bash, python) or are not (console, py, text …); a bare one would be neither."""
    for page in tracked("README.md", "CONTRIBUTING.md", "docs"):
        if page.suffix == ".md":
            lines = page.read_text().splitlines()
            fences = [line.strip() for line in lines if re.fullmatch(r" *```\w*", line)]
            for opening, closing in zip(fences[::2], fences[1::2], strict=True):
                assert opening != "```", f"{relative(page)}: a block without a language"
                assert closing == "```"
