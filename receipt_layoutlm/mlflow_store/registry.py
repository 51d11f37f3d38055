"""The model registry that MLflow's server wants beside its tracking store: empty, and read-only."""

from mlflow.store.model_registry.abstract_store import AbstractStore

from receipt_layoutlm.mlflow_store.address import parse_address
from receipt_layoutlm.mlflow_store.refusals import read_only


@read_only(kept=())
class TableRegistry(AbstractStore):  # type: ignore[misc]
    """No registered models: the models of a table are those of its jobs."""

    def __init__(self, store_uri: str, tracking_uri: str | None = None) -> None:
        super().__init__(store_uri, tracking_uri)
        parse_address(store_uri)
