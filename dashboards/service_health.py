"""Does the service do its work: for operators, from Prometheus."""

from dashboards.parts import Json, dashboard, lines, panel, promql

CALLS = '{route=~"/assignments|/outcomes"}'
FROM_MEMORY = '{reason=~"STALE|DEFAULT"}'
RATE = "[$__rate_interval]"
STALE_VERIFY_S = 2 * 86_400.0


def _rate(name: str, by: str, where: str = "") -> str:
    return f"sum by ({by}) (rate(promptbandit_{name}{where}{RATE}))"


def _quantile(q: float) -> Json:
    buckets = _rate("request_seconds_bucket", "le, route", CALLS)
    return promql(f"histogram_quantile({q}, {buckets})", f"{{{{route}}}} p{100 * q:.0f}")


def _now(title: str, description: str, query: str, unit: str, *steps: tuple[str, float | None]) -> Json:
    """One number as it is now."""
    options = {"colorMode": "background", "reduceOptions": {"calcs": ["lastNotNull"]}, "textMode": "value"}
    return panel(
        "stat", title, description, [promql(query)], unit=unit, size=(4, 4), steps=steps, options=options
    )


def build() -> Json:
    """The dashboard."""
    panels = [
        _now(
            "Storage",
            "1 while every worker reaches its database. At 0 calls still get prompts, from memory.",
            "min(promptbandit_storage_up)",
            "bool_on_off",
            ("red", None),
            ("green", 1),
        ),
        _now(
            "From memory",
            "Share of assignments answered without the database, in the last minutes.",
            f"sum(rate(promptbandit_assignments_total{FROM_MEMORY}{RATE}))"
            f" / (sum(rate(promptbandit_assignments_total{RATE})) > 0)",
            "percentunit",
            ("green", None),
            ("yellow", 0.01),
            ("red", 0.05),
        ),
        _now(
            "Backlog",
            "Assignments that wait in memory to be recorded.",
            "sum(promptbandit_backlog)",
            "short",
            ("green", None),
            ("yellow", 1),
            ("red", 10_000),
        ),
        _now(
            "Dropped in a day",
            "Assignments that did not fit into the backlog. An outcome that tells its allocation brings its one back.",
            "sum(increase(promptbandit_assignments_dropped_total[1d]))",
            "short",
            ("green", None),
            ("red", 1),
        ),
        _now(
            "Counts verified",
            "1 if counts equalled outcomes when `promptbandit verify` looked last.",
            "min(promptbandit_verify_ok)",
            "bool_yes_no",
            ("red", None),
            ("green", 1),
        ),
        _now(
            "Verified ago",
            "Time since `promptbandit verify` looked last; it should run every night.",
            "time() - max(promptbandit_verify_timestamp_seconds)",
            "s",
            ("green", None),
            ("red", STALE_VERIFY_S),
        ),
        lines(
            "Requests per second",
            "By route. `unknown` are paths that no route takes.",
            promql(_rate("request_seconds_count", "route"), "{{route}}"),
            unit="reqps",
            min=0,
        ),
        lines(
            "Time to answer",
            "Half and 99 of 100 calls are answered faster. Agents give up after 0.3 s and use their own fallback.",
            _quantile(0.5),
            _quantile(0.99),
            unit="s",
            min=0,
            limit=0.3,
        ),
        lines(
            "Assignments by reason",
            "SPLIT: an experiment. STATIC: the active version. STALE and DEFAULT: answered from memory.",
            promql(_rate("assignments_total", "reason"), "{{reason}}"),
            unit="reqps",
            min=0,
        ),
        lines(
            "Outcomes by status",
            "rejected: never stored, the agent sends something wrong. parked: waits for its assignment.",
            promql(_rate("outcomes_total", "status"), "{{status}}"),
            unit="reqps",
            min=0,
        ),
        lines(
            "Backlog and storage",
            "How many assignments wait, and on which server the database does not answer.",
            promql("sum by (instance) (promptbandit_backlog)", "waiting {{instance}}"),
            promql("min by (instance) (promptbandit_storage_up)", "storage up {{instance}}"),
            min=0,
        ),
        lines(
            "Split",
            "Share of new calls per running experiment and variant.",
            promql("max by (experiment, variant) (promptbandit_split_share)", "{{experiment}} {{variant}}"),
            unit="percentunit",
            min=0,
            max=1,
        ),
        lines(
            "Age of the split",
            "How long each split has stood still; a fixed one does so for ever.",
            promql("max by (experiment) (promptbandit_allocation_age_seconds)", "{{experiment}}"),
            unit="s",
            min=0,
        ),
        lines(
            "Judged ago",
            "Time since each running experiment was judged last. It grows when no server and no cron reallocates.",
            promql(
                "time() - max by (experiment) (promptbandit_standing_timestamp_seconds)", "{{experiment}}"
            ),
            unit="s",
            min=0,
            limit=1_800.0,
        ),
        lines(
            "Missing outcomes",
            "Share of matured calls without an outcome of the goal.",
            promql("max by (experiment, variant) (promptbandit_missing_share)", "{{experiment}} {{variant}}"),
            unit="percentunit",
            min=0,
            max=1,
            limit=0.2,
        ),
        lines(
            "Sample ratio: evidence against the split",
            "Above 1 000 the calls did not arrive as they were split.",
            promql("max by (experiment) (promptbandit_sample_ratio_e_value)", "{{experiment}}"),
            custom={"scaleDistribution": {"type": "log", "log": 10}},
            limit=1_000.0,
        ),
    ]
    return dashboard(
        "promptbandit-health",
        "Service health",
        "Whether calls get their prompts in time, outcomes are stored, and experiments are judged.",
        panels,
        since="now-6h",
    )
