"""A LayoutLM that fits a test: two layers of 32, with a tokenizer made of the pages' own characters."""

from collections.abc import Sequence
from pathlib import Path

from receipt_layoutlm.data.page import Page

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def tiny_layoutlm(folder: Path, pages: Sequence[Page]) -> Path:
    """Write a model folder that `--pretrained FOLDER` takes; the same pages give the same weights."""
    import torch
    from transformers import BertTokenizerFast, LayoutLMConfig, LayoutLMForTokenClassification

    characters = sorted({character for page in pages for word in page.words for character in word.lower()})
    vocabulary = [*SPECIAL, *characters, *(f"##{character}" for character in characters)]
    config = LayoutLMConfig(
        vocab_size=len(vocabulary),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_2d_position_embeddings=1024,
    )
    BertTokenizerFast(vocab={token: number for number, token in enumerate(vocabulary)}).save_pretrained(folder)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        LayoutLMForTokenClassification(config).save_pretrained(folder)
    return folder


def tiny_pages(count: int) -> list[Page]:
    """Pages of one to three lines, each `TOTAL 7.50` or `DATE 1/2` with the value labelled; two groups."""
    return [_tiny_page(number) for number in range(count)]


def _tiny_page(number: int) -> Page:
    lines = [("total", f"{number % 7}.50", "B-GRAND_TOTAL"), ("date", f"{number % 9}/2", "B-DATE"), ("shop", "a", "O")]
    words = [word for line in lines[: 1 + number % 3] for word in line[:2]]
    tags = [tag for line in lines[: 1 + number % 3] for tag in ("O", line[2])]
    boxes = [(100 + 400 * (i % 2), 100 * (i // 2), 400 + 400 * (i % 2), 100 * (i // 2) + 60) for i in range(len(words))]
    return Page(f"page-{number:03}", f"group-{number % 2}", tuple(words), tuple(boxes), tuple(tags), 100, 200)
