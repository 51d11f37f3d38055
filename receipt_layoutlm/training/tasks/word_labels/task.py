"""The word-labels task: implementation of the training loop's task protocol."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import LayoutLMForTokenClassification, PreTrainedTokenizerFast

from receipt_layoutlm.config import TrainConfig
from receipt_layoutlm.configs.word_labels import INFERENCE, InferenceOptions, WordLabelsConfig
from receipt_layoutlm.data.check_report import Finding
from receipt_layoutlm.data.labels import LABEL_MAP, LabelMap, check_named
from receipt_layoutlm.data.snapshot import fingerprint
from receipt_layoutlm.data.tags import label_of
from receipt_layoutlm.run.class_weights import ClassWeights
from receipt_layoutlm.run.directory import RunDir
from receipt_layoutlm.run.events import Evaluation
from receipt_layoutlm.run.predictions import PredictedPage
from receipt_layoutlm.run.record import FinalScores
from receipt_layoutlm.run.scores import Scores
from receipt_layoutlm.training.task import Compute, SetupCallbacks, StepBatches, TaskDescription, Tensors
from receipt_layoutlm.training.tasks.cross_entropy import LossRule, token_loss
from receipt_layoutlm.training.tasks.pretrained import load_fast_tokenizer, with_local_weights
from receipt_layoutlm.training.tasks.word_labels.class_weights import weights_by_label
from receipt_layoutlm.training.tasks.word_labels.description import describe_run, unknown_words_text
from receipt_layoutlm.training.tasks.word_labels.evaluation import Predictions, predict
from receipt_layoutlm.training.tasks.word_labels.findings import findings
from receipt_layoutlm.training.tasks.word_labels.inputs.encoded import EncodedPages
from receipt_layoutlm.training.tasks.word_labels.inputs.epoch import (
    Epoch,
    EpochSource,
    micro_batches,
    plan_epoch,
    shard,
    workload_of,
)
from receipt_layoutlm.training.tasks.word_labels.inputs.packing import PackedTensors, on_device
from receipt_layoutlm.training.tasks.word_labels.layoutlm import check_fits, encoder_size, load_model, word_logits
from receipt_layoutlm.training.tasks.word_labels.pages import (
    EncodedSplits,
    PageEncoder,
    epoch_source,
    generated_pages,
    load_splits,
)
from receipt_layoutlm.training.tasks.word_labels.scoring.words import WordModel
from receipt_layoutlm.training.throughput import EncoderSize, StepWorkload

TEST_METRIC_NAME = "test_f1"


def prepare(run_dir: RunDir, config: TrainConfig, callbacks: SetupCallbacks) -> "WordLabels":
    """Read, split and encode the pages and load the model, on CPU.

    Raises DataError, LabelError, ConfigError, and ModelLoadError or WeightsError for weights that cannot be loaded.
    """
    assert isinstance(config, WordLabelsConfig)
    splits = load_splits(run_dir, config)
    label_map = splits.label_map
    check_named(config, label_map.labels)
    local = with_local_weights(config, run_dir)
    tokenizer = load_fast_tokenizer(local)
    encoder = PageEncoder(config, tokenizer, label_map, callbacks)
    encoded = encoder.splits(run_dir, splits)
    if unknown := unknown_words_text(encoded.train, tokenizer.unk_token_id, config.pretrained):
        callbacks.warn("unknown_words", unknown)
    generated = generated_pages(config, label_map)
    source = epoch_source(config, splits, encoded.train, generated, encoder, callbacks.on_example)
    callbacks.check_stop()
    loaded = load_model(local, label_map)
    check_fits(loaded.model.config, tokenizer, config)
    weights = weights_by_label(config, encoded.train, label_map)
    return WordLabels(
        config=config,
        model=loaded.model,
        fresh=loaded.fresh,
        # a different version of Faker generates different receipts
        fingerprints=[splits.fingerprint, splits.eval_fingerprint or "", *map(fingerprint, generated.values())],
        epochs=source.pretraining_epochs + config.epochs,
        steps_per_epoch=-(-source.windows // (config.batch_size * config.gradient_accumulation_steps)),
        has_test_set=bool(splits.test),
        description=describe_run(config, splits, encoded, weights),
        tokenizer=tokenizer,
        label_map=label_map,
        encoded=encoded,
        source=source,
        loss_rule=loss_rule(config, weights, label_map),
        size=encoder_size(loaded.model.config),
    )


@dataclass(frozen=True, slots=True)
class WordLabels:
    """LayoutLM fine-tuning on word labels; the members are documented in training/task.py."""

    config: WordLabelsConfig
    model: LayoutLMForTokenClassification
    fresh: frozenset[str]
    fingerprints: Sequence[str]
    epochs: int
    steps_per_epoch: int
    has_test_set: bool
    description: TaskDescription
    tokenizer: PreTrainedTokenizerFast
    label_map: LabelMap
    encoded: EncodedSplits
    source: EpochSource
    loss_rule: LossRule
    size: EncoderSize

    def epoch(self, number: int, on_example: Callable[[], None]) -> Epoch:
        return plan_epoch(self.config, self.source.pages(number, on_example), number, self.source.windows)

    def batches(self, epoch: Epoch, step: int, compute: Compute) -> StepBatches[PackedTensors]:
        windows = shard(compute.group, epoch.pages, epoch.steps[step])
        packed = micro_batches(self.config, epoch.pages, windows)
        weight = sum(self.loss_rule.weight_of(torch.from_numpy(batch.labels)) for batch in packed)
        return StepBatches([on_device(batch, compute.device) for batch in packed], weight)

    def loss(self, batch: PackedTensors, compute: Compute) -> torch.Tensor:
        with compute.autocast():
            logits = word_logits(self.model, batch)
        return token_loss(logits, batch.labels, self.loss_rule).total

    def workload(self, epoch: Epoch, step: int) -> StepWorkload:
        return workload_of(epoch.steps[step], epoch.pages, self.size)

    def example_ids(self, epoch: Epoch, step: int) -> tuple[str, ...]:
        pages = epoch.pages
        places = {pages.windows[sampled.window].page for sampled in epoch.steps[step]}
        return tuple(sorted(pages.pages[place].page_id for place in places))

    def validate(
        self, epoch: Epoch, compute: Compute, on_batch: Callable[[], None]
    ) -> tuple[Scores, list[PredictedPage]]:
        predictions = self._predict(self.encoded.validation, compute, on_batch)
        temperature = predictions.fitted_temperature()
        train = self._predict(self.encoded.train_sample, compute, on_batch)
        ratio = {} if epoch.o_entity_ratio is None else {"o_entity_ratio": epoch.o_entity_ratio}
        entities = predictions.entities
        scores = Scores(
            eval_loss=predictions.loss,
            scores={
                **predictions.scores(temperature),
                "temperature": temperature,
                "train_f1": train.entities.f1,
                **ratio,
            },
            breakdowns={"f1_by_decoding": dict(predictions.f1_by_decoding), "seen": dict(epoch.seen)},
            per_label=entities.per_label,
            confusion=entities.confusion,
            predicted_labels=entities.predicted_labels,
            collapsed=entities.collapsed,
            reliability=predictions.calibration(1.0).reliability,
        )
        return scores, list(predictions.rows())

    def test(
        self, best: Evaluation, compute: Compute, on_batch: Callable[[], None]
    ) -> tuple[FinalScores, list[PredictedPage]]:
        predictions = self._predict(self.encoded.test, compute, on_batch)
        named = predictions.scores(best.scores.get("temperature"))
        scores = FinalScores(
            global_step=best.global_step,
            metric_name=TEST_METRIC_NAME,
            metric_value=named.pop("f1"),
            loss=predictions.loss,
            pages=len(self.encoded.test.pages),
            per_label=predictions.entities.per_label,
            scores=named,
        )
        return scores, list(predictions.rows())

    def findings(self, history: Sequence[Evaluation]) -> list[Finding]:
        return findings(history, self.config, self.epochs - self.config.epochs)

    def save(self, folder: Path, weights: Tensors, latest: Evaluation | None) -> None:
        self.model.save_pretrained(folder, state_dict=weights)  # only the config is taken from the model itself
        self.tokenizer.save_pretrained(folder)
        (folder / LABEL_MAP).write_text(self.label_map.to_json())
        temperature = 1.0 if latest is None else latest.scores.get("temperature", 1.0)
        options = InferenceOptions.of(self.config, temperature)
        (folder / INFERENCE).write_text(options.model_dump_json(indent=1))

    def _predict(self, pages: EncodedPages, compute: Compute, on_batch: Callable[[], None]) -> Predictions:
        model = WordModel(self.model, self.label_map.names)
        return predict(model, pages, self.label_map.labels, self.config, compute, on_batch)


def loss_rule(config: WordLabelsConfig, weights: ClassWeights, label_map: LabelMap) -> LossRule:
    """The training loss; evaluation always uses plain cross-entropy."""
    table = None
    if not weights.is_plain:
        of_class = [weights.weights[label_of(tag)] for _, tag in sorted(label_map.id2label.items())]
        table = torch.tensor(of_class, dtype=torch.float32)
    return LossRule(config.label_smoothing, config.focal_gamma, table)
