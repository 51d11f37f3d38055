"""Rules that hold for every file, read from the syntax trees, and what importing a package loads."""

import ast
import functools
import re
import subprocess
import sys
from collections.abc import Iterator, Set
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
STORE, PRODUCT, TESTS = ROOT / "receipt_dynamo", ROOT / "receipt_layoutlm", ROOT / "tests"
ML = {"torch", "transformers", "seqeval", "safetensors"}
AWS = {"receipt_dynamo", "boto3", "botocore", "pynamodb"}

# room -> what it never imports: another room, or a package. A room's files and the rooms inside it are all covered.
ROOMS = {
    "configs",
    "data",
    "run",
    "training",
    "inference",
    "reports",
    "storage",
    "datasets",
    "worker",
    "jobs",
    "fleet",
    "local",
    "mlflow_store",
    "cli",
}
MAY_IMPORT = {
    "configs": set(),
    "data": set(),
    "run": {"data"},
    "training": {"run", "data"},
    "inference": {"training", "run", "data"},
    "reports": {"run", "data"},
    "storage": {"run", "data"},
    "datasets": {"storage", "run", "data"},
    "worker": {"datasets", "storage", "run", "data"},
    "jobs": {"worker", "datasets", "storage", "run", "data"},
    "fleet": {"worker", "storage", "run"},
    "local": set(),
    "mlflow_store": {"jobs", "worker", "datasets", "storage", "run", "data"},
    "cli": ROOMS - {"training"},
}
WITHOUT_AWS = ("data", "run", "training", "inference", "reports")

KEY_STRING = re.compile(
    r"#?(JOB|STATUS|METRIC|LOG|QUEUE|ATTEMPT|JOB_NAME|DATASET|SNAPSHOT|CREATED|FORGOTTEN"
    r"|FLEET|COST|IMAGE|RECEIPT|LINE|WORD|LABEL|VALIDATION_STATUS)#"
)
ITEMS_MODULES = (STORE / "items.py", STORE / "receipt_items.py", STORE / "fleet_items.py")
VAGUE_MODULES = {"utils", "util", "common", "helpers", "base", "manager", "handler", "service", "misc"}
VAGUE_CLASS = re.compile(r"(Manager|Handler|Helper|Base|Abstract|Mixin)(?![a-z])|^I[A-Z][a-z]")


def sources(*folders: Path) -> list[Path]:
    return sorted(path for folder in folders for path in folder.rglob("*.py") if "_infra" not in path.parts)


@functools.cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


@functools.cache
def walked(path: Path) -> list[ast.AST]:
    return list(ast.walk(tree(path)))


