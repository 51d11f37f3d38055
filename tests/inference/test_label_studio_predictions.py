"""dataset export label-studio --model: the tasks propose what the model predicts, with its confidence."""

import json
from pathlib import Path

from receipt_dynamo import DynamoClient, utcnow
from receipt_layoutlm.datasets.snapshots import add_snapshot, describe_dataset
from receipt_layoutlm.storage.bucket import Bucket
from tests.support.commands import ok
from tests.support.tiny import tiny_pages


def test_tasks_propose_the_labels_and_confidences_of_a_model(cloud: DynamoClient, model: Path, tmp_path: Path) -> None:
    pages = list(tiny_pages(3))
    add_snapshot(cloud, Bucket("the-bucket"), describe_dataset("mine", pages, "a test", utcnow()), pages)
    (tmp_path / "page.jsonl").write_text(json.dumps({"words": pages[0].words, "boxes": pages[0].boxes}))
    (predicted,) = json.loads(ok("predict", "--model", str(model), str(tmp_path / "page.jsonl"), "--json"))["pages"]

    ok("dataset", "export", "label-studio", "mine", "--model", str(model), "--output", str(tmp_path / "out.json"))

    (proposal,) = json.loads((tmp_path / "out.json").read_text())[0]["predictions"]
    labels = {part["id"]: part["value"]["labels"] for part in proposal["result"] if part["type"] == "labels"}
    words = predicted["words"]
    assert labels == {f"w{number}": [word["label"]] for number, word in enumerate(words) if word["label"] != "O"}
    assert labels
    assert proposal["model_version"] == predicted["model"][:12]
    assert proposal["score"] == min(word["confidence"] for word in words)
