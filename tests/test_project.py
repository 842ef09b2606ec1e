"""Laws of the project as a whole: who may import whom, and that its files agree with each other."""

from __future__ import annotations

import ast
import contextlib
import importlib.metadata
import json
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import vislab

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "vislab"
MODULES = {path.stem: path for path in PACKAGE.glob("*.py") if not path.stem.startswith("__")}
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
README = (ROOT / "README.md").read_text(encoding="utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
ENVIRONMENT = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))

# Which rooms each room may import. Imports point one way: from later lines to earlier ones.
ROOMS = {
    "geometry": set(),
    "fingerprints": set(),
    "images": {"geometry"},
    "calls": set(),
    "sites": {"calls"},
    "watching": {"calls", "sites"},
    "preprocessing": {"geometry", "images"},
    "patch_size": {"geometry"},
    "models": {"geometry", "images", "sites", "watching", "patch_size", "preprocessing"},
    "loading": {"images", "patch_size", "preprocessing", "models"},
    "reading": {"geometry", "calls", "sites"},
    "gradients": {"geometry", "calls", "sites", "models", "reading"},
    "attribution": {"reading", "gradients"},
    "detection": {"geometry"},
    "metrics": {"geometry"},
    "yolo": {"geometry", "images", "detection"},
    "detr": {"geometry", "detection"},
    "features": {"geometry"},
    "detectors": {
        "geometry",
        "images",
        "sites",
        "watching",
        "models",
        "loading",
        "detection",
        "features",
        "yolo",
        "detr",
    },
    "evidence": {"geometry", "sites", "reading", "detection", "detectors"},
    "render": {"geometry", "detection", "fingerprints"},
    "compose": {
        *("geometry", "images", "sites", "patch_size", "models", "loading", "reading", "gradients"),
        *("fingerprints", "attribution", "detection", "detectors", "evidence", "metrics", "render"),
    },
    "regions": {"geometry", "images", "models", "detection", "detectors", "render", "compose"},
    "formats": {"geometry"},
    "pages": {"geometry", "render"},
    "layout": {"render", "pages"},
    "drawing": {"geometry", "render", "formats", "pages", "layout"},
    "panels": {"geometry", "fingerprints", "render", "pages"},
    "records": {"geometry", "fingerprints", "pages", "layout", "formats"},
    "export": {"geometry", "render", "formats", "pages", "drawing", "panels", "records"},
    "reproduction": {
        *("geometry", "images", "models", "loading", "fingerprints", "compose"),
        *("pages", "drawing", "panels", "records", "export"),
    },
    "batch": {"geometry", "fingerprints", "records"},
    "scores": {"metrics", "pages", "formats", "drawing", "records"},
    "evaluation": {"geometry", "fingerprints", "images", "models", "attribution", "metrics", "compose", "scores"},
    "runs": {"geometry", "models", "metrics", "evaluation"},
    "heads": {"geometry", "sites", "reading"},
    "settings": {"fingerprints", "images", "models", "attribution", "detectors", "compose"},
    "messages": {
        "geometry",
        "images",
        "models",
        "loading",
        "detection",
        "regions",
        "runs",
        "heads",
        "reading",
        "attribution",
        "render",
        "settings",
    },
    "widgets": {
        *("geometry", "images", "attribution", "detection", "render", "compose", "regions"),
        *("export", "scores", "evaluation", "runs", "settings", "messages"),
    },
    "cli_arguments": {"models", "loading"},
    "cli_photos": {"images", "formats", "records", "cli_arguments"},
    "cli_figures": {
        *("geometry", "images", "fingerprints", "render", "compose", "formats", "pages", "panels", "export"),
        *("batch", "cli_arguments", "cli_photos"),
    },
    "cli_detect": {"images", "render", "compose", "formats", "cli_arguments", "cli_photos"},
    "cli_models": {"geometry", "images", "models", "loading", "cli_arguments"},
    "cli_evaluate": {"evaluation", "scores", "cli_arguments", "cli_photos"},
    "cli": {"cli_arguments", "cli_figures", "cli_detect", "cli_models", "cli_evaluate"},
}
# Which rooms may import a framework at all, inside functions included.
FRAMEWORKS = {
    "anywidget": {"widgets"},
    "captum": {"gradients"},
    "cv2": {"images", "yolo", "render", "drawing"},
    "ipywidgets": {"widgets"},
    "matplotlib": {"render", "drawing", "formats", "scores"},
    "timm": {"loading"},
    "torch": {
        "fingerprints",
        "calls",
        "sites",
        "watching",
        "patch_size",
        "preprocessing",
        "models",
        "loading",
        "reading",
        "gradients",
        "attribution",
        "yolo",
        "detr",
        "detectors",
        "evidence",
        "compose",
        "evaluation",
        "heads",
        "runs",
        "cli",
    },
    "torchvision": {"loading"},
    "transformers": {"loading", "detr"},
    "ultralytics": {"yolo"},
}


