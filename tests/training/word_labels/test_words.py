"""Word scores do not depend on batching, and become probabilities by label."""

from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest
import torch

from receipt_layoutlm.configs.word_labels import WordLabelsConfig
from receipt_layoutlm.training.setup import Run
from receipt_layoutlm.training.tasks.word_labels.inputs.packing import on_device, pack
from receipt_layoutlm.training.tasks.word_labels.layoutlm import word_logits
from receipt_layoutlm.training.tasks.word_labels.scoring.decoding import WordScores, confidences
from receipt_layoutlm.training.tasks.word_labels.scoring.words import WordModel, score_words
from tests.support.runs import nothing, prepared_run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    found = prepared_run(tmp_path_factory.mktemp("run"))
    assert len(found.task.encoded.validation.windows) > len(found.task.encoded.validation.pages)
    return found


def scored(run: Run, config: WordLabelsConfig, on_batch: Callable[[], None] = nothing) -> WordScores:
    names = [name for _, name in sorted(run.task.label_map.id2label.items())]
    model = WordModel(run.task.model, names)
    return score_words(model, run.task.encoded.validation, config, run.compute, on_batch)


@pytest.mark.parametrize("options", [{"eval_batch_size": 1}, {"eval_batch_size": 50}, {"tokens_per_batch": 40}])
def test_scores_do_not_depend_on_the_batches(run: Run, options: dict[str, int]) -> None:
    expected = scored(run, run.config)
    asked: list[None] = []
    found = scored(run, run.config.model_copy(update=options), lambda: asked.append(None))
    assert found.loss == pytest.approx(expected.loss, rel=1e-5)
    for one, another in zip(found.log_probs, expected.log_probs, strict=True):
        np.testing.assert_allclose(one, another, atol=1e-4)
    assert run.task.model.training


def test_each_word_has_the_scores_of_its_most_central_window(run: Run) -> None:
    found = scored(run, run.config).log_probs
    run.task.model.eval()
    for window in run.task.encoded.validation.windows:
        with torch.no_grad():
            logits = word_logits(run.task.model, on_device(pack([window], [window.scored]), run.compute.device))
        words = window.word_index[window.scored]
        np.testing.assert_allclose(found[window.page][words], logits.log_softmax(-1).numpy(), atol=1e-4)
    run.task.model.train()


def test_scoring_can_be_stopped_and_leaves_the_model_in_training(run: Run) -> None:
    def stop() -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError):
        scored(run, run.config, stop)
    assert run.task.model.training


def test_a_confidence_is_the_probability_of_a_label_whichever_of_its_two_tags() -> None:
    names = ["O", "B-DATE", "I-DATE"]
    page = np.log(np.array([[0.2, 0.5, 0.3], [0.7, 0.1, 0.2], [1 / 3] * 3], np.float32))
    found = confidences([page], [["I-DATE", "O", "-"]], names)[0]
    assert found[:2] == pytest.approx([0.8, 0.7])
    assert found[2] is None


def test_confidences_of_all_labels_add_up_to_one() -> None:
    names = ["O", "B-DATE", "I-DATE", "B-TAX", "I-TAX"]
    page = np.log(np.random.default_rng(1).dirichlet(np.ones(5), size=4)).astype(np.float32)
    total: Counter[int] = Counter()
    for tag in ("O", "B-DATE", "I-TAX"):
        for word, probability in enumerate(confidences([page], [[tag] * 4], names)[0]):
            assert probability is not None
            total[word] += probability
    assert list(total.values()) == pytest.approx([1.0] * 4)
