"""Write the dashboards as the JSON files that Grafana provisions: `python -m dashboards.build`."""

import json
from pathlib import Path

from dashboards import service_health, variant_comparison

FOLDER = Path(__file__).resolve().parent / "grafana"


def built() -> dict[str, str]:
    """The text of each file by its name."""
    found = {
        "variant-comparison.json": variant_comparison.build(),
        "service-health.json": service_health.build(),
    }
    return {name: json.dumps(value, indent=2, ensure_ascii=False) + "\n" for name, value in found.items()}


def main() -> None:
    """Write every file."""
    for name, text in built().items():
        (FOLDER / name).write_text(text)


if __name__ == "__main__":
    main()
