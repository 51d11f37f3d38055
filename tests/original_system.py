"""Items as the original system writes them, in botocore's spelling: maps, naive times, one metric value a row."""

from typing import Any

Raw = dict[str, Any]


def job(job_id: str, created_at: str = "2025-03-01T12:00:00.123456", status: str = "succeeded") -> Raw:
    return {
        "PK": {"S": f"JOB#{job_id}"},
        "SK": {"S": "JOB"},
        "GSI1PK": {"S": f"STATUS#{status}"},
        "GSI1SK": {"S": f"CREATED#{created_at}"},
        "GSI2PK": {"S": "USER#tyler"},
        "GSI2SK": {"S": f"CREATED#{created_at}"},
        "TYPE": {"S": "JOB"},
        "name": {"S": "layoutlm-a"},
        "description": {"S": ""},
        "created_at": {"S": created_at},
        "created_by": {"S": "tyler"},
        "status": {"S": status},
        "priority": {"S": "medium"},
        "estimated_duration": {"NULL": True},
        "job_config": {
            "M": {
                "learning_rate": {"N": "0.00006"},
                "epochs": {"N": "20"},
                "label_smoothing": {"NULL": True},
                "fp16": {"BOOL": True},
                "allowed_labels": {"L": [{"S": "DATE"}, {"S": "AMOUNT"}]},
                "merges": {"M": {"AMOUNT": {"L": [{"S": "TAX"}, {"S": "SUBTOTAL"}]}}},
            }
        },
        "tags": {"M": {"family": {"S": "receipts"}}},
        "storage": {"M": {"bucket": {"S": "models"}, "run_root_prefix": {"S": "runs/layoutlm-a/"}}},
        "results": {"M": {"best_f1": {"N": "0.91"}, "epochs": {"N": "14"}}},
    }


def status_change(job_id: str, status: str = "succeeded", at: str = "2025-03-01T13:00:00") -> Raw:
    return {
        "PK": {"S": f"JOB#{job_id}"},
        "SK": {"S": f"STATUS#{at}"},
        "GSI1PK": {"S": f"STATUS#{status}"},
        "GSI1SK": {"S": f"UPDATED#{at}"},
        "TYPE": {"S": "JOB_STATUS"},
        "status": {"S": status},
        "updated_at": {"S": at},
    }


def instance(instance_id: str, status: str = "succeeded") -> Raw:
    return {
        "PK": {"S": f"INSTANCE#{instance_id}"},
        "SK": {"S": "INSTANCE"},
        "GSI1PK": {"S": f"STATUS#{status}"},
        "GSI1SK": {"S": f"INSTANCE#{instance_id}"},
        "TYPE": {"S": "INSTANCE"},
        "status": {"S": status},
    }


def metric(job_id: str, name: str, value: Raw, at: str, *, step: int | None = None, epoch: int | None = None) -> Raw:
    row = {
        "PK": {"S": f"JOB#{job_id}"},
        "SK": {"S": f"METRIC#{name}#{at}"},
        "GSI1PK": {"S": f"METRIC#{name}"},
        "GSI1SK": {"S": at},
        "GSI2PK": {"S": f"METRIC#{name}"},
        "GSI2SK": {"S": f"JOB#{job_id}#{at}"},
        "TYPE": {"S": "JOB_METRIC"},
        "job_id": {"S": job_id},
        "metric_name": {"S": name},
        "timestamp": {"S": at},
        "value": value,
        "unit": {"S": "ratio"},
    }
    numbers = {"step": step, "epoch": epoch}
    return row | {key: {"N": str(number)} for key, number in numbers.items() if number is not None}


def log(job_id: str, message: str, at: str) -> Raw:
    return {
        "PK": {"S": f"JOB#{job_id}"},
        "SK": {"S": f"LOG#{at}"},
        "GSI1PK": {"S": "LOG"},
        "GSI1SK": {"S": f"JOB#{job_id}#{at}"},
        "TYPE": {"S": "JOB_LOG"},
        "job_id": {"S": job_id},
        "timestamp": {"S": at},
        "log_level": {"S": "INFO"},
        "message": {"S": message},
        "source": {"S": "receipt_layoutlm.trainer"},
        "exception": {"NULL": True},
    }
