"""Rules that hold for every file, read from the syntax trees, and what importing a package loads."""

import ast
import functools
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
STORE, PRODUCT, TESTS = ROOT / "receipt_dynamo", ROOT / "receipt_layoutlm", ROOT / "tests"
ML = {"torch", "transformers", "seqeval", "safetensors"}
AWS = {"receipt_dynamo", "boto3", "botocore", "pynamodb"}

# names relative to the package; a name may be a module or a folder, and may not exist yet
TRAINING = tuple(
    "ahead augment augment_amounts augment_boxes augment_entities augment_epoch augment_lines augment_words "
    "best_metric calibration checkpoint checkpoint_compare checkpoint_writer class_weights comparability config data "
    "decoding encoded_files encoded_part encoded_place encoding entity_scores events field_match flops frozen_split "
    "hardware health heap jsonl_import labels losses manifest metrics packed_attention packed_tensors packing page "
    "precision predictions pretrained_place pretraining reading_order repeats run_dir run_record sampling splits team "
    "team_model team_start train_epoch train_evaluation train_loop train_optim train_parts train_record train_report "
    "train_setup train_state train_step train_work trainer weights word_report word_scores".split()
)
TRAINING_FOLDERS = ("importers", "tasks")
TORCH_FREE = tuple(
    "account_check account_quotas account_rights attempt attempt_end augment augment_amounts augment_boxes "
    "augment_entities augment_lines augment_words best_metric bundle calibration check_report checkpoint_history "
    "child class_weights comparability config continuation data dataset_check dataset_choice datasets decoding "
    "disk_watch draft encoded_place encoded_store entity_scores errors events existing_bucket existing_storage "
    "exits expiry field_match file_upload find_job finding fleet_costs fleet_deploy fleet_destroy fleet_metrics "
    "fleet_machine fleet_names fleet_parameters fleet_pause fleet_scale fleet_stack fleet_status fleet_storage flops "
    "folder_upload forgotten frozen_split hardware health heap heartbeat image_check image_size infra job_rows "
    "jsonl_import key_match label_check label_table labels line_split local_aws local_engines local_environment "
    "local_process local_start local_state manifest metrics mirror near_duplicates notice page page_selection "
    "patience plain_words plan predictions pretrained_place pretraining prices publish pull queue_work "
    "reading_order receipt_load receipt_snapshot receipts recorder redact request resume_point retention run_dir "
    "run_setup running_workers s3 sample sample_layouts sample_merchants sampling scaler scaler_lambda "
    "scaler_settings scaling scaling_group source_text splits spot stack_errors stack_events storage_errors "
    "storage_usage stored_predictions submit_check supervisor suspect_marks suspects systemd_notify "
    "table_snapshots team_start timeline total_match trust verify_resume watchdog weights weights_mirror why "
    "why_facts why_open word_report worker worker_snapshot workplace".split()
)

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


def modules(*names: str) -> list[Path]:
    return [path for name in names if (path := PRODUCT / f"{name}.py").exists()]


def test_the_run_store_knows_nothing_of_training_or_of_the_command_line() -> None:
    assert found_imports(sources(STORE), {"receipt_layoutlm", "click", "rich", "yaml"} | ML) == []


def test_training_knows_nothing_of_aws_or_of_the_command_line() -> None:
    paths = modules(*TRAINING) + sources(*(PRODUCT / name for name in TRAINING_FOLDERS))
    assert paths
    assert found_imports(paths, AWS | {"click"}) == []


def test_the_control_side_never_imports_torch_or_transformers() -> None:
    paths = modules(*TORCH_FREE, "cli") + sources(PRODUCT / "cli", PRODUCT / "importers")
    assert found_imports(paths, ML) == []


def nodes(*folders: Path, without: tuple[Path, ...] = ()) -> Iterator[tuple[Path, ast.AST]]:
    for path in sources(*folders):
        if path not in without:
            yield from ((path, node) for node in ast.walk(tree(path)))


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
    assert found <= {"receipt_layoutlm/worker.py"}


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
        "receipt_layoutlm/scaler_lambda.py",  # a Lambda is told in this way alone
        "receipt_layoutlm/trainer.py",  # torchrun says there which process of several it is
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
        if PRODUCT / "tasks" not in path.parents
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
    ("import receipt_layoutlm.worker", {"torch", "transformers"}),
    ("import receipt_layoutlm.config", {"torch", "transformers", "receipt_dynamo", "boto3"}),
    ("import receipt_layoutlm.data, receipt_layoutlm.labels", {"torch", "transformers", "receipt_dynamo", "boto3"}),
]


@pytest.mark.engine
@pytest.mark.parametrize(("code", "unwanted"), LOADS)
def test_an_import_loads_nothing_that_it_does_not_need(code: str, unwanted: set[str]) -> None:
    program = f"{code}\nimport sys\nprint('loaded:', *(set({sorted(unwanted)}) & sys.modules.keys()))"
    child = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert child.returncode == 0, child.stderr
    assert child.stdout.splitlines()[-1].split() == ["loaded:"]
