"""The house rules, read from the syntax trees: which way imports go, and what is imported where."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "robustcheck"
MODULES = sorted(PACKAGE.rglob("*.py"))

# A room may import from those named, and from itself; errors, content and tomlfile are for all.
BELOW = {
    "activations": set(),
    "sensing": {"activations"},
    "networks": {"sensing", "activations"},
    "data": {"sensing", "activations"},
    "study": {"networks", "data", "sensing", "activations"},
    "analysis": {"study", "networks", "data", "sensing", "activations"},
    "reporting": {"analysis", "study", "networks", "data", "sensing", "activations"},
    "gate": {"reporting", "analysis", "study", "networks", "data", "sensing", "activations"},
    "recommend": {"reporting", "analysis", "study", "networks", "data", "sensing", "activations"},
    "cli": {"gate", "recommend", "reporting", "analysis", "study", "networks", "data", "sensing", "activations"},
}
FOR_ALL = {"errors", "content", "tomlfile"}

# Each of these has one home, so that it can be replaced there.
HOMES = {
    "albumentations": {"data/preprocessing.py", "sensing/augment.py"},
    "altair": {
        "reporting/charts.py",
        "reporting/gradient_charts.py",
        "reporting/rank_charts.py",
        "reporting/sensor_charts.py",
    },
    "vl_convert": {"reporting/drawing.py"},
    "numba": {"sensing/kernels/loops.py", "sensing/kernels/camera_loops.py", "data/ray_casting.py"},
    "sqlite3": {"study/store.py"},
    "jinja2": {"reporting/html.py"},
    "triton": {"sensing/kernels/cuda.py"},
    "timm": {"networks/timm_models.py"},
    "ray": set(),
}
# And these a folder.
FOLDERS = {"onnx": "networks/onnx/", "onnxruntime": "networks/onnx/"}
SLOW = {
    "onnx",
    "onnxruntime",
    "timm",
    "torch",
    "torchvision",
    "numpy",
    "scipy",
    "numba",
    "sklearn",
    "albumentations",
    "altair",
    "pydantic",
    "rich",
}


def imports(path: Path, *, top_level_only: bool = False) -> list[str]:
    """Full names of the modules that a file imports; those for type checkers alone are left out."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    typing_only = {
        id(node)
        for branch in ast.walk(tree)
        if isinstance(branch, ast.If) and ast.unparse(branch.test) == "TYPE_CHECKING"
        for node in ast.walk(branch)
    }
    nodes = tree.body if top_level_only else ast.walk(tree)
    found = []
    for node in nodes:
        if id(node) in typing_only:
            continue
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            found += [f"{node.module}.{alias.name}" for alias in node.names]
    return found


def room(name: str) -> str:
    return name.split(".")[1] if "." in name else ""


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_down_only(path):
    parts = path.relative_to(PACKAGE).parts
    if len(parts) == 1:
        allowed = set() if parts[0] in ("errors.py", "content.py", "tomlfile.py") else None
    else:
        allowed = BELOW[parts[0]] | {parts[0]}
    if allowed is None:
        return
    for name in imports(path):
        if name.startswith("robustcheck."):
            assert room(name) in allowed | FOR_ALL, f"{path} imports {name}"


@pytest.mark.parametrize(("library", "homes"), HOMES.items())
def test_a_library_is_imported_at_home_only(library, homes):
    users = {
        str(path.relative_to(PACKAGE))
        for path in MODULES
        if any(name.split(".")[0] == library for name in imports(path))
    }
    assert users == homes


@pytest.mark.parametrize(("library", "folder"), FOLDERS.items())
def test_a_library_is_imported_in_its_folder_only(library, folder):
    for path in MODULES:
        if any(name.split(".")[0] == library for name in imports(path)):
            assert str(path.relative_to(PACKAGE)).startswith(folder), f"{path} imports {library}"


@pytest.mark.parametrize("path", sorted((PACKAGE / "cli").glob("*.py")), ids=lambda path: path.name)
def test_commands_import_nothing_slow_at_the_top(path):
    for name in imports(path, top_level_only=True):
        assert name.split(".")[0] not in SLOW, f"{path} imports {name}"
        assert not name.startswith("robustcheck.") or room(name) in {"cli", "errors", "content"}, (
            f"{path} imports {name}"
        )


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_modules_say_what_they_are_for_and_stay_small(path):
    text = path.read_text(encoding="utf-8")
    docstring = ast.get_docstring(ast.parse(text)) or ""
    assert len(docstring) > 15, f"{path}: the first line says what the module is for"
    assert len(text.splitlines()) <= 400, f"{path}: two nouns in one room?"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_global_randomness(path):
    text = path.read_text(encoding="utf-8")
    home = path.name == "random.py"
    for word in ("np.random.", "numpy.random", "random.seed", "\nimport random", "manual_seed"):
        assert home or word not in text, f"{path} uses {word}"
    for word in ("pickle.load", "weights_only=False", "allow_pickle=True", "eval(", "exec("):
        assert word not in text.replace(".eval(", "").replace("_eval(", ""), f"{path} uses {word}"


def test_no_package_shadows_a_users_own():
    assert not (ROOT / "tests" / "__init__.py").exists()
    for folder in ("sensors", "models", "reports"):
        assert not list((ROOT / folder).glob("*.py"))
