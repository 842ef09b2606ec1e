"""Laws of the project as a whole: who may import whom, and that its files agree with each other."""

from __future__ import annotations

import ast
import contextlib
import graphlib
import importlib.metadata
import inspect
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
WINGS = sorted(path.parent.name for path in PACKAGE.glob("*/__init__.py"))
ROOMS = sorted(path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py"))
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
README = (ROOT / "README.md").read_text(encoding="utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
ENVIRONMENT = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))

# The wings, each importing only those above it, and the frameworks that it may import, functions included.
HOUSE = {
    "core": {"cv2", "torch"},
    "engine": {"torch"},
    "models": {"timm", "torch", "torchvision", "transformers"},
    "methods": {"captum", "torch"},
    "detectors": {"cv2", "supervision", "torch", "transformers", "ultralytics"},
    "language": {"torch", "transformers"},
    "masks": {"cv2", "torch", "torchvision", "transformers"},
    "figures": {"cv2", "matplotlib"},
    "api": {"torch", "torchvision"},
    "spread": {"pyarrow", "ray", "torch"},
    "evaluation": {"matplotlib", "torch"},
    "lab": {"anywidget", "ipywidgets", "torch"},
    "page": {"torch"},
    "cli": {"torch"},
}
FRAMEWORKS = set().union(*HOUSE.values())


