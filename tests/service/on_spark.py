"""Studies by PySpark, in a process of its own: `python -m tests.service.on_spark UNITS.parquet LAKE`.

A Java machine and its sockets live as long as the process, so they do not belong into that of the tests.
"""

import json
import sys
from typing import Any

from pyspark.sql import SparkSession

from tests.service.same_numbers import IN_LAKE, IN_ORDER, brought_into_memory, told_on_spark

LOCAL = {
    "spark.ui.enabled": "false",
    "spark.driver.host": "127.0.0.1",
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.sql.shuffle.partitions": "1",
}


def main(file: str, lake: str) -> None:
    builder = SparkSession.builder.master("local[1]")
    for name, value in LOCAL.items():
        builder = builder.config(name, value)
    spark = builder.getOrCreate()
    spark.sparkContext.setLogLevel("ERROR")
    in_order = IN_ORDER.analyze(spark.read.parquet(file), in_order=True, ended=True)
    with brought_into_memory() as heights:
        names: dict[str, Any] = {"spark": spark, "lake": lake, "study": IN_LAKE}
        exec(told_on_spark(), names)
    rows = spark.read.parquet(lake).select("experiment").distinct().collect()
    found = {
        "units": in_order.to_dict(),
        "lake": names["found"].to_dict(),
        "heights": heights,
        "experiments": sorted(row.experiment for row in rows),
    }
    sys.stdout.write(json.dumps(found) + "\n")
    spark.stop()


if __name__ == "__main__":
    main(*sys.argv[1:])