def imports(path: Path) -> Iterator[tuple[str, int]]:
    """Top-level package names that a file imports anywhere, with the line; TYPE_CHECKING blocks do not count."""
    for node in runtime_nodes(tree(path)):
        if isinstance(node, ast.Import):
            yield from ((alias.name.partition(".")[0], node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.module.partition(".")[0], node.lineno


def runtime_nodes(node: ast.AST) -> Iterator[ast.AST]:
    yield node
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING":
            continue
        yield from runtime_nodes(child)


def found_imports(paths: list[Path], forbidden: set[str]) -> list[str]:
    return [place(path, line, name) for path in paths for name, line in imports(path) if name in forbidden]


def place(path: Path, line: int, what: str) -> str:
    return f"{path.relative_to(ROOT)}:{line}: {what}"


def room_imports(path: Path) -> Iterator[tuple[str, int]]:
    """Rooms of the product that a file imports from, with the line."""
    for node in runtime_nodes(tree(path)):
        if not isinstance(node, ast.ImportFrom) or node.level or not (node.module or "").startswith(PRODUCT.name):
            continue
        parts = node.module.split(".")[1:2] if "." in node.module else [alias.name for alias in node.names]
        yield from ((part, node.lineno) for part in parts if part in ROOMS)


def test_the_run_store_knows_nothing_of_training_or_of_the_command_line() -> None:
    assert found_imports(sources(STORE), {"receipt_layoutlm", "click", "rich", "yaml"} | ML) == []


def test_every_folder_of_the_product_is_a_room_with_a_rule() -> None:
    assert {path.name for path in PRODUCT.iterdir() if path.is_dir() and (path / "__init__.py").exists()} == ROOMS


@pytest.mark.parametrize("room", sorted(ROOMS))
def test_a_room_imports_only_from_the_rooms_below_it(room: str) -> None:
    found = [
        place(path, line, other)
        for path in sources(PRODUCT / room)
        for other, line in room_imports(path)
        if other not in MAY_IMPORT[room] | {room, "configs"}
    ]
    assert found == []


def test_the_shared_vocabulary_imports_no_room() -> None:
    moved = {"trainer.py", "scaler_lambda.py"}  # old names that something stored or deployed still uses
    door = {"__init__.py", "extractor.py"}  # what `from receipt_layoutlm import Extractor` needs, on first use
    paths = [path for path in PRODUCT.glob("*.py") if path.name not in moved | door]
    assert [place(path, line, room) for path in paths for room, line in room_imports(path) if room != "configs"] == []


@pytest.mark.parametrize("room", WITHOUT_AWS)
def test_files_and_training_know_nothing_of_aws_or_of_the_command_line(room: str) -> None:
    assert found_imports(sources(PRODUCT / room), AWS | {"click"}) == []


@pytest.mark.parametrize("room", sorted(ROOMS - {"training", "inference"}))
def test_no_room_beside_training_and_inference_imports_torch(room: str) -> None:
    # safetensors comes without torch: `job verify-resume` compares stored tensors
    assert found_imports(sources(PRODUCT / room), ML - {"safetensors"}) == []


def test_no_module_imports_itself_by_way_of_others() -> None:
    named = names_of(sources(STORE, PRODUCT, ROOT / "bench"))
    graph = {name: set(module_imports(path, named.keys())) - {name} for name, path in named.items()}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def names_of(paths: list[Path]) -> dict[str, Path]:
    """Module name -> file; a benchmark is imported by its bare name."""
    names = {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path for path in paths}
    return {name.removeprefix("bench."): path for name, path in names.items()}


def module_imports(path: Path, modules: Set[str]) -> Iterator[str]:
    """The modules that a file imports; of `from package import module`, the module."""
    for node in walked(path):
        if isinstance(node, ast.Import):
            yield from modules & {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            yield from modules & (names if names <= modules else names | {node.module})


def test_the_training_loop_does_not_know_what_is_learned() -> None:
    found = [
        place(path, number, line.strip())
        for path in sources(PRODUCT / "training")
        if PRODUCT / "training" / "tasks" not in path.parents
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if re.search(r"word|label|box|image", line, re.IGNORECASE)
    ]
    assert found == []


def nodes(*folders: Path, without: tuple[Path, ...] = ()) -> Iterator[tuple[Path, ast.AST]]:
    for path in sources(*folders):
        if path not in without:
            yield from ((path, node) for node in walked(path))


def test_key_strings_are_written_in_the_items_modules_alone() -> None:
    found = [
        place(path, node.lineno, node.value)
        for path in sources(STORE, PRODUCT)
        if path not in ITEMS_MODULES
        for node in texts(path)
        if KEY_STRING.match(node.value)
    ]
    assert found == []


def texts(path: Path) -> Iterator[ast.Constant]:
    """String constants of a file, pieces of f-strings included, without docstrings."""
    module = tree(path)
    docstrings = {id(node.value) for node in ast.walk(module) if isinstance(node, ast.Expr)}
    for node in ast.walk(module):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            yield node


def test_nothing_scans_a_table() -> None:
    scans = [
        place(path, node.lineno, "scan")
        for path, node in nodes(STORE, PRODUCT)
        if (isinstance(node, ast.Attribute) and node.attr == "scan")
        or (isinstance(node, ast.Constant) and node.value in ("scan", "Scan"))
    ]
    assert scans == []


def test_only_the_transitions_write_the_status_of_a_job() -> None:
    found = {
        path.relative_to(ROOT).as_posix()
        for path, node in nodes(STORE, PRODUCT)
        if isinstance(node, ast.Attribute)
        and node.attr in ("set", "remove")
        and isinstance(node.value, ast.Attribute)
        and node.value.attr == "status"
    }
    assert found == {"receipt_dynamo/transitions.py"}


def test_the_writes_of_transitions_are_sent_by_the_queue_alone() -> None:
    importers = {
        path.relative_to(ROOT).as_posix()
        for path, node in nodes(STORE, PRODUCT)
        if isinstance(node, ast.ImportFrom) and node.module == "receipt_dynamo.transitions"
    }
    assert importers == {"receipt_dynamo/queue.py"}


def test_no_item_is_saved_past_the_writer() -> None:
    past = {"save", "put_item", "update_item", "delete_item", "transact_write_items", "batch_write_item"}
    found = [
        place(path, node.lineno, node.attr)
        for path, node in nodes(STORE, without=(STORE / "writes.py", STORE / "bulk.py"))
        if isinstance(node, ast.Attribute) and node.attr in past
    ]
    assert found == []


def test_everything_is_caught_at_one_boundary_only() -> None:
    found = {
        path.relative_to(ROOT).as_posix()
        for path, node in nodes(STORE, PRODUCT, ROOT / "scripts", ROOT / "bench")
        if isinstance(node, ast.ExceptHandler)
        and (node.type is None or {"Exception", "BaseException"} & names_in(node.type))
    }
    assert found <= {"receipt_layoutlm/worker/worker.py"}


def names_in(node: ast.AST) -> set[str]:
    return {each.id for each in ast.walk(node) if isinstance(each, ast.Name)}


def test_no_time_is_naive() -> None:
    found = [
        place(path, node.lineno, ast.unparse(node))
        for path, node in nodes(STORE, PRODUCT, TESTS)
        if isinstance(node, ast.Call) and is_naive(node)
    ]
    assert found == []


def is_naive(call: ast.Call) -> bool:
    if not isinstance(call.func, ast.Attribute) or "datetime" not in names_in(call.func.value):
        return False
    if call.func.attr in ("utcnow", "utcfromtimestamp", "today"):
        return True
    return (call.func.attr, len(call.args) + len(call.keywords)) in [("now", 0), ("fromtimestamp", 1)]


def test_the_environment_is_read_at_the_edge_only() -> None:
    found = {
        path.relative_to(ROOT).as_posix()
        for path, node in nodes(STORE, PRODUCT)
        if isinstance(node, ast.Attribute) and node.attr in ("environ", "getenv")
    }
    assert {path for path in found if not path.startswith("receipt_layoutlm/cli")} == {
        "receipt_dynamo/client.py",
        "receipt_layoutlm/inference/scans.py",  # a program in Python names no cache folder
        "receipt_layoutlm/mlflow_store/artifacts.py",  # as store.py
        "receipt_layoutlm/fleet/scaler/lambda_entry.py",  # a Lambda is told in this way alone
        "receipt_layoutlm/extractor.py",  # the door for Python programs
        "receipt_layoutlm/mlflow_store/store.py",  # MLflow's server tells its workers so what it serves
        "receipt_layoutlm/training/__main__.py",  # torchrun says there which process of several it is
    }


def test_no_module_or_class_has_a_name_that_says_nothing() -> None:
    folders = (STORE, PRODUCT, TESTS)
    parts = {part for path in sources(*folders) for part in path.relative_to(ROOT).with_suffix("").parts}
    assert parts & VAGUE_MODULES == set()
    classes = {node.name for _, node in nodes(*folders) if isinstance(node, ast.ClassDef)}
    assert [name for name in classes if VAGUE_CLASS.search(name)] == []


def test_nothing_is_abstract() -> None:
    assert found_imports(sources(STORE, PRODUCT), {"abc"}) == []


def test_a_task_is_told_apart_in_its_own_folder_only() -> None:
    found = [
        place(path, node.lineno, ast.unparse(node))
        for path, node in nodes(PRODUCT)
        if PRODUCT / "training" / "tasks" not in path.parents
        and isinstance(node, ast.Compare)
        and ast.unparse(node.left) in ("task.name", "config.task", "self.task.name")
    ]
    assert found == []


def test_tests_neither_sleep_nor_replace_internals_nor_make_tables_by_hand() -> None:
    forbidden = {"time.sleep", "monkeypatch.setattr", "mock.patch", "patch.object"}
    found = [
        place(path, node.lineno, ast.unparse(node.func))
        for path, node in nodes(TESTS)
        if isinstance(node, ast.Call)
        and (ast.unparse(node.func) in forbidden or "KeySchema" in {word.arg for word in node.keywords})
    ]
    assert found == []
    assert found_imports(sources(TESTS), {"mock", "unittest"}) == []


# what an import loads, in a fresh interpreter

HELP = "from receipt_layoutlm.cli import main\ntry: main()\nexcept SystemExit: pass"
HEAVY = {"torch", "transformers", "boto3", "pynamodb", "pydantic"}
LOADS = [
    ("import receipt_dynamo", {"torch", "transformers", "click", "receipt_layoutlm"}),
    ("import receipt_layoutlm.cli", HEAVY),
    ("import sys\nsys.argv[1:] = ['--help']\n" + HELP, HEAVY),
    ("import receipt_layoutlm.worker.worker", {"torch", "transformers"}),
    ("import receipt_layoutlm.config", {"torch", "transformers", "receipt_dynamo", "boto3"}),
    (
        "import receipt_layoutlm.data.snapshot, receipt_layoutlm.data.labels",
        {"torch", "transformers", "receipt_dynamo", "boto3"},
    ),
]


@pytest.mark.engine
@pytest.mark.parametrize(("code", "unwanted"), LOADS)
def test_an_import_loads_nothing_that_it_does_not_need(code: str, unwanted: set[str]) -> None:
    program = f"{code}\nimport sys\nprint('loaded:', *(set({sorted(unwanted)}) & sys.modules.keys()))"
    child = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert child.returncode == 0, child.stderr
    assert child.stdout.splitlines()[-1].split() == ["loaded:"]