class Imports(ast.NodeVisitor):
    """Names of the modules that a room imports, wherever in it; "." begins those of this package."""

    def __init__(self) -> None:
        self.found: list[tuple[str, int]] = []

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        # How a value shows itself in a notebook is drawn by rooms that stand above the value's own.
        shows_itself = re.fullmatch(r"_repr_\w+_", node.name)
        start = len(self.found)
        self.generic_visit(node)
        if shows_itself:
            self.found[start:] = [item for item in self.found[start:] if item[0] not in (".render", ".drawing")]

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            self.found.append((re.sub(r"^vislab(?=\.)", "", alias.name), node.lineno))

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        module = node.module or ""
        if node.level == 0 and module.split(".")[0] != "vislab":
            names = [module]
        else:
            room = module if node.level else module.partition(".")[2]
            names = [f".{room}"] if room else [f".{alias.name}" for alias in node.names]
        self.found.extend((name, node.lineno) for name in names)


def imports(source: str) -> list[tuple[str, int]]:
    visitor = Imports()
    visitor.visit(ast.parse(source))
    return visitor.found


def trespasses(room: str, source: str) -> list[str]:
    wrong = []
    for name, line in imports(source):
        top = name.split(".")[1 if name.startswith(".") else 0]
        if name.startswith("."):
            forbidden = top not in ROOMS[room]
        else:
            forbidden = top == "vislab" or room not in FRAMEWORKS.get(top, {room})
        if forbidden:
            wrong.append(f"vislab/{room}.py:{line} imports {name}")
    return wrong


@pytest.mark.parametrize("room", sorted(MODULES))
def test_imports_point_one_way(room: str) -> None:
    assert room in ROOMS, f"vislab/{room}.py has no line in the table of rooms"
    assert trespasses(room, MODULES[room].read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "source",
    [
        "from . import render",
        "from .render import overlay",
        "from vislab.render import overlay",
        "from vislab import render",
        "import vislab.render",
        "import vislab",
        "import torch.nn",
        "def late():\n    from . import render",
        "def _repr_png_(self):\n    from . import compose",
    ],
)
def test_every_way_to_trespass_is_seen(source: str) -> None:
    assert len(trespasses("geometry", source)) == 1


def test_values_may_show_themselves_through_render() -> None:
    assert trespasses("geometry", "def _repr_png_(self):\n    from . import render\n    import numpy") == []


def test_rooms_hold_no_cycle() -> None:
    before: set[str] = set()
    for room, may_import in ROOMS.items():
        assert may_import <= before, room
        before.add(room)


def test_public_names_live_where_type_checkers_look_for_them() -> None:
    tree = ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8"))
    seen = {
        alias.name: node.module
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.level
        for alias in node.names
    }
    assert seen == vislab._HOME
    assert sorted(vislab._HOME) == sorted(vislab.__all__)
    assert set(vislab.__all__) <= set(dir(vislab))


def test_no_module_hides_a_public_function() -> None:
    assert set(MODULES) & set(vislab.__all__) == set()


@pytest.mark.parametrize("name", vislab.__all__)
def test_public_names_resolve(name: str) -> None:
    value = getattr(vislab, name)
    assert value.__name__ == name
    assert value.__doc__


def test_unknown_name_says_what_there_is() -> None:
    with pytest.raises(AttributeError, match=r"vislab has no 'expalin'.* explain"):
        vislab.expalin  # noqa: B018


