"""Bytes that the bucket keeps after a day of training, by the lifecycle rules of infra/storage.yaml.

    python bench/kept_bytes.py [--machines 20] [--checkpoints-an-hour 6]

A machine removes each checkpoint once the next is stored, and writes the piece of a log again every 15 s until it is
full. Both stay as old versions for the rule's days, counted from the next midnight UTC. The rule of the whole bucket is
what applied to runs before they had one of their own. Sizes are those of LayoutLM-base.
"""

import argparse

from receipt_layoutlm.infra import storage_template

CHECKPOINT_GB = 0.451 + 0.902  # weights and optimizer
LOG_GB_AN_HOUR = 2 * 240 * 0.128e-3  # two files, half of a piece of 256 KiB every 15 s
GB_MONTH_DOLLARS, MONTH_DAYS = 0.023, 30  # https://aws.amazon.com/s3/pricing/, us-east-1, as of 2025-06


def days_of_old_versions() -> dict[str, int]:
    """Days that old versions are kept, by the prefix of their rule."""
    template = storage_template()
    default = int(template["Parameters"]["NoncurrentDays"]["Default"])
    rules = template["Resources"]["Bucket"]["Properties"]["LifecycleConfiguration"]["Rules"]
    found = {}
    for rule in rules:
        if expiration := rule.get("NoncurrentVersionExpiration"):
            days = expiration["NoncurrentDays"]
            found[rule.get("Prefix", "")] = days if isinstance(days, int) else default
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--machines", type=int, default=20)
    parser.add_argument("--checkpoints-an-hour", type=float, default=6)
    options = parser.parse_args()
    hourly = options.checkpoints_an_hour * CHECKPOINT_GB + LOG_GB_AN_HOUR
    daily = hourly * 24 * options.machines
    days = days_of_old_versions()
    print(f"old versions of a training hour: {hourly:.2f} GB; of a day of {options.machines} machines: {daily:,.0f} GB")
    for name, kept in (("before: as the whole bucket", days[""]), ("after: as runs/", days["runs/"])):
        after = [f"{daily if kept >= day else 0:,.0f} GB" for day in (1, 2, 7, 30)]
        dollars = hourly * (kept + 0.5) / MONTH_DAYS * GB_MONTH_DOLLARS
        print(f"{name:28} {kept:2} days; kept 1, 2, 7 and 30 days later: {', '.join(after)}; {dollars:.4f} USD an hour")


if __name__ == "__main__":
    main()
