"""A study of a Parquet file by PySpark, in a process of its own: `python -m tests.service.on_spark FILE`.

A Java machine and its sockets live as long as the process, so they do not belong into that of the tests.
"""

import json
import sys

from pyspark.sql import SparkSession

from tests.service.same_numbers import IN_ORDER

LOCAL = {
    "spark.ui.enabled": "false",
    "spark.driver.host": "127.0.0.1",
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.sql.shuffle.partitions": "1",
}


def main(file: str) -> None:
    builder = SparkSession.builder.master("local[1]")
    for name, value in LOCAL.items():
        builder = builder.config(name, value)
    spark = builder.getOrCreate()
    spark.sparkContext.setLogLevel("ERROR")
    found = IN_ORDER.analyze(spark.read.parquet(file), in_order=True, ended=True)
    sys.stdout.write(json.dumps(found.to_dict()) + "\n")
    spark.stop()


if __name__ == "__main__":
    main(sys.argv[1])