def test_import_loads_no_framework() -> None:
    heavy = sorted({*FRAMEWORKS, "numpy", "PIL", "jupyterlab", "IPython"})
    script = f"import sys, vislab; dir(vislab); print(*(name for name in {heavy} if name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def installed_with(requirements: list[str]) -> set[str]:
    """The distributions that requirements bring, with those that these require in turn."""
    found: set[str] = set()
    todo = [Requirement(requirement) for requirement in requirements]
    while todo:
        requirement = todo.pop()
        name = canonicalize_name(requirement.name)
        wanted = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
        if name not in found and wanted:
            found.add(name)
            with contextlib.suppress(importlib.metadata.PackageNotFoundError):
                todo += map(Requirement, importlib.metadata.requires(name) or [])
    return found


def test_what_the_code_imports_is_installed_with_it() -> None:
    """A machine that happens to hold more must not hide a requirement that nobody declared."""
    homes = importlib.metadata.packages_distributions()
    training = list(ROOT.glob("assets/models/train/*.py"))
    own = {"vislab", *sys.stdlib_module_names, *(path.stem for path in [*ROOT.glob("tests/*.py"), *training])}
    extras = PROJECT["optional-dependencies"]
    for files, declared in (
        (PACKAGE.glob("*.py"), [*PROJECT["dependencies"], "timm"]),  # whoever has a model of timm's has timm
        (ROOT.glob("tests/*.py"), PROJECT["dependencies"] + extras["test"]),
        (training, PROJECT["dependencies"]),
    ):
        there = installed_with(declared)
        for path in files:
            for name, line in imports(path.read_text(encoding="utf-8")):
                top = name.split(".")[0]
                if top and top not in own:
                    brought = {canonicalize_name(home) for home in homes.get(top, [])}
                    assert brought & there, f"{path.name}:{line} imports {top}, which no requirement brings"


def test_given_packages_are_dependencies() -> None:
    given = {"torch", "ultralytics", "transformers", "jupyterlab", "ipywidgets"}
    given |= {"matplotlib", "opencv-python", "captum"}
    names = {re.match(r"[\w.-]+", requirement).group() for requirement in PROJECT["dependencies"]}
    assert given <= names


def test_environment_pyproject_and_readme_agree() -> None:
    bound = PROJECT["requires-python"]
    conda = [item for item in ENVIRONMENT["dependencies"] if isinstance(item, str)]
    [through_pip] = [item["pip"] for item in ENVIRONMENT["dependencies"] if isinstance(item, dict)]
    assert f"python{bound}" in conda
    assert "pip" in conda
    assert through_pip == ["-e .[test]"]
    assert "test" in PROJECT["optional-dependencies"]
    assert f"Python {bound.replace('>=', '≥ ')}" in README
    assert PROJECT["license"] in README
    licence = " ".join((ROOT / "LICENSE").read_text(encoding="utf-8").split())
    assert licence.startswith("GNU AFFERO GENERAL PUBLIC LICENSE Version 3")


def test_type_checkers_see_the_python_bound() -> None:
    tools = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]
    oldest = PROJECT["requires-python"].removeprefix(">=")
    assert tools["mypy"]["python_version"] == oldest
    assert tools["ruff"]["target-version"] == "py" + oldest.replace(".", "")


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.name)
def test_notebooks_hold_no_outputs(notebook: Path) -> None:
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert code
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)


@pytest.fixture(scope="module")
def tracked() -> list[Path]:
    """Files that are in the repository, or would be with the next `git add`."""
    if not (ROOT / ".git").exists():
        pytest.skip("no git checkout")
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")
    return [ROOT / name for name in names if name and (ROOT / name).is_file()]


def test_no_path_of_one_machine(tracked: list[Path]) -> None:
    private = re.compile(r"(?<![\w.])/(?:work|home|root|Users|tmp)/[A-Za-z]")
    found = []
    for path in tracked:
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except UnicodeDecodeError:
            continue
        found += [f"{path.relative_to(ROOT)}:{i}: {line}" for i, line in enumerate(lines, 1) if private.search(line)]
    assert found == []


def test_wheel_holds_the_package_and_its_assets(tracked: list[Path], tmp_path: Path) -> None:
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, capture_output=True, check=True)
    [wheel] = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
    left_out = ("assets/figures/", "assets/models/train/")
    wanted = {path.relative_to(ROOT).as_posix() for path in tracked}
    wanted = {name for name in wanted if name.startswith(("vislab/", "assets/")) and not name.startswith(left_out)}
    assert "vislab/py.typed" in held
    assert held == {re.sub(r"^assets/", "vislab/assets/", name) for name in wanted}