def imports(source: str, wing: str) -> list[tuple[str, int]]:
    """(module, line) of all that a room imports, wherever in it; of this package the full path, such as core.images."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [(alias.name, node.lineno) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = ["vislab", wing][: 3 - node.level] if node.level else []
            module = ".".join([*above, *filter(None, [node.module])])
            inside = module == "vislab" or module in [f"vislab.{name}" for name in HOUSE]
            names = [f"{module}.{alias.name}" for alias in node.names] if inside else [module]
            found += [(name, node.lineno) for name in names]
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "library":
            found += [(name.value, node.lineno) for name in node.args if isinstance(name, ast.Constant)]
    return found


def trespasses(wing: str, source: str) -> list[str]:
    """What a room of a wing imports and may not: of wings below it, of the package itself, of other frameworks."""
    may_import = set(list(HOUSE)[: list(HOUSE).index(wing) + 1])
    wrong = []
    for name, line in imports(source, wing):
        top, _, rest = name.partition(".")
        own, allowed = rest.partition(".")[0] in may_import, top not in FRAMEWORKS - HOUSE[wing]
        if not (own if top == "vislab" else allowed):
            wrong.append(f"line {line} imports {name}")
    return wrong


def test_every_wing_is_in_the_table() -> None:
    assert sorted(HOUSE) == WINGS


@pytest.mark.parametrize("room", [room for room in ROOMS if "/" in room])
def test_imports_point_one_way(room: str) -> None:
    assert trespasses(room.partition("/")[0], (PACKAGE / room).read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "source",
    [
        "from ..api import explain",
        "from ..api.explain import explain",
        "from .. import figures",
        "from vislab.figures.overlay import overlay",
        "from vislab import figures",
        "from vislab import overlay",
        "import vislab.figures.overlay",
        "import vislab",
        "import matplotlib.pyplot",
        "library('matplotlib.pyplot')",
        "def late():\n    from ..figures import overlay",
    ],
)
def test_every_way_to_trespass_is_seen(source: str) -> None:
    assert len(trespasses("engine", source)) == 1


def test_rooms_of_a_wing_hold_no_cycle() -> None:
    for wing in HOUSE:
        before: dict[str, set[str]] = {}
        for path in (PACKAGE / wing).glob("*.py"):
            top = [node for node in ast.parse(path.read_text(encoding="utf-8")).body if not isinstance(node, ast.If)]
            names = imports(ast.unparse(ast.Module(top, [])), wing)
            before[path.stem] = {name.split(".")[2] for name, _ in names if name.startswith(f"vislab.{wing}.")}
        graphlib.TopologicalSorter(before).prepare()  # raises where there is one


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


def test_no_wing_hides_a_public_name() -> None:
    assert set(HOUSE) & set(vislab.__all__) == set()


@pytest.mark.parametrize("name", vislab.__all__)
def test_public_names_resolve(name: str) -> None:
    value = getattr(vislab, name)
    assert value.__name__ == name
    assert value.__doc__


@pytest.mark.parametrize("name", [name for name in vislab.__all__ if name[0].islower()])
def test_the_data_comes_first_and_all_else_is_a_keyword(name: str) -> None:
    """What a function is about comes first; `save` and `ask` have two such things, and costs are of numbers alone."""
    parameters = inspect.signature(getattr(vislab, name)).parameters.values()
    first = [one.name for one in parameters if one.kind is one.POSITIONAL_OR_KEYWORD]
    known = {"save": ["path", "heats"], "ask": ["image", "question"], "attention_flops": ["tokens", "dim", "layers"]}
    known["attention_memory"] = ["tokens", "heads", "layers", "bytes_per_value"]
    assert first == known.get(name, first[:1])
    assert not {"model", "detector"} & set(first) or name.startswith("load")


def named(text: str) -> set[str]:
    """What stands after `vislab.` in a text."""
    return set(re.findall(r"\bvislab\.([A-Za-z_]\w*)", text))


@pytest.mark.parametrize("room", ROOMS)
def test_texts_of_the_package_name_what_is_public_alone(room: str) -> None:
    """Error texts and docstrings: whoever reads them can do what they say."""
    tree = ast.parse((PACKAGE / room).read_text(encoding="utf-8"))
    strings = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    assert named("\n".join(strings)) <= set(vislab.__all__)


@pytest.mark.parametrize("path", [ROOT / "README.md", *NOTEBOOKS], ids=lambda path: path.name)
def test_readers_are_led_into_no_inner_room(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    text = text if path.suffix == ".md" else "\n".join("".join(one["source"]) for one in json.loads(text)["cells"])
    assert re.findall(r"(?:from|import) +vislab\.\w+|from +vislab +import", text) == []
    assert named(text) <= {*vislab.__all__, "__version__"}


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


@pytest.mark.slow
def test_what_the_code_imports_is_installed_with_it() -> None:
    """A machine that happens to hold more must not hide a requirement that nobody declared."""
    homes = importlib.metadata.packages_distributions()
    training = list(ROOT.glob("assets/models/train/*.py"))
    tests = [path for path in ROOT.glob("tests/**/*.py") if path.parent.name != "bench"]
    own = {"vislab", *HOUSE, *sys.stdlib_module_names, *(path.stem for path in [*ROOT.glob("tests/*.py"), *training])}
    extras = PROJECT["optional-dependencies"]
    whole = [*PROJECT["dependencies"], *extras["lab"], *extras["detectors"], *extras["ray"]]
    for files, declared in (
        # whoever has a model of timm's has timm, and boxes for supervision are for those who have it
        (PACKAGE.rglob("*.py"), [*whole, "timm", "supervision"]),
        (tests, [*whole, *extras["test"]]),
        (training, whole),
    ):
        there = installed_with(declared)
        for path in files:
            for name, line in imports(path.read_text(encoding="utf-8"), path.parent.name):
                top = name.split(".")[0]
                if top and top not in own:
                    brought = {canonicalize_name(home) for home in homes.get(top, [])}
                    assert brought & there, f"{path.name}:{line} imports {top}, which no requirement brings"


def test_given_packages_are_dependencies() -> None:
    given = {"torch", "ultralytics", "transformers", "jupyterlab", "ipywidgets"}
    given |= {"matplotlib", "opencv-python", "captum"}
    extras = PROJECT["optional-dependencies"]
    brought = [*PROJECT["dependencies"], *extras["lab"], *extras["detectors"]]
    assert given <= {re.match(r"[\w.-]+", requirement).group() for requirement in brought}
    assert extras["all"] == ["vislab[lab,detectors]"]
    assert "vislab[all,onnx,ray]" in extras["test"]  # what `make lab` and environment.yml install


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


def test_make_lab_opens_the_first_notebook_and_says_what_it_fetches() -> None:
    made = subprocess.run(["make", "-n", "lab"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    [opened] = re.findall(r"--LabApp\.default_url=/lab/tree/(\S+)", made)
    assert (ROOT / "notebooks" / opened) == NOTEBOOKS[0]
    told = [
        re.findall(r"[\d.]+ GB|\d+ Mbit/s", text)
        for text in ((ROOT / f).read_text() for f in ("README.md", "Makefile"))
    ]
    assert {"2.9 GB", "6.8 GB", "50 Mbit/s"} <= set(told[0]) & set(told[1])


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
