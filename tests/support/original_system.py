"""Items as the original system writes them, in botocore's spelling: maps, naive times, one metric value a row.

Of a receipt it keeps the image, lines and letters too, in the same partition.
"""

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


def receipt(image_id: str, receipt_id: int = 1) -> Raw:
    key = {"PK": {"S": f"IMAGE#{image_id}"}, "SK": {"S": f"RECEIPT#{receipt_id:05d}"}}
    corners = ("top_left", "top_right", "bottom_left", "bottom_right")
    return {
        **key,
        "GSI1PK": key["PK"],
        "GSI1SK": key["SK"],
        "GSI2PK": {"S": "RECEIPT"},
        "GSI2SK": {"S": f"IMAGE#{image_id}#RECEIPT#{receipt_id:05d}"},
        "GSI3PK": key["PK"],
        "GSI3SK": key["SK"],
        "TYPE": {"S": "RECEIPT"},
        "width": {"N": "800"},
        "height": {"N": "1600"},
        "timestamp_added": {"S": "2025-03-01T12:00:00"},
        "raw_s3_bucket": {"S": "scans"},
        "raw_s3_key": {"S": "a.png"},
        **{corner: _point(0.1, 0.9) for corner in corners},
        "sha256": {"NULL": True},
        "cdn_s3_bucket": {"NULL": True},
        "cdn_s3_key": {"NULL": True},
    }


def word(image_id: str, line_id: int, word_id: int, text: str, box: tuple[float, float, float, float]) -> Raw:
    """`box`: x, y (of the lower edge), width, height."""
    place = f"RECEIPT#00001#LINE#{line_id:05d}#WORD#{word_id:05d}"
    x, y, width, height = box
    return {
        "PK": {"S": f"IMAGE#{image_id}"},
        "SK": {"S": place},
        "GSI2PK": {"S": "RECEIPT"},
        "GSI2SK": {"S": f"IMAGE#{image_id}#{place}"},
        "GSI3PK": {"S": f"IMAGE#{image_id}"},
        "GSI3SK": {"S": place},
        "TYPE": {"S": "RECEIPT_WORD"},
        "text": {"S": text},
        "bounding_box": {
            "M": {name: _number(value) for name, value in zip(("x", "y", "width", "height"), box, strict=True)}
        },
        "top_left": _point(x, y + height),
        "top_right": _point(x + width, y + height),
        "bottom_left": _point(x, y),
        "bottom_right": _point(x + width, y),
        "angle_degrees": {"N": "0.000000000000000000"},
        "angle_radians": {"N": "0.000000000000000000"},
        "confidence": {"N": "0.50"},
        "extracted_data": {"NULL": True},
        "histogram": {"M": {text[:1]: {"N": "1"}}},
        "num_chars": {"N": str(len(text))},
    }


def letter(image_id: str, line_id: int, word_id: int, text: str) -> Raw:
    place = f"RECEIPT#00001#LINE#{line_id:05d}#WORD#{word_id:05d}#LETTER#00001"
    return {
        "PK": {"S": f"IMAGE#{image_id}"},
        "SK": {"S": place},
        "TYPE": {"S": "RECEIPT_LETTER"},
        "text": {"S": text},
        "confidence": {"N": "0.50"},
    }


def label(image_id: str, line_id: int, word_id: int, name: str, status: str = "VALID") -> Raw:
    place = f"RECEIPT#00001#LINE#{line_id:05d}#WORD#{word_id:05d}"
    return {
        "PK": {"S": f"IMAGE#{image_id}"},
        "SK": {"S": f"{place}#LABEL#{name}"},
        "GSI1PK": {"S": f"LABEL#{name}".ljust(40, "_")},
        "GSI1SK": {"S": f"IMAGE#{image_id}#{place}"},
        "GSI2PK": {"S": "RECEIPT"},
        "GSI2SK": {"S": f"IMAGE#{image_id}#{place}"},
        "GSI3PK": {"S": f"VALIDATION_STATUS#{status}"},
        "GSI3SK": {"S": f"IMAGE#{image_id}#{place}#LABEL#{name}"},
        "TYPE": {"S": "RECEIPT_WORD_LABEL"},
        "reasoning": {"S": "it looks like one"},
        "timestamp_added": {"S": "2025-03-01T12:00:00"},
        "validation_status": {"S": status},
        "label_consolidated_from": {"NULL": True},
        "label_proposed_by": {"NULL": True},
    }


def _point(x: float, y: float) -> Raw:
    return {"M": {"x": _number(x), "y": _number(y)}}


def _number(value: float) -> Raw:
    return {"N": f"{value:.20f}"}
